"""`jigsaw audit`: how far shortcuts alone get on a puzzle set, and which option closes those that get too far.

In: a built set. Out: an `Audit`: per kind of puzzle (task, number of pieces, grid) and shortcut the exact rate and
place accuracy with intervals next to chance, which count sources. A shortcut is called a leak where its place accuracy
is above chance by more than `TOLERANCE`, beyond its interval. It is called a leak *here* where that holds of these
puzzles alone: every puzzle is shuffled by itself, so that a rule at chance is right independently on each of them, and
an interval over puzzles tells that it is not at chance; only what it would reach on other sources is open.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table

from jigsaw.audit import choices, intervals, orders
from jigsaw.audit.shortcut import Shortcut, remedy_of
from jigsaw.data import load_puzzles
from jigsaw.data.loading.load import pieces_of, spread
from jigsaw.errors import JigsawError
from jigsaw.progress import progress_bar
from jigsaw.results.formatting import heading, interval, kind_in_words, rounded
from jigsaw.results.intervals import Estimate, rate_interval
from jigsaw.results.log_file import Log, Stored, command_line, versions
from jigsaw.rewards import chance_exact, chance_place_accuracy, exact, place_accuracy
from jigsaw.rewards.answers import kind_of_row
from jigsaw.tasks import CHOICE, ORDER

COLUMNS = ("exact", "place_accuracy")

WORRY = (
    "A leak shows what a model can learn instead of looking. It matters most for small models; the option behind each "
    "name closes it (docs/guides/shortcuts.md)."
)

TOLERANCE = 0.05
"""By how much place accuracy may be above chance before anybody need worry."""

MOST = 500
"""Most puzzles to use where no limit is given."""

FEWEST = 20
"""Below this many puzzles of a kind nothing can be said of them."""

KINDS: Mapping[str, tuple[Any, Sequence[Shortcut[Any]]]] = {
    ORDER: (orders.order_sample, orders.SHORTCUTS),
    CHOICE: (choices.choice_sample, choices.SHORTCUTS),
    "interval": (intervals.interval_sample, intervals.SHORTCUTS),
}
"""For each kind of answer how the shortcuts see a row, and the shortcuts."""


@dataclass(frozen=True, kw_only=True)
class Finding(Stored):
    """How far one shortcut gets on one kind of puzzle.

    Attributes:
        name, what: the shortcut, and what it reads.
        exact: share of puzzles that it solves.
        place_accuracy: of orders; of other answers their score.
        leak: it is clear of chance, whatever the sources.
        here: it is clear of chance on these puzzles, of too few sources to speak of others.
        remedy: what closes it, if it is a leak.
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
        chance: mean level of random answers in `exact` and `place_accuracy`.
        findings: one per shortcut that applies; empty where the puzzles are fewer than `FEWEST`.
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
    """What `jigsaw audit` found on a puzzle set."""

    data: str
    num_puzzles: int
    groups: list[AuditGroup]

    @property
    def leaks(self) -> list[str]:
        """Names of the shortcuts that are leaks, whatever the sources."""
        return self._names("leak")

    @property
    def here(self) -> list[str]:
        """Names of those that are leaks on these puzzles alone."""
        return self._names("here")

    def _names(self, mark: str) -> list[str]:
        found = (found for group in self.groups for found in group.findings)
        return list(dict.fromkeys(each.name for each in found if getattr(each, mark)))


def audit_puzzles(data: Path, *, limit: int = MOST, source_root: Path | None = None, task: str | None = None) -> Audit:
    """Try every shortcut on a puzzle set.

    Args:
        data: folder of a puzzle set.
        limit: maximum number of puzzles, evenly spread.
        source_root: where the sources are now, if they moved.
        task: spec of the plug-in task that built the set.

    Raises:
        JigsawError: the set cannot be read, or no shortcut is known for its kind of answer.
    """
    puzzles = load_puzzles(data, source_root, task=task)
    if not len(puzzles):
        raise JigsawError(f"{data} holds no puzzles; build it again")
    chosen = spread(len(puzzles), limit)
    stored = puzzles.with_format(None)
    kinds: dict[tuple[str, str, int, tuple[int, ...]], list[tuple[Mapping[str, Any], Any]]] = defaultdict(list)
    with progress_bar("looking", len(chosen)) as bar:
        for number in chosen:
            row = puzzles[number]
            pieces = pieces_of(row)
            sample = sample_of(row, stored[number])
            grid = pieces.grid if row["answer_kind"] == ORDER else None
            about = {name: row[name] for name in ("answer", "answer_kind", "answer_args", "classes")}
            kinds[row["task"], row["answer_kind"], row["num_pieces"], grid or ()].append((about, sample))
            bar.advance()
    groups = [_group(*kind, kinds[kind]) for kind in sorted(kinds)]
    return Audit(argv=command_line(), versions=versions(), data=str(data), num_puzzles=len(chosen), groups=groups)


