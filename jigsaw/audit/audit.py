"""`jigsaw audit`: the scores of shortcuts on a puzzle set, and the options that prevent them.

In: a puzzle set. Out: an `Audit`: for each kind of puzzle (task, number of pieces, grid) and each shortcut `exact` and
`place_accuracy`, with intervals over sources, and chance. A shortcut is a leak if the interval of its place accuracy is
above chance by more than `TOLERANCE`. It is a leak *here* if only the interval over puzzles is: each puzzle is shuffled
independently, so this interval shows that the rule is above chance on these puzzles, but not on other sources.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table

from jigsaw.audit import choices, intervals, orders
from jigsaw.audit.shortcut import DEFAULT_REMEDIES, Shortcut
from jigsaw.data import load_puzzles
from jigsaw.data.loading.load import pieces_of, spread
from jigsaw.errors import JigsawError
from jigsaw.progress import progress_bar
from jigsaw.results.formatting import heading, interval, kind_in_words, rounded
from jigsaw.results.intervals import Estimate, rate_interval
from jigsaw.results.log_file import Log, Stored, command_line, versions
from jigsaw.rewards import chance_exact, chance_place_accuracy, exact, place_accuracy
from jigsaw.rewards.answers import kind_of_row
from jigsaw.tasks import CHOICE, ORDER, Pieces, task_named

COLUMNS = ("exact", "place_accuracy")

ADVICE = (
    "A model can learn a leak instead of looking at the picture; small models do so most. The option after the name of "
    "a leak prevents it (docs/guides/shortcuts.md)."
)

TOLERANCE = 0.05
"""Difference to chance in place accuracy that is not a leak."""

MOST = 500
"""Default maximum number of puzzles."""

FEWEST = 20
"""Minimum number of puzzles of a kind; fewer are too few for a result."""

KINDS: Mapping[str, tuple[Any, Sequence[Shortcut[Any]]]] = {
    ORDER: (orders.order_sample, orders.SHORTCUTS),
    CHOICE: (choices.choice_sample, choices.SHORTCUTS),
    "interval": (intervals.interval_sample, intervals.SHORTCUTS),
}
"""For each kind of answer a function from a row to a sample, and the shortcuts."""


@dataclass(frozen=True, kw_only=True)
class Finding(Stored):
    """The result of one shortcut on one kind of puzzle.

    Attributes:
        name: of the shortcut.
        what: what it reads.
        exact: share of puzzles that it solves.
        place_accuracy: for orders; for other answers their score.
        leak: whether it is above chance on any sources.
        here: whether it is above chance on these puzzles only, because there are too few sources.
        remedy: how to prevent the leak, if it is one.
    """

    name: str
    what: str
    exact: Estimate
    place_accuracy: Estimate
    leak: bool
    here: bool
    remedy: str | None


@dataclass(frozen=True, kw_only=True)
class AuditGroup(Stored):
    """One kind of puzzle: task, number of pieces and grid.

    Attributes:
        chance: mean chance level of `exact` and `place_accuracy`.
        findings: one per shortcut that applies; empty if there are fewer than `FEWEST` puzzles.
    """

    task: str
    answer_kind: str
    num_pieces: int
    grid: tuple[int, int] | None
    num_puzzles: int
    num_sources: int
    chance: dict[str, float]
    findings: list[Finding]

    def __str__(self) -> str:
        """`image, 3x3, 9 pieces`; `rotation, choice of 4`."""
        grid = f"{self.grid[0]}x{self.grid[1]}" if self.grid else ""
        return ", ".join(part for part in (self.task, grid, kind_in_words(self.answer_kind, self.num_pieces)) if part)


@dataclass(frozen=True, kw_only=True)
class Audit(Log):
    """The result of `jigsaw audit` on a puzzle set."""

    data: str
    num_puzzles: int
    groups: list[AuditGroup]

    @property
    def leaks(self) -> list[str]:
        """Names of the shortcuts that are leaks on any sources."""
        return self._names("leak")

    @property
    def here(self) -> list[str]:
        """Names of the shortcuts that are leaks on these puzzles only."""
        return self._names("here")

    def _names(self, mark: str) -> list[str]:
        findings = (finding for group in self.groups for finding in group.findings)
        return list(dict.fromkeys(finding.name for finding in findings if getattr(finding, mark)))


def audit_puzzles(data: Path, *, limit: int = MOST, source_root: Path | None = None, task: str | None = None) -> Audit:
    """Apply each shortcut to a puzzle set.

    Args:
        data: folder of a puzzle set.
        limit: maximum number of puzzles, evenly spread.
        source_root: where the sources are now, if they moved.
        task: spec of the task that built the set, if it is a plug-in.

    Raises:
        JigsawError: the set cannot be read, or there are no shortcuts for its kind of answer.
    """
    puzzles = load_puzzles(data, source_root, task=task)
    if not len(puzzles):
        raise JigsawError(f"{data} has no puzzles; build it again")
    chosen = spread(len(puzzles), limit)
    stored = puzzles.with_format(None)
    kinds: dict[tuple[str, str, int, tuple[int, ...]], list[tuple[Mapping[str, Any], Any]]] = defaultdict(list)
    with progress_bar("reading puzzles", len(chosen)) as bar:
        for number in chosen:
            row = puzzles[number]
            pieces = pieces_of(row)
            sample = _sample(row, pieces, stored[number].get("images") or ())
            grid = pieces.grid if row["answer_kind"] == ORDER else None
            answer = {name: row[name] for name in ("answer", "answer_kind", "answer_args", "classes")}
            kinds[row["task"], row["answer_kind"], row["num_pieces"], grid or ()].append((answer, sample))
            bar.advance()
    groups = [_group(*kind, kinds[kind]) for kind in sorted(kinds)]
    return Audit(argv=command_line(), versions=versions(), data=str(data), num_puzzles=len(chosen), groups=groups)


def _sample(row: Mapping[str, Any], pieces: Pieces, images: Sequence[Mapping[str, Any]]) -> Any:
    """The sample of a loaded row for the shortcuts of its kind of answer; `images` are those of the stored row."""
    if row["answer_kind"] not in KINDS:
        raise JigsawError(
            f"there are no shortcuts for answers of kind {row['answer_kind']} (row {row['id']}); "
            f"audit sets of {', '.join(f'{kind}s' for kind in KINDS)}"
        )
    make, _ = KINDS[row["answer_kind"]]
    return make(row, pieces, _stored_bytes(images, len(pieces.frames)))


def _stored_bytes(images: Sequence[Mapping[str, Any]], pieces: int) -> list[int]:
    """The number of bytes of each piece's files, if the set has materialised images."""
    if not images or not pieces or len(images) % pieces:
        return []
    sizes: list[int] = np.reshape([len(image["bytes"]) for image in images], (pieces, -1)).sum(axis=1).tolist()
    return sizes


