"""Prompt variants: the same question in other words, to tell understanding from a memorised prompt.

In: loaded rows. Out: the rows with another prompt around the same media. The variants are the task's own; how the
answer is to be written stays word for word, because the parser depends on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jigsaw.data.parts import puzzle_of
from jigsaw.errors import JigsawError
from jigsaw.tasks import task_named, varied


def reworded(rows: Sequence[Mapping[str, Any]], wording: int) -> list[dict[str, Any]]:
    """Rows with their own prompts (wording 0), or with the prompts of a variant (1, 2, ..).

    Raises:
        JigsawError: a row's task has no such variant.
    """
    if wording == 0:
        return [dict(row) for row in rows]
    return [dict(row) | {"prompt": _prompt(row, wording)} for row in rows]


def _prompt(row: Mapping[str, Any], wording: int) -> list[dict[str, Any]]:
    puzzle = puzzle_of(row)
    known = task_named(puzzle.task).variants(puzzle)
    if not known:
        raise JigsawError(f"--set wording: these puzzles of task {puzzle.task} have no other wordings; leave it out")
    if not 1 <= wording <= len(known):
        raise JigsawError(
            f"--set wording: task {puzzle.task} has {len(known)} other wordings, there is no number {wording}"
        )
    return varied(row["prompt"], known[wording - 1], puzzle)