def sample_of(row: Mapping[str, Any], stored: Mapping[str, Any]) -> Any:
    """A loaded row, and the same as it is stored, as the shortcuts of its kind of answer see it.

    Raises:
        JigsawError: no shortcut is known for its kind of answer.
    """
    if row["answer_kind"] not in KINDS:
        raise JigsawError(
            f"no shortcut is known for answers of kind {row['answer_kind']} (row {row['id']}); "
            f"audit sets of {', '.join(f'{kind}s' for kind in KINDS)}"
        )
    pieces = pieces_of(row)
    make, _ = KINDS[row["answer_kind"]]
    return make(row, pieces, _stored_bytes(stored.get("images") or (), len(pieces.frames)))


def _stored_bytes(images: Sequence[Mapping[str, Any]], pieces: int) -> list[int]:
    """The bytes of every piece's files, if the set is materialised as images."""
    each, left = divmod(len(images), pieces) if pieces else (0, 0)
    if not each or left:
        return []
    sizes = [len(image["bytes"]) for image in images]
    return [sum(sizes[start : start + each]) for start in range(0, len(sizes), each)]


def _group(
    task: str, kind: str, pieces: int, grid: tuple[int, ...], members: Sequence[tuple[Mapping[str, Any], Any]]
) -> AuditGroup:
    rows, samples = [row for row, _ in members], [sample for _, sample in members]
    sources = [sample.source for sample in samples]
    levels = [_levels(row, pieces) for row in rows]
    chance = {
        name: sum(level[at] for level in levels) / len(levels) for at, name in enumerate(("exact", "place_accuracy"))
    }
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
    """What random answers reach in `exact` and in place accuracy."""
    if row["answer_kind"] == ORDER:
        return chance_exact(pieces, row["classes"]), chance_place_accuracy(pieces, row["classes"])
    kind = kind_of_row(row)
    return kind.luck(row["answer"]) or 0.0, kind.chance(row["answer"]) or 0.0


def _judged(answer: Any, row: Mapping[str, Any]) -> tuple[float, float]:
    """Whether an answer is right, and its place accuracy, or its score where it is no order."""
    if row["answer_kind"] == ORDER:
        return exact(answer, row["answer"], row["classes"]), place_accuracy(answer, row["answer"], row["classes"])
    kind = kind_of_row(row)
    return float(kind.is_right(answer, row["answer"])), kind.score(answer, row["answer"])


def _finding(
    shortcut: Shortcut[Any], judged: Sequence[tuple[float, float]], sources: Sequence[str], chance: float, task: str
) -> Finding:
    places = [place for _, place in judged]
    place, alone = rate_interval(places, sources), rate_interval(places, [str(at) for at in range(len(places))])
    leak = place.low > chance + TOLERANCE
    here = not leak and alone.low > chance + TOLERANCE
    return Finding(
        name=shortcut.name,
        what=shortcut.what,
        exact=rate_interval([right for right, _ in judged], sources),
        place_accuracy=place,
        leak=leak,
        here=here,
        remedy=remedy_of(shortcut.leak, task) if leak or here else None,
    )


def audit_tables(audit: Audit) -> Group:
    """A table per kind of puzzle, and what to do about each leak."""
    parts = [part for group in audit.groups for part in _parts(group)]
    if audit.leaks or audit.here:
        parts.append(WORRY)
    elif any(group.findings for group in audit.groups):
        parts.append("no shortcut is clear of chance")
    return Group(*parts, f"made by {audit.command}")


def _parts(group: AuditGroup) -> list[Any]:
    table = Table(title=f"{group}: {group.num_puzzles} puzzles from {group.num_sources} sources")
    for name in ("shortcut", *COLUMNS, ""):
        table.add_column(heading(name), justify="right" if name in COLUMNS else "left")
    table.add_row("chance", *(rounded(group.chance[name], 3) for name in COLUMNS), "")
    for found in group.findings:
        mark = "leak" if found.leak else "leak here" if found.here else ""
        table.add_row(found.name, interval(found.exact), interval(found.place_accuracy), mark)
    parts: list[Any] = [table]
    if not group.findings:
        parts.append(f"{group.num_puzzles} puzzles of a kind tell nothing; {FEWEST} are needed")
    parts += [f"{found.name}: {found.remedy}" for found in group.findings if found.remedy]
    if any(found.here for found in group.findings):
        few = f"the sources are too few ({group.num_sources}) to speak of others"
        parts.append(f"here: clear of chance on these puzzles; {few}")
    return parts
