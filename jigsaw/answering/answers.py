"""Answers of a model to puzzles. They are stored batch by batch, so that no puzzle is answered twice.

In: rows of a puzzle set with their media. Out: an `Answered` per puzzle, without media.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jigsaw.answering.generation import Answers, Ask
from jigsaw.answering.store import Store
from jigsaw.data.loading.load import pieces_of
from jigsaw.data.storage.parts import puzzle_of
from jigsaw.rewards import RewardError
from jigsaw.rewards.answers import check_answer_of
from jigsaw.tasks import task_named

LARGE = ("prompt", "images", "videos")
"""Columns that are not kept with an answer."""


@dataclass(frozen=True)
class Answered:
    """A puzzle with a model's completions.

    Attributes:
        puzzle: columns of its row, without prompt and media.
        completions: texts, special tokens left out; one if decoding was greedy.
        contrast: how much its pieces differ (`Task.difficulty`); the less, the harder is the puzzle.
    """

    puzzle: Mapping[str, Any]
    completions: Sequence[str]
    contrast: float | None = None


def contrast(row: Mapping[str, Any]) -> float | None:
    """What tells the pieces of a loaded row apart; None where its task cannot tell."""
    return task_named(row["task"]).difficulty(puzzle_of(row), pieces_of(row))


def answer(ask: Ask, batch: Sequence[Mapping[str, Any]]) -> list[Answered]:
    """The answers to a batch of rows."""
    return [
        Answered({key: value for key, value in row.items() if key not in LARGE}, texts, contrast(row))
        for row, texts in zip(batch, ask(batch), strict=True)
    ]


def answer_all(ask: Ask, rows: Any, batch_size: int) -> list[Answered]:
    """The answers to indexable rows, whose media are read batch by batch."""
    batches = (range(start, min(start + batch_size, len(rows))) for start in range(0, len(rows), batch_size))
    return [one for batch in batches for one in answer(ask, [rows[number] for number in batch])]


def answer_rest(
    open_engine: Callable[[], Ask],
    ids: Sequence[str],
    row: Callable[[int], Mapping[str, Any]],
    *,
    path: Path | None,
    settings: Mapping[str, Any],
    batch_size: int,
    on_batch: Callable[[int], object] = lambda _: None,
) -> list[Answered]:
    """The answers to puzzles; only those are asked for that are not stored yet, and each batch is stored.

    Args:
        open_engine: called if something is left to ask; the engine behind it is closed at the end.
        ids: of the puzzles.
        row: gives the puzzle of a place in `ids`, with its media.
        path: file of the store; None keeps nothing.
        settings: what the answers depend on.
        batch_size: puzzles that are asked together.
        on_batch: called with the number of puzzles that were stored before, then with that of each batch.

    Raises:
        JigsawError: the store was made with other settings.
    """
    with Store(path, settings, _id_of) as store:
        left = [number for number, identity in enumerate(ids) if identity not in store]
        on_batch(len(ids) - len(left))
        if left:
            ask = open_engine()
            try:
                for start in range(0, len(left), batch_size):
                    batch = [row(number) for number in left[start : start + batch_size]]
                    store.add([asdict(one) for one in answer(ask, batch)])
                    on_batch(len(batch))
            finally:
                if isinstance(ask, Answers):
                    ask.close()
        return [Answered(**store[identity]) for identity in ids]


def _id_of(record: Mapping[str, Any]) -> str:
    """The id of a stored `Answered`."""
    puzzle, texts = record["puzzle"], record["completions"]
    if not (record.keys() == {"puzzle", "completions", "contrast"} and texts):
        raise KeyError
    try:
        check_answer_of(puzzle)
    except RewardError as error:
        raise KeyError from error
    if not all(isinstance(text, str) for text in (puzzle["id"], *texts)):
        raise TypeError
    return str(puzzle["id"])
