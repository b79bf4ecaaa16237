"""Shown orders and answers: all conversions of the answer convention.

A shown order lists 0-based original pieces as displayed; an answer lists, per place, the 1-based shown index of its
piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random


def answer_of(shown: Sequence[int]) -> tuple[int, ...]:
    """The answer to a shown order.

    Args:
        shown: `shown[j]` is the 0-based original piece displayed under the number `j + 1`; a permutation of 0..K-1.

    >>> answer_of([2, 0, 1])
    (2, 3, 1)
    """
    answer = [0] * len(shown)
    for position, original in enumerate(shown):
        answer[original] = position + 1
    return tuple(answer)


def shown_of(answer: Sequence[int]) -> tuple[int, ...]:
    """The shown order that has this answer, the inverse of `answer_of`.

    >>> shown_of([2, 3, 1])
    (2, 0, 1)
    """
    shown = [0] * len(answer)
    for place, index in enumerate(answer):
        shown[index - 1] = place
    return tuple(shown)


def draw_shown(num_pieces: int, rng: Random, *, identity: bool = True) -> tuple[int, ...]:
    """A shown order, uniform over all permutations, or with `identity=False` over all but the identity.

    Raises:
        ValueError: there are fewer than two pieces.
    """
    if num_pieces < 2:
        raise ValueError(f"a puzzle needs at least two pieces, not {num_pieces}")
    order = list(range(num_pieces))
    while True:
        rng.shuffle(order)
        if identity or order != list(range(num_pieces)):
            return tuple(order)
