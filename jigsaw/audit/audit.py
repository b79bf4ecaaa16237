"""`jigsaw audit`: how far shortcuts alone get on a puzzle set, and which option closes those that get too far.

In: a built set. Out: per kind of puzzle (task, number of pieces, grid) and shortcut the exact rate and place accuracy
with intervals beside chance, which count sources. A shortcut is called a leak where its place accuracy is above chance
by more than `TOLERANCE`, beyond its interval. It is called a leak *here* where that holds of these puzzles alone: every
puzzle is shuffled by itself, so that a rule at chance is right independently on each of them, and an interval over
puzzles tells that it is not at chance; only what it would reach on other sources is open.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table

from jigsaw.audit.shortcuts import SHORTCUTS, Sample, Shortcut
from jigsaw.data import load_puzzles
from jigsaw.data.load import pieces_of, spread
from jigsaw.data.progress import progress_bar
from jigsaw.errors import JigsawError
from jigsaw.evaluation.intervals import Estimate, rate_interval
from jigsaw.evaluation.log import command_line
from jigsaw.evaluation.tables import heading, interval, rounded
from jigsaw.rewards import chance_exact, chance_place_accuracy, exact, place_accuracy

TOLERANCE = 0.05
"""By how much place accuracy may be above chance before anybody need worry."""

MOST = 500
"""Puzzles that are looked at where no limit is given."""

FEWEST = 20
"""Below this many puzzles of a kind nothing can be said of them."""


WORRY = (
    "A leak shows what a model can learn instead of looking. It matters most for small models; the option behind each "
    "name closes it (docs/guides/shortcuts.md)."
)


def audit_puzzles(
    data: Path, *, limit: int = MOST, source_root: Path | None = None, task: str | None = None
) -> dict[str, Any]:
    """Try every shortcut on a puzzle set.

    Args:
        data: folder of a puzzle set.
        limit: only so many puzzles, evenly spread.
        source_root: where the sources are now, if they moved.
        task: spec of the plug-in task that built the set.

    Returns:
        `puzzles`, `groups` (one per kind: `task`, `num_pieces`, `grid`, `num_puzzles`, `num_sources`, `chance`, and
        `shortcuts` with `name`, `what`, `exact`, `place_accuracy`, `leak`, `here` and `remedy`), `leaks` and `here`
        (the names), `command`.

    Raises:
        JigsawError: the set cannot be read.
    """
    puzzles = load_puzzles(data, source_root, task=task)
    if not len(puzzles):
        raise JigsawError(f"{data} holds no puzzles; build it again")
    chosen = spread(len(puzzles), limit)
    stored = puzzles.with_format(None)
    kinds: dict[tuple[Any, ...], list[tuple[Mapping[str, Any], Sample]]] = defaultdict(list)
    with progress_bar("looking", len(chosen)) as bar:
        for number in chosen:
            row = puzzles[number]
            sample = sample_of(row, stored[number])
            kind = (row["task"], len(sample.answer), sample.pieces.grid or ())
            kinds[kind].append(({"classes": row["classes"]}, sample))
            bar.advance()
    groups = [_group(kind, [*members]) for kind, members in sorted(kinds.items())]
    named = {
        mark: [found["name"] for group in groups for found in group["shortcuts"] if found[mark]]
        for mark in ("leak", "here")
    }
    return {
        "data": str(data),
        "puzzles": len(chosen),
        "groups": groups,
        "leaks": list(dict.fromkeys(named["leak"])),
        "here": list(dict.fromkeys(named["here"])),
        "command": shlex.join(command_line()),
    }


def sample_of(row: Mapping[str, Any], stored: Mapping[str, Any]) -> Sample:
    """A loaded row, and the same as it is stored, as the shortcuts see it."""
    pieces = pieces_of(row)
    count = len(pieces.frames)
    return Sample(
        answer=list(row["answer"]),
        source=row["source"]["path"],
        pieces=pieces,
        stored=_stored_bytes(stored.get("images") or (), count),
    )


def _stored_bytes(images: Sequence[Mapping[str, Any]], pieces: int) -> list[int]:
    """The bytes of every piece's files, if the set is materialised as images."""
    each, left = divmod(len(images), pieces) if pieces else (0, 0)
    if not each or left:
        return []
    sizes = [len(image["bytes"]) for image in images]
    return [sum(sizes[start : start + each]) for start in range(0, len(sizes), each)]


