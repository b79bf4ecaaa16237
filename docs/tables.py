"""Tables of model families and of tasks, for README.md, models.md and the reference; `generate.py` writes them.

In: `families.json` next to this file, which `benchmarks/families.py` writes, the families' source, and the tasks. Out:
Markdown.
"""

from __future__ import annotations

import inspect
import json
import textwrap
from ast import literal_eval
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

from jigsaw.models.families import MODEL_TYPES
from jigsaw.models.tiny import ALIASES, TinyArchitecture
from jigsaw.tasks import describe_task, task_names
from jigsaw.testing import FAMILY_PROPERTIES

HERE = Path(__file__).parent


def families_table() -> str:
    """Results of the contract of model families (`benchmarks/families.py`), with the reasons below the table."""
    results = json.loads((HERE / "families.json").read_text(encoding="utf-8"))
    names = get_args(TinyArchitecture)
    titles = [title for _, title, _ in families()]
    reasons: list[str] = []

    def cell(architecture: str, name: str) -> str:
        entry = results.get(architecture, {}).get(name)
        if entry is None:
            return "not tested"
        if entry["holds"]:
            return f"yes, {entry['detail']}"
        if entry["detail"] not in reasons:
            reasons.append(entry["detail"])
        return f"no ({reasons.index(entry['detail']) + 1})"

    lines = [f"| | {' | '.join(titles)} |", f"|---|{'---|' * len(titles)}"]
    lines += [f"| {name} | {' | '.join(cell(one, name) for one in names)} |" for name in FAMILY_PROPERTIES]
    entries = [entry for cells in results.values() for entry in cells.values()]
    packages = {f"{name} {number}" for entry in entries for name, number in entry["with"].items()}
    dates = sorted(entry["date"] for entry in entries)
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    short = [textwrap.shorten(cell_text(reason), 200, placeholder=" ...") for reason in reasons]
    lines += ["", *(f"({number}) {reason}  " for number, reason in enumerate(short, 1))]
    return "\n".join([*lines, f"Tested on {when} with {', '.join(sorted(packages))}.", ""])


SHOWN = {
    "several images": "images",
    "video": "video",
    "shared prompt": "shared prompt",
    "LoRA": "LoRA",
    "ZeRO-3": "ZeRO-3",
    "vLLM colocate agreement": "vLLM",
}
"""Properties of the short table -> their titles there."""


def models_table() -> str:
    """A line for each model family; the results in detail are in `families_table`."""
    results = json.loads((HERE / "families.json").read_text(encoding="utf-8"))
    equal = {"several images", "video", "shared prompt", "vLLM colocate agreement"}
    lines = [f"| family | {' | '.join(SHOWN.values())} |", f"|---|{'---|' * len(SHOWN)}"]
    for name, (_, title, _) in zip(get_args(TinyArchitecture), families(), strict=True):
        cells = []
        for own in SHOWN:
            entry = results.get(name, {}).get(own)
            good = "equal" if own in equal else "yes"
            cells.append("not tested" if entry is None else good if entry["holds"] else "no")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


SOURCES = {
    "image": "photo",
    "video": "video",
    "rgbd": "photo with depth map",
    "pair": "two photos",
    "video_pair": "two videos",
    "posed": "RGB-D frames with camera poses",
}


def tasks_table() -> str:
    """A line for each built-in task."""
    lines = ["| task | made from | what it asks |", "|---|---|---|"]
    for name in ordered_tasks():
        task = describe_task(name)
        lines.append(
            f"| `{name}` | {SOURCES.get(task['source_kind'], task['source_kind'])} | {cell_text(task['doc'])} |"
        )
    return "\n".join([*lines, ""])


def ordered_tasks() -> list[str]:
    """The paper's three tasks first."""
    paper = ("image", "video", "depth")
    return [*paper, *(name for name in task_names() if name not in paper)]


def families() -> Iterator[tuple[str, str, str]]:
    """Model type, name and description of every family, read from the source, since an import needs transformers."""
    for name in get_args(TinyArchitecture):
        model_type = ALIASES.get(name, name)
        module, _, kind = MODEL_TYPES[model_type].partition(":")
        family = package()[module.removeprefix("jigsaw.")][kind]
        yield model_type, literal_eval(str(family["title"].value)), " ".join(family.docstring.value.split())


def properties_table() -> str:
    """The tests of a model family."""
    lines = ["| property | test, and the number in the table |", "|---|---|"]
    return "\n".join(
        lines + [f"| {name} | {cell_text(inspect.getdoc(holds) or '')} |" for name, holds in FAMILY_PROPERTIES.items()]
    )


@cache
def package() -> Any:
    """The package `jigsaw`, read from its source without an import."""
    import griffe

    return griffe.load("jigsaw", search_paths=[HERE.parent], try_relative_path=False)


def cell_text(text: str) -> str:
    """A text in one line, for a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")
