"""Answers of a model to puzzles. They are stored batch by batch, so that no puzzle is answered twice.

In: rows of a puzzle set with their media. Out: an `AnsweredPuzzle` per puzzle, without media.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jigsaw.answering.generation import Generate, TextGenerator
from jigsaw.answering.store import Store
from jigsaw.data.loading.load import pieces_of
from jigsaw.data.storage.parts import puzzle_of
from jigsaw.rewards import RewardError
from jigsaw.rewards.answers import check_answer_of
from jigsaw.tasks import task_named

PROMPT_COLUMNS = ("prompt", "images", "videos")
"""Columns that are not stored with an answer, because they are large."""


@dataclass(frozen=True)
class AnsweredPuzzle:
    """A puzzle with the completions of a model.

    Attributes:
        puzzle: columns of its row, without prompt and media.
        completions: texts without special tokens; one text if decoding was greedy.
        contrast: how much the pieces differ (`Task.difficulty`). A lower contrast means a harder puzzle.
    """

    puzzle: Mapping[str, Any]
    completions: Sequence[str]
    contrast: float | None = None


def contrast(row: Mapping[str, Any]) -> float | None:
    """How much the pieces of a loaded row differ; None where its task does not measure it."""
    return task_named(row["task"]).difficulty(puzzle_of(row), pieces_of(row))


def answer(generate: Generate, batch: Sequence[Mapping[str, Any]]) -> list[AnsweredPuzzle]:
    """The answers to a batch of rows."""
    return [
        AnsweredPuzzle(
            {key: value for key, value in row.items() if key not in PROMPT_COLUMNS}, completions, contrast(row)
        )
        for row, completions in zip(batch, generate(batch), strict=True)
    ]


def answer_all(generate: Generate, rows: Any, batch_size: int) -> list[AnsweredPuzzle]:
    """The answers to indexable rows. The media are read batch by batch."""
    batches = (range(start, min(start + batch_size, len(rows))) for start in range(0, len(rows), batch_size))
    return [one for batch in batches for one in answer(generate, [rows[number] for number in batch])]


def answer_rest(
    open_engine: Callable[[], Generate],
    ids: Sequence[str],
    row: Callable[[int], Mapping[str, Any]],
    *,
    path: Path | None,
    settings: Mapping[str, Any],
    batch_size: int,
    on_batch: Callable[[int], object] = lambda _: None,
) -> list[AnsweredPuzzle]:
    """The answers to puzzles. Only puzzles without a stored answer are answered, and each batch is stored.

    Args:
        open_engine: called if a puzzle has no answer yet; the engine is closed at the end.
        ids: of the puzzles.
        row: returns the puzzle at an index of `ids`, with its media.
        path: file of the store; None stores nothing.
        settings: what the answers depend on.
        batch_size: puzzles that are answered together.
        on_batch: called with the number of answers that were stored before, then with the size of each batch.

    Raises:
        JigsawError: the store has answers from other settings.
    """
    with Store(path, settings, _id_of) as store:
        missing = [number for number, identity in enumerate(ids) if identity not in store]
        on_batch(len(ids) - len(missing))
        if missing:
            generate = open_engine()
            try:
                for start in range(0, len(missing), batch_size):
                    batch = [row(number) for number in missing[start : start + batch_size]]
                    store.add([asdict(one) for one in answer(generate, batch)])
                    on_batch(len(batch))
            finally:
                if isinstance(generate, TextGenerator):
                    generate.close()
        return [AnsweredPuzzle(**store[identity]) for identity in ids]


def _id_of(record: Mapping[str, Any]) -> str:
    """The id of a stored `AnsweredPuzzle`. A record of another form raises KeyError or TypeError."""
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
