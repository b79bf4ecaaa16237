"""The gallery of a report: held-out puzzles as shown, as the model put them together, and as they were.

In: a run's predictions and the folders of its held-out puzzle sets. Out: `Card`s with small embedded pictures. A task
whose geometry has a grid, one picture per piece, gets mosaics; any other gets its media in shown order. For both, the
orders stand beside each other place by place.

Three choices are shown (`choice`): the worst and the best puzzles, and a fair sample, as many right, partly right,
wrong and invalid ones as their share of all. Of several completions of a puzzle the first is drawn.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from jigsaw.errors import JigsawError
from jigsaw.evaluation.summary import Scored
from jigsaw.report.choice import Outcome, choose, extremes, outcome_of
from jigsaw.report.details import REASONS
from jigsaw.report.runs import Run
from jigsaw.report.thumbnails import Thumbnail, clip_strip, mosaic, single
from jigsaw.rewards import grid_of, true_places

LONGEST_TEXT = 4000
"""Characters of a completion that are kept on the page."""

SIDES = (232, 168, 120, 88)
"""Pixels of a mosaic's longer side, largest first; the first at which the gallery fits its budget is taken."""


@dataclass(frozen=True)
class Slot:
    """One place of an order: the shown index that stands there, and whether it is right (None: nobody was asked)."""

    piece: int
    right: bool | None


@dataclass(frozen=True)
class Card:
    """One puzzle of the gallery.

    Attributes:
        outcome: right (all places), partly, wrong (no place), or invalid (no permutation).
        headline: the same in words.
        before: how the model did on it before GRPO, or "".
        samples: how all completions of the puzzle did, or "" where there is one.
        shown: the pieces, or whatever the model saw, in shown order.
        arranged: a mosaic of the model's order; None without one.
        truth: a mosaic of the right order; None for a task without mosaics.
        columns, rows: of the mosaic's grid.
        order: the model's order by place; empty if invalid.
        answer: the right order by place.
        missing: why there are no pictures, or "".
    """

    source: str
    task: str
    outcome: Outcome
    headline: str
    before: str
    samples: str
    completion: str
    cut: int
    shown: Sequence[Thumbnail]
    arranged: Thumbnail | None
    truth: Thumbnail | None
    columns: int
    rows: int
    order: Sequence[Slot]
    answer: Sequence[Slot]
    missing: str = ""

    @property
    def numbered(self) -> list[Slot]:
        """The pieces in shown order."""
        return [Slot(piece, None) for piece in range(1, len(self.answer) + 1)]


@dataclass(frozen=True)
class Gallery:
    """What is shown, or why nothing is.

    Attributes:
        worst, best: the extremes, in order.
        cards: the fair sample.
        total, chosen: puzzles of each outcome among all and in the sample.
        missing: why there are no cards, or "".
    """

    worst: Sequence[Card]
    best: Sequence[Card]
    cards: Sequence[Card]
    total: Mapping[Outcome, int]
    chosen: Mapping[Outcome, int]
    missing: str = ""