def _group(
    task: str, kind: str, pieces: int, grid: tuple[int, ...], members: Sequence[tuple[Mapping[str, Any], Any]]
) -> AuditGroup:
    rows, samples = [row for row, _ in members], [sample for _, sample in members]
    sources = [sample.source for sample in samples]
    levels = [_levels(row, pieces) for row in rows]
    chance = {name: sum(level[at] for level in levels) / len(levels) for at, name in enumerate(COLUMNS)}
    findings = []
    for shortcut in KINDS[kind][1] if len(samples) >= FEWEST else ():
        answers = shortcut.solve(samples)
        if answers:
            judged = [_judged(answer, row) for answer, row in zip(answers, rows, strict=True)]
            findings.append(_finding(shortcut, judged, sources, chance["place_accuracy"], task))
    return AuditGroup(
        task=task,
        answer_kind=kind,
        num_pieces=pieces,
        grid=(grid[0], grid[1]) if grid else None,
        num_puzzles=len(samples),
        num_sources=len(set(sources)),
        chance=chance,
        findings=findings,
    )


def _levels(row: Mapping[str, Any], pieces: int) -> tuple[float, float]:
    """The chance levels of `exact` and of place accuracy."""
    if row["answer_kind"] == ORDER:
        return chance_exact(pieces, row["classes"]), chance_place_accuracy(pieces, row["classes"])
    kind = kind_of_row(row)
    return kind.luck(row["answer"]) or 0.0, kind.chance(row["answer"]) or 0.0


def _judged(answer: Any, row: Mapping[str, Any]) -> tuple[float, float]:
    """Whether an answer is right, and its place accuracy; for other answers than orders its score."""
    if row["answer_kind"] == ORDER:
        return exact(answer, row["answer"], row["classes"]), place_accuracy(answer, row["answer"], row["classes"])
    kind = kind_of_row(row)
    return float(kind.is_right(answer, row["answer"])), kind.score(answer, row["answer"])


def _finding(
    shortcut: Shortcut[Any], judged: Sequence[tuple[float, float]], sources: Sequence[str], chance: float, task: str
) -> Finding:
    places = [place for _, place in judged]
    place = rate_interval(places, sources)
    over_puzzles = rate_interval(places, [str(number) for number in range(len(places))])
    leak = place.low > chance + TOLERANCE
    here = not leak and over_puzzles.low > chance + TOLERANCE
    remedies = {**DEFAULT_REMEDIES, **task_named(task).REMEDIES}
    return Finding(
        name=shortcut.name,
        what=shortcut.what,
        exact=rate_interval([right for right, _ in judged], sources),
        place_accuracy=place,
        leak=leak,
        here=here,
        remedy=remedies[shortcut.leak] if leak or here else None,
    )


def audit_tables(audit: Audit) -> Group:
    """A table per kind of puzzle, and the option that prevents each leak."""
    parts = [part for group in audit.groups for part in _parts(group)]
    if audit.leaks or audit.here:
        parts.append(ADVICE)
    elif any(group.findings for group in audit.groups):
        parts.append("no shortcut is above chance")
    return Group(*parts, f"written by {audit.command}")


def _parts(group: AuditGroup) -> list[Any]:
    table = Table(title=f"{group}: {group.num_puzzles} puzzles from {group.num_sources} sources")
    for name in ("shortcut", *COLUMNS, ""):
        table.add_column(heading(name), justify="right" if name in COLUMNS else "left")
    table.add_row("chance", *(rounded(group.chance[name], 3) for name in COLUMNS), "")
    for finding in group.findings:
        mark = "leak" if finding.leak else "leak here" if finding.here else ""
        table.add_row(finding.name, interval(finding.exact), interval(finding.place_accuracy), mark)
    parts: list[Any] = [table]
    if not group.findings:
        parts.append(f"too few puzzles of this kind: {group.num_puzzles}; at least {FEWEST} are needed")
    parts += [f"{finding.name}: {finding.remedy}" for finding in group.findings if finding.remedy]
    if any(finding.here for finding in group.findings):
        parts.append(
            f"leak here: above chance on these puzzles; {group.num_sources} sources are too few to say so of others"
        )
    return parts
