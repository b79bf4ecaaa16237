"""Gallery: held-out puzzles as they were shown, as the model arranged them, and in the right order.

In: a run's samples and the folders of its held-out puzzle sets. Out: `Card`s with small embedded pictures. Puzzles with
one picture for each cell of a grid are drawn as mosaics; other puzzles have their media in shown order. Both list the
orders place by place. If a puzzle has several completions, the first is shown.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from jigsaw.errors import JigsawError, first_line
from jigsaw.evaluation.log import Sample
from jigsaw.pictures import Thumbnail, clip_strip, mosaic, thumbnail
from jigsaw.report.runs import Run
from jigsaw.report.selection import choose, extremes
from jigsaw.rewards import grid_of, true_places
from jigsaw.rewards.answers import ORDER, written
from jigsaw.tasks import TaskError, find_task

LONGEST_TEXT = 4000
"""Maximum number of characters of a completion on the page."""

SIDE, TOP_SIDE = 168, 232
"""Pixels of the longer side of a mosaic, in the gallery and at the top of the page."""

TOP = 3

REASONS = {
    "ok": "valid",
    "malformed": "the tags are wrong",
    "several_answers": "it has more than one answer",
    "empty": "the answer is empty",
    "not_integers": "the answer is not a list of whole numbers",
    "wrong_count": "the answer has too few or too many numbers",
    "out_of_range": "the answer is out of range",
    "duplicate": "the answer uses a piece twice",
    "too_long": "the answer is too long",
    "not_plain": "the answer is not plain text",
    "not_an_option": "the answer is not one of the options",
    "not_a_number": "the answer is not a number",
    "not_an_interval": "the answer is not a start and an end",
    "not_a_box": "the answer is not a box",
    "not_math": "the answer is not a mathematical expression",
    "reversed": "the end of the answer is before its start",
}
"""`ParsedAnswer.reason` as text."""

CHANGES = {
    (False, True): "newly solved",
    (True, True): "solved before and after",
    (False, False): "not solved either time",
    (True, False): "no longer solved",
}

Outcome = Literal["right", "partly", "wrong", "invalid"]

OUTCOMES: Mapping[Outcome, str] = {
    "right": "solved",
    "partly": "partly right",
    "wrong": "wrong",
    "invalid": "no valid answer",
}

MARKS: Mapping[Outcome, str] = {"right": "✓", "partly": "◐", "wrong": "✗", "invalid": "∅"}

WORDS: Mapping[Outcome, str] = {"right": "right", "partly": "partly right", "wrong": "wrong", "invalid": "invalid"}
"""The name of an outcome on a page, after its mark."""

Rows = Mapping[str, tuple[Any, int]]
"""Id of a puzzle -> its set and its number there. No picture is drawn before a row is read."""

UNREADABLE = (JigsawError, OSError, ValueError, KeyError, TypeError)
"""Errors of a data set that was moved, deleted or written by another version."""


@dataclass(frozen=True)
class Slot:
    """One place of an order: the shown index of its piece, and whether it is right (None if it is not an answer).

    An answer of another kind is a single slot with the complete answer.
    """

    piece: int | str
    right: bool | None


@dataclass(frozen=True)
class Arrangement:
    """One answer to a puzzle.

    Attributes:
        title: when it was given, such as `After GRPO`.
        words: the number of pieces in the right place, or why the answer is invalid.
        solved: whether the answer is right.
        picture: a mosaic of the answer; None for other tasks.
        order: the slots by place; empty for an invalid answer.
    """

    title: str
    words: str
    solved: bool
    picture: Thumbnail | None
    order: Sequence[Slot]


@dataclass(frozen=True)
class Card:
    """One puzzle with its answers.

    Attributes:
        outcome: of the last answer.
        result: the outcome as text, compared with that before GRPO if there is one.
        tone: `better`, `same` or `worse` than before GRPO.
        samples: the results of all completions; empty if there is only one.
        cut: number of characters of the completion that were left out.
        shown: a mosaic of the pieces as shown, or all pictures that were shown.
        truth: a mosaic of the right order; None for other tasks.
        columns, rows: of the mosaic's grid.
        answer: the right order by place.
        arrangements: the answers; the first is the one before GRPO if there is one.
        pieces: number of pieces or options.
        asked: `order`, or `answer` for another kind of answer.
        missing: why there are no pictures; empty if there are.
    """

    source: str
    outcome: Outcome
    result: str
    tone: str
    samples: str
    completion: str
    cut: int
    shown: Sequence[Thumbnail]
    truth: Thumbnail | None
    columns: int
    rows: int
    answer: Sequence[Slot]
    arrangements: Sequence[Arrangement]
    pieces: int = 0
    asked: str = "order"
    missing: str = ""

    @property
    def numbered(self) -> list[Slot]:
        """The pieces in shown order."""
        return [Slot(piece, None) for piece in range(1, len(self.answer) + 1)]

    @property
    def last(self) -> Arrangement:
        """The model's answer."""
        return self.arrangements[-1]

    @property
    def headline(self) -> str:
        """The outcome of the model's answer as text."""
        if self.asked != "order":
            return f"Invalid: {self.last.words}" if self.outcome == "invalid" else self.last.words.capitalize()
        return {"invalid": f"Invalid: {self.last.words}", "right": "All places right", "wrong": "No place right"}.get(
            self.outcome, f"{self.last.words.removesuffix(' in place')} places right"
        )


