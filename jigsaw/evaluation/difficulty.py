"""How hard a puzzle is by itself, without a model: how little tells its pieces apart.

In: a loaded row. Out: the number that its task computes (`Task.difficulty`); the smaller, the harder. `labels` turns
the numbers of one kind of puzzle into thirds: easy, middling, hard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jigsaw.data.load import pieces_of
from jigsaw.data.parts import puzzle_of
from jigsaw.tasks import task_named

LABELS = ("hard", "middling", "easy")


def contrast(row: Mapping[str, Any]) -> float | None:
    """What tells the pieces of a loaded row apart; None where its task cannot tell."""
    return task_named(row["task"]).difficulty(puzzle_of(row), pieces_of(row))


def labels(contrasts: Sequence[float | None]) -> list[str | None]:
    """Thirds by contrast: `hard`, `middling` or `easy` each; None for None, and for all if there are fewer than 3.

    >>> labels([9.0, 1.0, None, 4.0])
    ['easy', 'hard', None, 'middling']
    """
    known = sorted(value for value in contrasts if value is not None)
    if len(known) < len(LABELS):
        return [None] * len(contrasts)
    bounds = [known[len(known) * third // 3] for third in (1, 2)]
    return [None if value is None else LABELS[sum(value >= bound for bound in bounds)] for value in contrasts]
