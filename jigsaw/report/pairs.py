"""Three held-out puzzles before and after GRPO, drawn in proportion to what happened to all of them.

In: a run's predictions before and after GRPO, and the folders of its held-out puzzle sets. Out: `Pairs`. A run without
a "before" shows its puzzles with the one answer that there is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jigsaw.evaluation.summary import Scored
from jigsaw.report.choice import outcome_of, proportional
from jigsaw.report.gallery import UNREADABLE, PuzzleRows, Slot, grid_of_row, media_of, right_places
from jigsaw.report.runs import Run
from jigsaw.report.thumbnails import Thumbnail, mosaic

COUNT = 3
SIDE = 232
"""Pixels of the longer side of a mosaic."""

CHANGES = {
    (False, True): "newly solved",
    (True, True): "solved before and after",
    (False, False): "not solved either time",
    (True, False): "no longer solved",
}
OUTCOMES = {"right": "solved", "partly": "partly right", "wrong": "no piece in place", "invalid": "no valid answer"}


@dataclass(frozen=True)
class Arrangement:
    """One answer to a puzzle.

    Attributes:
        title: whose.
        words: how many pieces are in the right place.
        solved: all of them are.
        picture: a mosaic of the answer; None without one.
        order: the pieces by place, each with whether it is right; empty for an invalid answer.
    """

    title: str
    words: str
    solved: bool
    picture: Thumbnail | None
    order: Sequence[Slot]


@dataclass(frozen=True)
class Pair:
    """One puzzle with its answers, the one before GRPO first.

    Attributes:
        result: what happened, in words.
        tone: `better`, `same` or `worse`: the colour of `result`.
        shown: a mosaic of the pieces as shown, or every picture that was shown.
        truth: a mosaic of the right order; None for a task without mosaics.
        columns, rows: of the mosaic's grid.
    """

    source: str
    result: str
    tone: str
    shown: Sequence[Thumbnail]
    truth: Thumbnail | None
    columns: int
    rows: int
    answer: Sequence[Slot]
    arrangements: Sequence[Arrangement]

    @property
    def numbered(self) -> list[Slot]:
        """The pieces in shown order."""
        return [Slot(piece, None) for piece in range(1, len(self.answer) + 1)]


@dataclass(frozen=True)
class Pairs:
    """The puzzles at the top of a report.

    Attributes:
        title: of the section.
        items: none where the puzzles cannot be shown.
        note: how they were chosen, and what happened to all puzzles.
    """

    title: str
    items: Sequence[Pair]
    note: str


def build_pairs(run: Run) -> Pairs:
    """Choose and draw the puzzles at the top of a report; empty where there are none to be shown."""
    compared = "Three puzzles before GRPO and now" if run.position else "Three puzzles before and after GRPO"
    title = compared if run.before else "Three held-out puzzles"
    firsts = [item for item in run.predictions if item.sample == 0 and (not run.before or item.id in run.before)]
    counts = Counter(_kind(item, run) for item in firsts)
    items: list[Pair] = []
    try:
        rows = PuzzleRows(run.eval_folders)
        for item in proportional([item for item in firsts if item.id in rows], COUNT, lambda item: _kind(item, run)):
            row = rows[item.id]
            if list(row["answer"]) == item.answer:
                items.append(_pair(item, run, row))
    except UNREADABLE:
        return Pairs(title, (), "")  # the gallery says why
    names = [name for name in (*CHANGES.values(), *OUTCOMES.values()) if counts[name]]
    told = ", ".join(f"{counts[name]:,} {name}" for name in names)
    note = f"Of {len(firsts):,} held-out puzzles: {told}. Those shown are drawn in proportion to this, by their ids."
    return Pairs(title, items, note)


def _kind(item: Scored, run: Run) -> str:
    """What happened to a puzzle."""
    before = run.before.get(item.id)
    return OUTCOMES[outcome_of(item)] if before is None else CHANGES[before.exact >= 1, item.exact >= 1]


def _pair(item: Scored, run: Run, row: Mapping[str, Any]) -> Pair:
    before = run.before.get(item.id)
    grid = grid_of_row(row)
    images = list(row.get("images") or ())

    def arranged(title: str, answer: Scored) -> Arrangement:
        right = right_places(answer)
        put = [piece - 1 for piece in answer.order or ()]
        return Arrangement(
            title=title,
            words=f"{sum(right)} of {len(answer.answer)} in place" if answer.order else "no valid answer",
            solved=answer.exact >= 1,
            picture=mosaic(images, put, grid, SIDE) if grid and put else None,
            order=[Slot(piece, fits) for piece, fits in zip(answer.order or (), right, strict=True)],
        )

    now = "Now" if run.position else "After GRPO"
    arrangements = [arranged(now if before else "Model's answer", item)]
    if before is not None:
        name = "Warm-up" if run.section("sft") else "Before GRPO"
        arrangements.insert(0, arranged(name, before))
    change = item.exact - (before.exact if before else 0)
    return Pair(
        source=item.source,
        result=_kind(item, run),
        tone="better" if change > 0 else "worse" if change < 0 else "same",
        shown=media_of(row, SIDE),
        truth=mosaic(images, [piece - 1 for piece in item.answer], grid, SIDE) if grid else None,
        columns=grid[1] if grid else 1,
        rows=grid[0] if grid else 1,
        answer=[Slot(piece, None) for piece in item.answer],
        arrangements=arrangements,
    )