def build_gallery(run: Run, count: int, budget: int) -> Gallery:
    """Choose and draw puzzles.

    Args:
        run: with predictions and the folders of its held-out sets.
        count: most cards of the sample; a quarter of it for each extreme.
        budget: bytes that its pictures should stay below.
    """
    firsts = [item for item in run.predictions if item.sample == 0]
    total = Counter(outcome_of(item) for item in firsts)

    def nothing(why: str) -> Gallery:
        return Gallery((), (), (), total, {}, why)

    if not firsts:
        return nothing("No predictions on held-out puzzles yet.")
    try:
        rows = PuzzleRows(run.eval_folders)
    except UNREADABLE as error:
        return nothing(f"The held-out puzzle set cannot be opened: {first_line(error)}")
    sample = choose([item for item in firsts if item.id in rows], count)
    if not sample:
        return nothing("The held-out puzzle set no longer has the puzzles of the predictions.")
    worst, best = extremes([item for item in run.predictions if item.id in rows], max(1, count // 4))
    told = _told_samples(run.predictions)
    drawn: dict[str, Card] = {}
    for side in SIDES:
        drawn = {
            item.id: _card(item, rows, run.before.get(item.id), told.get(item.id, ""), side)
            for item in (*worst, *best, *sample)
        }
        # A card that is in two choices is on the page twice.
        shown = [drawn[item.id] for item in (*worst, *best, *sample)]
        if sum(len(picture.uri) for card in shown for picture in _pictures(card)) <= budget:
            break
    reasons = {card.missing for card in drawn.values()}
    if "" not in reasons:
        return nothing(f"The held-out puzzles cannot be shown: {min(reasons)}")
    chosen = Counter(drawn[item.id].outcome for item in sample)
    return Gallery(
        worst=[drawn[item.id] for item in worst],
        best=[drawn[item.id] for item in best],
        cards=[drawn[item.id] for item in sample],
        total=total,
        chosen=chosen,
    )


def _told_samples(predictions: Sequence[Scored]) -> dict[str, str]:
    """Of puzzles with several completions, by id, how those did."""
    samples: dict[str, list[Scored]] = defaultdict(list)
    for item in predictions:
        samples[item.id].append(item)
    return {
        name: f"{sum(item.exact == 1 for item in own)} of {len(own)} samples right,"
        f" mean place {fmean(item.place_accuracy for item in own):.2f}"
        for name, own in samples.items()
        if len(own) > 1
    }


UNREADABLE = (JigsawError, OSError, ValueError, KeyError, TypeError)
"""What a data set that was moved, deleted or written by another version raises."""


class PuzzleRows:
    """Rows of puzzle sets by id. Ids are read without making any picture."""

    def __init__(self, folders: Sequence[Path]) -> None:
        from jigsaw.data import load_puzzles

        if not folders:
            raise JigsawError("data.json names none.")
        self._where: dict[str, tuple[Any, int]] = {}
        for folder in folders:
            puzzles = load_puzzles(folder)
            for number, identity in enumerate(puzzles.with_format(None)["id"]):
                self._where.setdefault(identity, (puzzles, number))

    def __contains__(self, identity: str) -> bool:
        return identity in self._where

    def __getitem__(self, identity: str) -> Mapping[str, Any]:
        puzzles, number = self._where[identity]
        row: Mapping[str, Any] = puzzles[number]
        return row


def _card(item: Scored, rows: PuzzleRows, before: Scored | None, samples: str, side: int) -> Card:
    try:
        row: Mapping[str, Any] = rows[item.id]
        missing = "" if list(row["answer"]) == item.answer else "the puzzle is no longer the one that was answered"
    except UNREADABLE as error:
        row, missing = {}, first_line(error)
    if missing:
        row = {}
    right = right_places(item)
    outcome = outcome_of(item)
    grid = grid_of_row(row)
    images = list(row.get("images") or ())
    columns, lines = (grid[1], grid[0]) if grid else (1, 1)
    return Card(
        source=item.source,
        task=item.task,
        outcome=outcome,
        headline=_headline(item, outcome),
        before=_before(before),
        samples=samples,
        completion=item.completion[:LONGEST_TEXT],
        cut=max(0, len(item.completion) - LONGEST_TEXT),
        shown=media_of(row, side),
        arranged=mosaic(images, [piece - 1 for piece in item.order], grid, side) if grid and item.order else None,
        truth=mosaic(images, [piece - 1 for piece in item.answer], grid, side) if grid else None,
        columns=columns,
        rows=lines,
        order=[Slot(piece, fits) for piece, fits in zip(item.order or (), right, strict=True)],
        answer=[Slot(piece, None) for piece in item.answer],
        missing=missing,
    )


def grid_of_row(row: Mapping[str, Any]) -> tuple[int, int] | None:
    """Rows and columns, if the media are the pieces of a picture cut by a grid."""
    count = len(row.get("answer") or ())
    return grid_of(row.get("geometry"), count) if len(row.get("images") or ()) == count else None


def piece_side(side: int, media: int) -> int:
    """Longer side of one of several media: one is shown large, many share the room of six mosaics."""
    return side * 3 // 2 if media <= 1 else max(48, min(side, int(side * (6 / media) ** 0.5)))


def media_of(row: Mapping[str, Any], side: int) -> list[Thumbnail]:
    """What the model was shown: a mosaic of the tiles of a grid, else each picture or clip."""
    images, clips = list(row.get("images") or ()), list(row.get("videos") or ())
    if grid := grid_of_row(row):
        return [mosaic(images, range(len(images)), grid, side)]
    longest = piece_side(side, len(images) + len(clips))
    return [single(image, longest) for image in images] + [clip_strip(clip, longest) for clip in clips]


def right_places(item: Scored) -> list[bool]:
    """Per place whether it counts as right, exactly as the scores count it."""
    if item.order is None:
        return []
    places = true_places(item.order, item.answer, item.classes) or []
    return [place == home for place, home in enumerate(places)]


def _headline(item: Scored, outcome: Outcome) -> str:
    if outcome == "invalid":
        return f"Invalid: {REASONS.get(item.reason, item.reason)}"
    if outcome == "right":
        return "All places right"
    if outcome == "wrong":
        return "No place right"
    return f"{round(item.place_accuracy * len(item.answer))} of {len(item.answer)} places right"


def _before(item: Scored | None) -> str:
    if item is None:
        return ""
    if item.order is None:
        return "before GRPO: invalid"
    return f"before GRPO: {round(item.place_accuracy * len(item.answer))} of {len(item.answer)}"


def _pictures(card: Card) -> list[Thumbnail]:
    return [picture for picture in (*card.shown, card.arranged, card.truth) if picture is not None]


def first_line(error: BaseException) -> str:
    """An exception in one line; a KeyError's text is a bare key and says nothing without its name."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else "no reason given"
    return text if isinstance(error, JigsawError) else f"{type(error).__name__}: {text}"
