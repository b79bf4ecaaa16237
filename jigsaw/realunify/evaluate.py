"""`jigsaw realunify MODEL`: the parts of RealUnify that can be run, kept item by item.

In: a checkpoint, the folder of the authors' files, plug-ins and a judge. Out: a folder with `items.jsonl` (every
answer, written batch by batch; a second call asks the rest) and `realunify.json` with the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from jigsaw.data.progress import progress_bar
from jigsaw.errors import JigsawError
from jigsaw.evaluation.answers import Store, file_stamp, make_folder
from jigsaw.evaluation.generation import GREEDY, Generation, open_engine, require_greedy
from jigsaw.evaluation.log import command_line, to_json, versions
from jigsaw.files import write_whole
from jigsaw.models.load import require_checkpoint
from jigsaw.realunify.judge import Judge
from jigsaw.realunify.log import REALUNIFY_FILE, RealUnifyLog, summary
from jigsaw.realunify.parts import FILES, Record, Tools, read_items, run_part
from jigsaw.realunify.plugins import load_function


def evaluate_realunify(
    model: str,
    data_root: Path,
    *,
    out: Path,
    editor: str | None = None,
    generator: str | None = None,
    judge: str | None = None,
    judge_model: str = "judge",
    judge_timeout: float = 120.0,
    grid: tuple[int, int] = (3, 3),
    generation: Generation = GREEDY,
    limit: int | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> RealUnifyLog:
    """Run what can be run.

    Args:
        model: checkpoint folder or hub id.
        data_root: folder with `GEU_direct.json` and so on, or with those below `realunify/`.
        out: folder for what is listed above.
        editor, generator: plug-ins, see `plugins`.
        judge: address of an OpenAI-compatible endpoint, up to `/v1`.
        judge_model: name that it knows.
        judge_timeout: seconds for one reply.
        grid: rows and columns of Mental Reconstruction's pictures, for `GEU_jigsaw`.
        generation: engine, precision, batches and limit; greedy.
        limit: only so many items of each part.
        say: told what is missing, before anything runs.

    Raises:
        JigsawError: nothing can be run, or a tool fails; results so far are kept.
    """
    require_greedy(generation)
    require_checkpoint(model)
    root = data_root / "realunify" if (data_root / "realunify").is_dir() else data_root
    draw = load_function(generator, "--generator") if generator else None
    edit = load_function(editor, "--editor") if editor else None
    asked = Judge(judge, judge_model, timeout=judge_timeout) if judge else None
    needed = {"--editor": edit, "--generator": draw, "--judge": asked}
    parts, missing = _readable(root, {name for name, tool in needed.items() if tool is None}, limit)
    for part, why in missing.items():
        say(f"missing: {part}: {why}")
    if not parts:
        raise JigsawError(f"--data-root: {root} holds nothing of RealUnify that can be run")
    settings: dict[str, Any] = {"model": model, "model_stamp": file_stamp(Path(model)), **generation.settings()}
    settings |= {"editor": editor, "generator": generator, "grid": list(grid)}
    settings |= {"judge_model": judge_model if judge else None}
    make_folder(out)
    with Store(out / "items.jsonl", settings, _key) as store:
        try:
            opened = open_engine(model, generation)
            _ask(parts, store, Tools(opened, edit, draw, asked, grid, out / "pictures"), generation.batch_size)
        finally:
            found = {part: _records(store, part, items) for part, items in parts.items()}
            log = RealUnifyLog(
                argv=command_line(),
                versions=versions(),
                settings=settings,
                parts={part: summary(part, records) for part, records in found.items() if records},
                missing=missing,
            )
            write_whole(out / REALUNIFY_FILE, to_json(log))
    return log


def _key(record: Mapping[str, Any]) -> tuple[str, int]:
    return record["part"], record["at"]


def _records(store: Store, part: str, items: Sequence[Mapping[str, Any]]) -> list[Record]:
    """The answers to these items, as far as they are there."""
    return [dict(store[part, item["at"]]) for item in items if (part, item["at"]) in store]


_NEEDS = {"GEU_step": ("--editor",), "UEG_direct": ("--generator", "--judge"), "UEG_step": ("--generator", "--judge")}
"""Parts -> the tools that they cannot do without."""


def _readable(
    root: Path, absent: Collection[str], limit: int | None
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str]]:
    """The items of each part that can be run, and for the other parts why not.

    Args:
        root: folder of the authors' files.
        absent: options of the tools that were not given.
        limit: only so many items of each part.
    """
    parts: dict[str, list[dict[str, Any]]] = {}
    missing: dict[str, str] = {}
    for part in FILES:
        lacking = [name for name in _NEEDS.get(part, ()) if name in absent]
        try:
            if lacking:
                raise JigsawError(f"needs {' and '.join(lacking)}")
            parts[part] = read_items(root, part)[:limit]
        except JigsawError as error:
            missing[part] = str(error)
    return parts, missing


def _ask(parts: Mapping[str, Sequence[dict[str, Any]]], store: Store, tools: Tools, batch_size: int) -> None:
    """Run what has no answer yet, and keep the answers batch by batch."""
    for part, items in parts.items():
        left = [item for item in items if (part, item["at"]) not in store]
        with progress_bar(part, len(left)) as bar:
            for batch in run_part(part, left, tools, batch_size):
                store.add([{"part": part, **record} for record in batch])
                for _ in batch:
                    bar.advance()
