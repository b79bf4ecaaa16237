"""`jigsaw eval MODEL --suite realunify`: the parts of RealUnify that can be run, kept item by item.

In: a checkpoint, the folder of the authors' files, plug-ins and a judge. Out: a folder with `items.jsonl` (every
answer, written batch by batch; a second call asks the rest) and `realunify.json` with the figures.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jigsaw.data.progress import progress_bar
from jigsaw.errors import JigsawError
from jigsaw.evaluation.commands import option_words
from jigsaw.evaluation.completions import claim, file_stamp
from jigsaw.evaluation.generation import GREEDY, Generation, open_engine, require_greedy
from jigsaw.evaluation.intervals import rate_interval
from jigsaw.evaluation.paper import Cell, Origin, PaperTable, Row, cell_of
from jigsaw.evaluation.predictions import json_lines
from jigsaw.files import write_whole
from jigsaw.models.load import require_checkpoint
from jigsaw.realunify.judge import Judge
from jigsaw.realunify.parts import FILES, SHORT, Record, Tools, read_items, run_part
from jigsaw.realunify.plugins import load_function
from jigsaw.suites.suites import PUBLISHED_FILE, published

REALUNIFY_FILE = "realunify.json"
TABLES = {"direct": "realunify-direct", "step": "realunify-stepwise"}


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
) -> dict[str, Any]:
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

    Returns:
        What `realunify.json` holds.

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
    store = _Store(out, settings)
    words = ["jigsaw", "eval", model, "--suite", "realunify", "--data-root", str(data_root), "--out", str(out)]
    given: dict[str, Any] = {"editor": editor, "generator": generator, "judge": judge, "judge_model": judge_model}
    given |= {"judge_timeout": judge_timeout, "grid": f"{grid[0]}x{grid[1]}", "limit": limit}
    usual = {"judge_model": "judge", "judge_timeout": 120.0, "grid": "3x3"}
    words += option_words(asdict(generation) | given, asdict(GREEDY) | usual)
    try:
        opened = open_engine(model, generation)
        _ask(parts, store, Tools(opened, edit, draw, asked, grid, out / "pictures"), generation.batch_size)
    finally:
        found = {part: store.of(part, items) for part, items in parts.items()}
        figures = {
            "suite": "realunify",
            "settings": settings,
            "parts": {part: summary(part, records) for part, records in found.items() if records},
            "missing": missing,
            "folder": str(out),
            "command": shlex.join(words),
        }
        write_whole(out / REALUNIFY_FILE, json.dumps(figures, indent=2))
    return figures


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


def _ask(parts: Mapping[str, Sequence[dict[str, Any]]], store: _Store, tools: Tools, batch_size: int) -> None:
    """Run what has no answer yet, and keep the answers batch by batch."""
    for part, items in parts.items():
        left = [item for item in items if (part, item["at"]) not in store.found]
        with progress_bar(part, len(left)) as bar:
            for batch in run_part(part, left, tools, batch_size):
                store.add(part, batch)
                for _ in batch:
                    bar.advance()


def summary(part: str, records: Sequence[Record]) -> dict[str, Any]:
    """Per task and over all: percent right with its interval, and how many that is of; what nobody could judge."""
    found: dict[str, Any] = {}
    tasks = dict.fromkeys(record["task"] for record in records)
    for name in [*tasks, "all"]:
        own = [record for record in records if name in (record["task"], "all")]
        spread = rate_interval([float(record["right"]) for record in own], [str(record["at"]) for record in own])
        found[SHORT.get(name, "avg")] = {key: 100 * value for key, value in asdict(spread).items()} | {"of": len(own)}
    if part == "GEU_jigsaw":
        found["valid_orders"] = sum(record["order"] is not None for record in records)
    if part.startswith("UEG"):
        found["unjudged"] = sum(record["unjudged"] for record in records)
    else:
        found["unread"] = sum(record["letter"] is None for record in records)
    return found


class _Store:
    """Answers in `items.jsonl`, behind a line with the settings that they depend on."""

    def __init__(self, out: Path, settings: Mapping[str, Any]) -> None:
        claim(out)
        self._path = out / "items.jsonl"
        self.found: dict[tuple[str, int], Record] = {}
        if not self._path.is_file():
            write_whole(self._path, json.dumps({"settings": settings}) + "\n")
            return
        lines = list(json_lines(self._path.read_text(encoding="utf-8", errors="replace")))
        stored = lines[0].get("settings") if lines and lines[0] is not None else None
        if stored != json.loads(json.dumps(settings)):
            raise JigsawError(f"--out: {self._path} holds answers with other settings; name another folder")
        whole = [line for line in lines[1:] if line is not None]
        self.found = {(line["part"], line["at"]): dict(line) for line in whole}
        text = "".join(json.dumps(line) + "\n" for line in ({"settings": settings}, *whole))
        write_whole(self._path, text)  # without the half line that a kill leaves

    def add(self, part: str, records: Sequence[Record]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps({"part": part, **record}) + "\n" for record in records))
        self.found |= {(part, record["at"]): record for record in records}

    def of(self, part: str, items: Sequence[Mapping[str, Any]]) -> list[Record]:
        """The answers to these items, as far as they are there."""
        return [self.found[part, item["at"]] for item in items if (part, item["at"]) in self.found]


def realunify_table(folder: Path) -> PaperTable:
    """Ours, part by part, above the published figures; our own protocol is a row of its own."""
    path = folder / REALUNIFY_FILE
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise JigsawError(f"{path} cannot be read: name a folder that `jigsaw eval --suite realunify` wrote") from error
    columns = ["WK", "CR", "MR-I", "LR", "SR", "C2I", "UEG-avg", "MR-II", "MT", "AF", "CN", "GEU-avg"]
    rows: dict[str, dict[str, Cell]] = {}
    for part, found in stored["parts"].items():
        kind, _, way = part.partition("_")
        cells = rows.setdefault(f"{stored['settings']['model']}, {way}", {})
        for name, figure in found.items():
            if way == "jigsaw" and name == "avg":
                continue  # of one task alone: no average of the benchmark's
            column = f"{kind}-avg" if name == "avg" else name
            if column in columns and (
                cell := cell_of(figure, Origin(str(path), f"parts.{part}.{name}", stored["command"]))
            ):
                cells[column] = cell
    for way, table in TABLES.items():
        for one in published([table]):
            if one.benchmark in columns:
                origin = Origin(PUBLISHED_FILE.name, f"{table}/{one.model}", "")
                cells = rows.setdefault(f"{one.model}, {way} (published)", {})
                cells[one.benchmark] = Cell(one.score, None, None, origin)
    caption = "RealUnify, percent, 95% intervals; jigsaw: our own protocol, tiles put back in the model's order"
    return PaperTable(caption, columns, [Row(name, cells) for name, cells in rows.items()], digits=1)


def realunify_text(figures: Mapping[str, Any]) -> str:
    """The table in Markdown, below it what was missing and what nobody could judge."""
    from jigsaw.evaluation.paper import printed

    lines = [printed([realunify_table(Path(figures["folder"]))], "markdown")]
    lines += [f"missing: {part}: {why}" for part, why in figures["missing"].items()]
    for part, found in figures["parts"].items():
        of = found["avg"]["of"]
        if found.get("unjudged"):
            lines.append(
                f"{part}: the judge said neither yes nor no on {found['unjudged']} of {of}; they count as wrong"
            )
        if found.get("unread"):
            lines.append(f"{part}: {found['unread']} of {of} replies name no option; they count as wrong")
        if "valid_orders" in found:
            lines.append(
                f"{part}: {found['valid_orders']} of {of} orders were valid; others left the picture as it was"
            )
    return "\n".join(lines)
