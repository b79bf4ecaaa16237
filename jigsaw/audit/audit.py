"""`jigsaw audit`: how far shortcuts alone get on a puzzle set, and which option closes those that get too far.

In: a built set. Out: per kind of puzzle (task, number of pieces, grid) and shortcut the exact rate and place accuracy
with intervals next to chance, which count sources. A shortcut is called a leak where its place accuracy is above chance
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

from jigsaw.audit.choices import SHORTCUTS as CHOICE_SHORTCUTS
from jigsaw.audit.choices import ChoiceSample, ChoiceShortcut, choice_sample
from jigsaw.audit.intervals import INTERVAL, IntervalSample, IntervalShortcut, interval_sample
from jigsaw.audit.intervals import SHORTCUTS as INTERVAL_SHORTCUTS
from jigsaw.audit.shortcuts import SHORTCUTS, Sample, Shortcut, remedy_of
from jigsaw.data import load_puzzles
from jigsaw.data.load import pieces_of, spread
from jigsaw.data.progress import progress_bar
from jigsaw.errors import JigsawError
from jigsaw.evaluation.intervals import Estimate, rate_interval
from jigsaw.evaluation.log import command_line
from jigsaw.evaluation.tables import heading, interval, rounded
from jigsaw.rewards import chance_exact, chance_place_accuracy, exact, place_accuracy
from jigsaw.rewards.answers import kind_of_row
from jigsaw.tasks import CHOICE, ORDER

TOLERANCE = 0.05
"""By how much place accuracy may be above chance before anybody need worry."""

MOST = 500
"""Most puzzles to use where no limit is given."""

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
    kinds: dict[tuple[Any, ...], list[tuple[Mapping[str, Any], Any]]] = defaultdict(list)
    with progress_bar("looking", len(chosen)) as bar:
        for number in chosen:
            row = puzzles[number]
            sample = sample_of(row, stored[number])
            grid = sample.pieces.grid if isinstance(sample, Sample) else None
            kinds[row["task"], row["num_pieces"], grid or ()].append((_about(row), sample))
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


def _about(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("answer", "answer_kind", "answer_args", "classes")}


def sample_of(row: Mapping[str, Any], stored: Mapping[str, Any]) -> Sample | ChoiceSample | IntervalSample:
    """A loaded row, and the same as it is stored, as the shortcuts see it.

    Raises:
        JigsawError: no shortcut is known for its kind of answer.
    """
    pieces = pieces_of(row)
    files = _stored_bytes(stored.get("images") or (), len(pieces.frames))
    if row["answer_kind"] == CHOICE:
        return choice_sample(row, pieces, files)
    if row["answer_kind"] == INTERVAL:
        return interval_sample(row)
    if row["answer_kind"] != ORDER:
        raise JigsawError(
            f"no shortcut is known for answers of kind {row['answer_kind']} (row {row['id']}); "
            "audit sets of orders, choices and intervals"
        )
    return Sample(answer=list(row["answer"]), source=row["source"]["path"], pieces=pieces, stored=files)


def _stored_bytes(images: Sequence[Mapping[str, Any]], pieces: int) -> list[int]:
    """The bytes of every piece's files, if the set is materialised as images."""
    each, left = divmod(len(images), pieces) if pieces else (0, 0)
    if not each or left:
        return []
    sizes = [len(image["bytes"]) for image in images]
    return [sum(sizes[start : start + each]) for start in range(0, len(sizes), each)]


def _group(kind: tuple[Any, ...], members: Sequence[tuple[Mapping[str, Any], Any]]) -> dict[str, Any]:
    task, pieces, grid = kind
    rows, samples = [row for row, _ in members], [sample for _, sample in members]
    is_order = isinstance(samples[0], Sample)
    shortcuts = next(known for sample, known in _SHORTCUTS.items() if isinstance(samples[0], sample))
    judge = _judged_order if is_order else _judged_value
    levels = [_order_levels(row, pieces) if is_order else _value_levels(row) for row in rows]
    names = ("exact", "place_accuracy")
    chance = {name: sum(level[at] for level in levels) / len(levels) for at, name in enumerate(names)}
    found = []
    if len(samples) >= FEWEST:
        tried = ((each, each.solve(samples)) for each in shortcuts)
        for shortcut, answers in tried:
            if answers:
                judged = [judge(answer, row) for answer, row in zip(answers, rows, strict=True)]
                found.append(_entry(shortcut, judged, samples, chance, task))
    return {
        "task": task,
        "num_pieces": pieces,
        "grid": list(grid) or None,
        "num_puzzles": len(samples),
        "num_sources": len({sample.source for sample in samples}),
        "chance": chance,
        "shortcuts": found,
    }


def _order_levels(row: Mapping[str, Any], pieces: int) -> tuple[float, float]:
    return chance_exact(pieces, row["classes"]), chance_place_accuracy(pieces, row["classes"])


def _judged_order(order: Any, row: Mapping[str, Any]) -> tuple[float, float]:
    return exact(order, row["answer"], row["classes"]), place_accuracy(order, row["answer"], row["classes"])


def _value_levels(row: Mapping[str, Any]) -> tuple[float, float]:
    kind = kind_of_row(row)
    return kind.luck(row["answer"]) or 0.0, kind.chance(row["answer"]) or 0.0


def _judged_value(value: Any, row: Mapping[str, Any]) -> tuple[float, float]:
    """Whether an answer that is no order counts as right, and its score, which stands for the place accuracy."""
    kind = kind_of_row(row)
    return float(kind.is_right(value, row["answer"])), kind.score(value, row["answer"])


_SHORTCUTS: Mapping[type, Sequence[Any]] = {
    Sample: SHORTCUTS,
    ChoiceSample: CHOICE_SHORTCUTS,
    IntervalSample: INTERVAL_SHORTCUTS,
}


def _entry(
    shortcut: Shortcut | ChoiceShortcut | IntervalShortcut,
    judged: Sequence[tuple[float, float]],
    samples: Sequence[Any],
    chance: Mapping[str, float],
    task: str,
) -> dict[str, Any]:
    """What a shortcut reached.

    Args:
        judged: per puzzle whether its answer is right, and its place accuracy.
        chance: levels of both.
    """
    sources = [sample.source for sample in samples]
    places = [place for _, place in judged]
    place, alone = rate_interval(places, sources), rate_interval(places, [str(at) for at in range(len(places))])
    leak = place.low > chance["place_accuracy"] + TOLERANCE
    here = not leak and alone.low > chance["place_accuracy"] + TOLERANCE
    return {
        "name": shortcut.name,
        "what": shortcut.what,
        "exact": asdict(rate_interval([right for right, _ in judged], sources)),
        "place_accuracy": asdict(place),
        "leak": leak,
        "here": here,
        "remedy": remedy_of(shortcut.leak, task) if leak or here else None,
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
