"""Chance levels: the mean score of a uniformly random permutation, in closed form.

All functions take the number of pieces K. `chance_exact`, `chance_place_accuracy` and `chance_order_reward` also take
`classes`, one class number per piece in any order (only the sizes of the classes matter): pieces of a class may be
exchanged. The mean order reward of the paper on 3x3 is 0.2 x 1/9 + 0.8 / 9! = 0.0222244; a random permutation in the
right format earns the format weight in addition. Scores without a closed form are averaged over all orders, or over
random ones (`jigsaw.results.chance`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from math import factorial, prod

from jigsaw.rewards.errors import RewardError


def _sizes(num_pieces: int, classes: Sequence[int] | None) -> tuple[int, ...]:
    """How many pieces each class has, ascending."""
    if num_pieces < 1:
        raise RewardError(f"num_pieces is {num_pieces}; a puzzle has at least one piece")
    if classes is None:
        return (1,) * num_pieces
    if len(classes) != num_pieces:
        raise RewardError(f"{len(classes)} classes for {num_pieces} pieces; one class number per piece is needed")
    return tuple(sorted(Counter(classes).values()))


def chance_exact(num_pieces: int, classes: Sequence[int] | None = None) -> float:
    """The probability that a random order is right everywhere: 1/K!, times n! for every class of n pieces.

    >>> 1 / chance_exact(9)
    362880.0
    >>> chance_exact(3, classes=[0, 0, 1])
    0.3333333333333333
    """
    sizes = _sizes(num_pieces, classes)
    return float(Fraction(prod(factorial(size) for size in sizes), factorial(num_pieces)))


def chance_place_accuracy(num_pieces: int, classes: Sequence[int] | None = None) -> float:
    """The mean place accuracy of a random order: 1/K, or the sum of squared class sizes over K squared.

    >>> chance_place_accuracy(4), chance_place_accuracy(4, classes=[0, 0, 1, 2])
    (0.25, 0.375)
    """
    return sum(size * size for size in _sizes(num_pieces, classes)) / num_pieces**2


def chance_order_reward(
    num_pieces: int,
    classes: Sequence[int] | None = None,
    *,
    discount: float = 0.2,
    min_pieces_for_partial: int = 1,
) -> float:
    """The mean order part of `visual_jigsaw` for a random valid order, without the format weight.

    discount x (mean place accuracy - P(exact)) + P(exact).

    >>> round(chance_order_reward(9), 7)
    0.0222244
    """
    certain = chance_exact(num_pieces, classes)
    partial = discount if num_pieces >= min_pieces_for_partial else 0.0
    return partial * (chance_place_accuracy(num_pieces, classes) - certain) + certain


def chance_neighbor_accuracy(num_pieces: int, *, grid: tuple[int, int] | None = None) -> float:
    """The mean neighbour accuracy of a random order of distinct pieces.

    A random order puts each of the K(K-1) ordered pairs of pieces on a pair of neighbouring places with equal
    probability. With R right-hand and D lower pairs the mean is (R^2 + D^2) / ((R + D) K (K-1)), in a row 1/K.

    Args:
        num_pieces: K.
        grid: rows and columns of the places.

    Raises:
        RewardError: the grid does not have K places.

    >>> chance_neighbor_accuracy(6), chance_neighbor_accuracy(4, grid=(2, 2))
    (0.16666666666666666, 0.16666666666666666)
    """
    rows, columns = grid or (1, num_pieces)
    if rows * columns != num_pieces or num_pieces < 1:
        raise RewardError(f"grid {rows}x{columns} has {rows * columns} places, the puzzle {num_pieces}")
    if num_pieces == 1:
        return 1.0
    right, below = rows * (columns - 1), (rows - 1) * columns
    return (right**2 + below**2) / ((right + below) * num_pieces * (num_pieces - 1))


def chance_kendall_tau(num_pieces: int) -> float:
    """The mean scaled Kendall tau of a random order of distinct pieces: 1/2, or 1 for a single piece.

    >>> chance_kendall_tau(6), chance_kendall_tau(1)
    (0.5, 1.0)
    """
    return 1.0 if num_pieces == 1 else 0.5