def _group(kind: tuple[Any, ...], members: Sequence[tuple[Mapping[str, Any], Sample]]) -> dict[str, Any]:
    task, pieces, grid = kind
    samples = [sample for _, sample in members]
    classes = [row["classes"] for row, _ in members]
    chance = {
        "exact": sum(chance_exact(pieces, own) for own in classes) / len(classes),
        "place_accuracy": sum(chance_place_accuracy(pieces, own) for own in classes) / len(classes),
    }
    found = []
    if len(samples) >= FEWEST:
        tried = ((shortcut, shortcut.solve(samples)) for shortcut in SHORTCUTS)
        found = [_entry(shortcut, orders, samples, classes, chance, task) for shortcut, orders in tried if orders]
    return {
        "task": task,
        "num_pieces": pieces,
        "grid": list(grid) or None,
        "num_puzzles": len(samples),
        "num_sources": len({sample.source for sample in samples}),
        "chance": chance,
        "shortcuts": found,
    }


def _entry(
    shortcut: Shortcut,
    orders: Sequence[Sequence[int]],
    samples: Sequence[Sample],
    classes: Sequence[Sequence[int] | None],
    chance: Mapping[str, float],
    task: str,
) -> dict[str, Any]:
    sources = [sample.source for sample in samples]
    judged = list(zip(orders, [sample.answer for sample in samples], classes, strict=True))
    places = [place_accuracy(*each) for each in judged]
    place, alone = rate_interval(places, sources), rate_interval(places, [str(at) for at in range(len(places))])
    leak = place.low > chance["place_accuracy"] + TOLERANCE
    here = not leak and alone.low > chance["place_accuracy"] + TOLERANCE
    return {
        "name": shortcut.name,
        "what": shortcut.what,
        "exact": asdict(rate_interval([exact(*each) for each in judged], sources)),
        "place_accuracy": asdict(place),
        "leak": leak,
        "here": here,
        "remedy": shortcut.remedy(task) if leak or here else None,
    }


def audit_tables(report: Mapping[str, Any]) -> Group:
    """An audit as tables, one per kind of puzzle, and what to do about each leak."""
    parts: list[Any] = []
    for group in report["groups"]:
        grid = f", {group['grid'][0]}x{group['grid'][1]}" if group["grid"] else ""
        title = f"{group['task']}{grid}, {group['num_pieces']} pieces: {group['num_puzzles']} puzzles"
        table = Table(title=f"{title} from {group['num_sources']} sources")
        for name in ("shortcut", "exact", "place_accuracy", ""):
            table.add_column(heading(name), justify="right" if name in ("exact", "place_accuracy") else "left")
        table.add_row("chance", *(rounded(group["chance"][name], 3) for name in ("exact", "place_accuracy")), "")
        for found in group["shortcuts"]:
            mark = "leak" if found["leak"] else "leak here" if found["here"] else ""
            cells = (interval(Estimate(**found[name])) for name in ("exact", "place_accuracy"))
            table.add_row(found["name"], *cells, mark)
        parts.append(table)
        if not group["shortcuts"]:
            parts.append(f"{group['num_puzzles']} puzzles of a kind tell nothing; {FEWEST} are needed")
        parts += [f"{found['name']}: {found['remedy']}" for found in group["shortcuts"] if found["remedy"]]
        if any(found["here"] for found in group["shortcuts"]):
            few = f"the sources are too few ({group['num_sources']}) to speak of others"
            parts.append(f"here: clear of chance on these puzzles; {few}")
    if not report["leaks"] and not report["here"] and any(group["shortcuts"] for group in report["groups"]):
        parts.append("no shortcut is clear of chance")
    if report["leaks"] or report["here"]:
        parts.append(WORRY)
    return Group(*parts, f"made by {report['command']}")
