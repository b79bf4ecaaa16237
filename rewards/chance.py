"""Chance levels: the mean score of a uniformly random permutation, in closed form.

All functions take the number of pieces K and `classes`, one class number per piece, if pieces of a class may be
exchanged. Their order matters only to `chance_neighbor_accuracy` and `chance_kendall_tau`. The mean order reward of the
paper on 3x3 is 0.2 x 1/9 + 0.8 / 9! = 0.0222244; a random permutation in the right format earns the format weight in
addition. Scores without a closed form are averaged over all orders, or over random ones (`jigsaw.results.chance`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import combinations
from math import comb, factorial, prod

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


MOST_TERMS = 200_000
"""Maximum number of arrangements that `chance_neighbor_accuracy` adds up, which takes two seconds."""


def chance_neighbor_accuracy(
    num_pieces: int, classes: Sequence[int] | None = None, *, grid: tuple[int, int] | None = None
) -> float:
    """The mean neighbour accuracy of a random order.

    A random order puts each of the K(K-1) ordered pairs of distinct pieces on a pair of neighbouring places with equal
    probability. With R right-hand and D lower pairs the mean is (R^2 + D^2) / ((R + D) K (K-1)), in a row 1/K. With
    look-alike pieces it is a sum over pairs of classes and the places of their pieces.

    Args:
        num_pieces: K.
        classes: one class number per piece in the order of the *answer*: `[classes[piece - 1] for piece in answer]`.
        grid: rows and columns of the places.

    Raises:
        RewardError: the grid does not have K places, or the sum has more than `MOST_TERMS` terms.

    >>> chance_neighbor_accuracy(6), chance_neighbor_accuracy(4, grid=(2, 2))
    (0.16666666666666666, 0.16666666666666666)
    >>> chance_neighbor_accuracy(3, [0, 0, 1])  # of the orders 001, 010 and 100 only the first has neighbours
    0.3333333333333333
    """
    rows, columns = grid or (1, num_pieces)
    if rows * columns != num_pieces or num_pieces < 1:
        raise RewardError(f"grid {rows}x{columns} has {rows * columns} places, the puzzle {num_pieces}")
    sizes = _sizes(num_pieces, classes)
    if num_pieces == 1:
        return 1.0
    right, below = rows * (columns - 1), (rows - 1) * columns
    if len(sizes) == num_pieces:
        return (right**2 + below**2) / ((right + below) * num_pieces * (num_pieces - 1))
    pairs = [(place, place + 1) for place in range(num_pieces) if (place + 1) % columns]
    pairs += [(place, place + columns) for place in range(num_pieces - columns)]
    numbers: dict[int, int] = {}  # equal patterns of classes share an entry of the cache
    return _neighbors_of_classes(tuple(numbers.setdefault(one, len(numbers)) for one in classes or ()), tuple(pairs))


@lru_cache(maxsize=1024)
def _neighbors_of_classes(classes: tuple[int, ...], pairs: tuple[tuple[int, int], ...]) -> float:
    """The mean neighbour accuracy with look-alike pieces.

    Args:
        classes: class of the piece that belongs at each place.
        pairs: all pairs of neighbouring places. Pairs of one direction have the same difference.
    """
    places = range(len(classes))
    true_places = {one: [place for place in places if classes[place] == one] for one in set(classes)}
    sizes = {one: len(own) for one, own in true_places.items()}
    all_pairs = set(pairs)

    def right_pairs(pieces: Mapping[int, int]) -> int:
        """Number of right pairs among pieces, which map a place to the true place of its piece."""
        return sum(
            a in pieces and b in pieces and (pieces[a], pieces[b]) in all_pairs and b - a == pieces[b] - pieces[a]
            for a, b in pairs
        )

    terms = sum(
        comb(len(classes), sizes[one]) * (1 if one == other else comb(len(classes) - sizes[one], sizes[other]))
        for one in sizes
        for other in sizes
        if one <= other
    )
    if terms > MOST_TERMS:
        raise RewardError(f"{terms:,} arrangements of these classes are more than the {MOST_TERMS:,} allowed")
    total = Fraction(0)
    for one in sizes:
        arrangements = [_assigned(chosen, true_places[one]) for chosen in combinations(places, sizes[one])]
        total += Fraction(sum(map(right_pairs, arrangements)), len(arrangements))
        for other in (other for other in sizes if other > one):
            between = count = 0
            for first in arrangements:
                free = [place for place in places if place not in first]
                for chosen in combinations(free, sizes[other]):
                    second = _assigned(chosen, true_places[other])
                    between += right_pairs({**first, **second}) - right_pairs(first) - right_pairs(second)
                    count += 1
            total += Fraction(between, count)
    return float(total / len(pairs))


def _assigned(places: Sequence[int], true_places: Sequence[int]) -> dict[int, int]:
    """The places of the pieces of a class, each with its true place in the assignment of `scores.true_places`."""
    free = iter([place for place in true_places if place not in places])
    return {place: place if place in true_places else next(free) for place in places}


def chance_kendall_tau(num_pieces: int, classes: Sequence[int] | None = None) -> float:
    """The mean scaled Kendall tau of a random order: 1/2 for distinct pieces, 1 for a single piece.

    Pieces of one class are always in order. The i-th piece of a class of n is before the j-th piece of a class of m if
    at most j - 1 pieces of the other class are before it. In a random order of both classes this has the probability
    sum over b < j of C(i-1+b, b) C(n-i+m-b, m-b) / C(n+m, n).

    Args:
        num_pieces: K.
        classes: as for `chance_neighbor_accuracy`.

    >>> chance_kendall_tau(6), chance_kendall_tau(3, [0, 0, 1])
    (0.5, 0.6666666666666666)
    """
    if num_pieces == 1:
        return 1.0
    if classes is None or len(_sizes(num_pieces, classes)) == num_pieces:
        return 0.5
    counts, ranks = Counter[int](), []
    for one in classes:
        counts[one] += 1
        ranks.append(counts[one])
    total = Fraction(0)
    for early, late in combinations(range(num_pieces), 2):
        first, second = classes[early], classes[late]
        total += 1 if first == second else _precedes(ranks[early], counts[first], ranks[late], counts[second])
    return float(total / comb(num_pieces, 2))


def _precedes(i: int, n: int, j: int, m: int) -> Fraction:
    """The probability that the i-th of n look-alike pieces is before the j-th of m others in a random order."""
    return Fraction(sum(comb(i - 1 + b, b) * comb(n - i + m - b, m - b) for b in range(j)), comb(n + m, n))