@dataclass(frozen=True)
class Gallery:
    """The puzzles that a report shows.

    Attributes:
        top: title, cards and a note about the puzzles at the top of the page.
        worst, best: the puzzles with the lowest and the highest rewards, in order.
        cards: a fair sample.
        total, chosen: number of puzzles of each outcome, among all puzzles and in the sample.
        missing: why there are no cards; empty if there are.
    """

    top: tuple[str, Sequence[Card], str]
    worst: Sequence[Card]
    best: Sequence[Card]
    cards: Sequence[Card]
    total: Mapping[Outcome, int]
    chosen: Mapping[Outcome, int]
    missing: str = ""


def build_gallery(run: Run, count: int, tasks: Sequence[str] = ()) -> Gallery:
    """Select and draw puzzles.

    Args:
        run: with samples and the folders of its held-out sets.
        count: maximum number of cards in the sample; a quarter of it for the worst and for the best puzzles. With 0
            there are only the cards at the top of the page.
        tasks: specs of the tasks whose code may be run to draw puzzles. Registered tasks are always allowed.

    Raises:
        JigsawError: a task of `tasks` does not exist.
    """
    firsts = [item for item in run.samples if item.sample == 0]
    total = Counter(outcome_of(item) for item in firsts)
    pairs = [item for item in firsts if not run.before or item.id in run.before]
    title = "Three held-out puzzles"
    if run.before:
        title = "Three puzzles before GRPO and now" if run.position else "Three puzzles before and after GRPO"

    try:
        named = {find_task(spec).name: spec for spec in tasks}
    except TaskError as error:
        raise JigsawError(f"--task: {error}") from error

    def nothing(why: str) -> Gallery:
        return Gallery((title, (), ""), (), (), (), total, {}, why)

    if not firsts:
        return nothing("No predictions on held-out puzzles yet.")
    try:
        rows = _rows(run.eval_folders, named)
    except UNREADABLE as error:
        return nothing(f"The held-out puzzle set cannot be opened: {first_line(error)}")
    there = [item for item in firsts if item.id in rows]
    if not there:
        return nothing("The held-out puzzle set does not have the puzzles of the predictions any more.")
    results = _results_of_samples(run.samples)
    counts = Counter(_kind(item, run) for item in pairs)
    names = [name for name in (*CHANGES.values(), *OUTCOMES.values()) if counts[name]]
    note = (
        f"Of {len(pairs):,} held-out puzzles: {', '.join(f'{counts[name]:,} {name}' for name in names)}."
        " The puzzles shown are a sample in these proportions, selected by their ids."
    )
    top = choose([item for item in pairs if item.id in rows], TOP, lambda item: _kind(item, run))
    top_cards = [card for item in top if not (card := _card(item, run, rows, "", TOP_SIDE)).missing]
    sample = choose(there, count, outcome_of, each=True)
    worst, best = extremes([item for item in run.samples if item.id in rows], -(-count // 4))
    cards = {item.id: _card(item, run, rows, results.get(item.id, ""), SIDE) for item in (*worst, *best, *sample)}
    missing = {card.missing for card in cards.values()}
    if cards and "" not in missing:
        return nothing(f"The held-out puzzles cannot be shown: {min(missing)}")
    return Gallery(
        top=(title, top_cards, note),
        worst=[cards[item.id] for item in worst],
        best=[cards[item.id] for item in best],
        cards=[cards[item.id] for item in sample],
        total=total,
        chosen=Counter(cards[item.id].outcome for item in sample),
    )


def outcome_of(item: Sample) -> Outcome:
    """The outcome of an answer."""
    return outcome(item.exact, item.valid, item.place_accuracy)


def outcome(exact: float, valid: float | None, place_accuracy: float | None) -> Outcome:
    """The outcome of an answer with these scores. An answer without places is right or wrong."""
    if valid == 0:
        return "invalid"
    if exact >= 1:
        return "right"
    return "partly" if place_accuracy else "wrong"


def _results_of_samples(samples: Sequence[Sample]) -> dict[str, str]:
    """The results of all completions of each puzzle, by id, for puzzles with several completions."""
    by_puzzle: dict[str, list[Sample]] = defaultdict(list)
    for item in samples:
        by_puzzle[item.id].append(item)
    return {
        name: f"{sum(item.exact == 1 for item in own)} of {len(own)} samples right{_mean_place(own)}"
        for name, own in by_puzzle.items()
        if len(own) > 1
    }


def _mean_place(samples: Sequence[Sample]) -> str:
    values = [item.place_accuracy for item in samples if item.place_accuracy is not None]
    return f", mean place accuracy {fmean(values):.2f}" if values else ""


def _rows(folders: Sequence[Path], specs: Mapping[str, str]) -> Rows:
    """The rows of puzzle sets by id. `specs` has the specs of plug-in tasks by name."""
    from jigsaw.data import load_puzzles, read_manifest

    if not folders:
        raise JigsawError("the run has none")
    rows: dict[str, tuple[Any, int]] = {}
    for folder in folders:
        named = {"task": specs.get(read_manifest(folder).settings.task)} if specs else {}
        puzzles = load_puzzles(folder, **named)
        for number, identity in enumerate(puzzles.with_format(None)["id"]):
            rows.setdefault(identity, (puzzles, number))
    return rows


def _kind(item: Sample, run: Run) -> str:
    """The result of a puzzle as text."""
    before = run.before.get(item.id)
    return OUTCOMES[outcome_of(item)] if before is None else CHANGES[before.exact >= 1, item.exact >= 1]


def _card(item: Sample, run: Run, rows: Rows, samples: str, side: int) -> Card:
    row: Mapping[str, Any] = {}
    try:
        puzzles, number = rows[item.id]
        row = puzzles[number]
        missing = "" if row["answer"] == item.answer else "the puzzle is not the one that was answered"
    except UNREADABLE as error:
        missing = first_line(error)
    if missing:
        row = {}
    grid, images = grid_of_row(row), list(row.get("images") or ())

    def arranged(order: Sequence[int]) -> Thumbnail | None:
        return thumbnail(mosaic([images[piece - 1] for piece in order], *grid), side) if grid and order else None

    def arrangement(title: str, answer: Sample) -> Arrangement:
        if answer.answer_kind != ORDER:
            slots = [] if answer.value is None else [Slot(answer.value, answer.exact >= 1)]
            words = REASONS[answer.reason] if answer.value is None else "right" if answer.exact >= 1 else "wrong"
            return Arrangement(title, words, answer.exact >= 1, None, slots)
        places = true_places(answer.order, answer.answer, answer.classes) or ()
        right = [place == true for place, true in enumerate(places)]
        words = f"{sum(right)} of {len(answer.answer)} in place" if answer.order else REASONS[answer.reason]
        order = [Slot(piece, fits) for piece, fits in zip(answer.order or (), right, strict=True)]
        return Arrangement(title, words, answer.exact >= 1, arranged(answer.order or ()), order)

    before, is_order = run.before.get(item.id), item.answer_kind == ORDER
    now = "Now" if run.position else "After GRPO"
    arrangements = [arrangement(now if before else "Model's answer", item)]
    if before is not None:
        arrangements.insert(0, arrangement("Warm-up" if run.section("sft") else "Before GRPO", before))
    change = item.exact - (before.exact if before else 0)
    return Card(
        source=item.source,
        outcome=outcome_of(item),
        result=_kind(item, run),
        tone="better" if change > 0 else "worse" if change < 0 else "same",
        samples=samples,
        completion=item.completion[:LONGEST_TEXT],
        cut=max(0, len(item.completion) - LONGEST_TEXT),
        shown=_media(row, side),
        truth=arranged(item.answer) if is_order else None,
        columns=grid[1] if grid else 1,
        rows=grid[0] if grid else 1,
        answer=[Slot(piece, None) for piece in (item.answer if is_order else [written(item.answer)])],
        arrangements=arrangements,
        pieces=item.num_pieces,
        asked="order" if is_order else "answer",
        missing=missing,
    )


def grid_of_row(row: Mapping[str, Any]) -> tuple[int, int] | None:
    """Rows and columns, if the images are the cells of a grid."""
    if row.get("answer_kind", ORDER) != ORDER:
        return None
    count = len(row.get("answer") or ())
    return grid_of(row.get("geometry"), count) if len(row.get("images") or ()) == count else None


def _media(row: Mapping[str, Any], side: int) -> list[Thumbnail]:
    """The media that the model was shown: a mosaic of the tiles of a grid, else each picture or clip."""
    images, clips = list(row.get("images") or ()), list(row.get("videos") or ())
    if grid := grid_of_row(row):
        return [thumbnail(mosaic(images, *grid), side)]
    count = len(images) + len(clips)  # a single one is large; many share the space of six mosaics
    longest = side * 3 // 2 if count <= 1 else max(48, min(side, int(side * (6 / count) ** 0.5)))
    return [thumbnail(image, longest) for image in images] + [clip_strip(clip.frames, longest) for clip in clips]
