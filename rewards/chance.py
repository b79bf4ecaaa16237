"""What guessing earns: closed forms for a uniformly random permutation, to hold every curve and table against.

All take the number of pieces K and optionally `classes`, one class number per piece in any order (only the sizes of the
classes matter here): pieces of a class may be exchanged. The mean order reward of the paper on 3x3 is
0.2 x 1/9 + 0.8 / 9! = 0.0222244; a well-formed guesser adds the format weight to it. Any other reward is computed for
all orders, or for random ones (`jigsaw.evaluation.baselines`).
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


def chance_neighbor_accuracy(
    num_pieces: int, classes: Sequence[int] | None = None, *, grid: tuple[int, int] | None = None
) -> float:
    """The mean neighbour accuracy of a random order.

    For distinct pieces: of the K(K-1) ordered pairs of pieces that may stand in a place pair, as many are right as
    there are pairs of that direction: (R^2 + D^2) / ((R + D) K (K-1)) for R right-hand and D lower pairs, 1/K in a row.

    With equal pieces which of them is which depends on where the others of its class stand, but on nothing else: the
    mean is a finite sum over pairs of classes and the places that these two may take.

    Args:
        num_pieces: K.
        classes: one class number per piece in the order of the *answer*, as for `chance_kendall_tau`.
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
    named: dict[int, int] = {}  # equal patterns of classes share an entry of the cache
    return _equal_neighbors(tuple(named.setdefault(kind, len(named)) for kind in classes or ()), tuple(pairs))


MOST_TERMS = 200_000
"""Arrangements that `chance_neighbor_accuracy` looks at; two seconds."""


@lru_cache(maxsize=1024)
def _equal_neighbors(kinds: tuple[int, ...], pairs: tuple[tuple[int, int], ...]) -> float:
    """`pairs` are all neighbouring places: two of them have one direction if they have one difference."""
    every = range(len(kinds))
    homes = {kind: [place for place in every if kinds[place] == kind] for kind in set(kinds)}
    known = set(pairs)

    def hits(stands: Mapping[int, int]) -> int:
        """Pairs of places whose pieces, by their homes, are a pair of the same direction."""
        return sum(
            a in stands and b in stands and (stands[a], stands[b]) in known and b - a == stands[b] - stands[a]
            for a, b in pairs
        )

    within, between = Fraction(0), Fraction(0)
    terms = sum(
        comb(len(kinds), len(homes[one]))
        * (1 if one == other else comb(len(kinds) - len(homes[one]), len(homes[other])))
        for one in homes
        for other in homes
        if one <= other
    )
    if terms > MOST_TERMS:
        raise RewardError(f"{terms:,} arrangements of these classes are more than the {MOST_TERMS:,} allowed")
    for one in homes:
        first = [_settled(places, homes[one]) for places in combinations(every, len(homes[one]))]
        within += Fraction(sum(hits(stands) for stands in first), len(first))
        for other in (other for other in homes if other > one):
            total = count = 0
            for stands in first:
                left = [place for place in every if place not in stands]
                for places in combinations(left, len(homes[other])):
                    second = _settled(places, homes[other])
                    total += hits({**stands, **second}) - hits(stands) - hits(second)
                    count += 1
            between += Fraction(total, count)
    return float((within + between) / len(pairs))


def _settled(places: Sequence[int], homes: Sequence[int]) -> dict[int, int]:
    """Where each of a class's pieces belongs, by where it stands, as `true_places` hands the homes out."""
    free = iter([home for home in homes if home not in places])
    return {place: place if place in homes else next(free) for place in places}


def chance_kendall_tau(num_pieces: int, classes: Sequence[int] | None = None) -> float:
    """The mean scaled Kendall tau of a random order: 1/2 for distinct pieces, 1 for a single piece.

    Pieces of a class never stand in each other's way. For the i-th piece of a class of n and the j-th of one of m, the
    first precedes the second in a random order with the probability that of the n + m at most j - 1 of the other class
    come first: the sum over b < j of C(i-1+b, b) C(n-i+m-b, m-b) / C(n+m, n).

    Args:
        num_pieces: K.
        classes: one class number per piece in the order of the *answer*: `[classes[piece - 1] for piece in answer]`.

    >>> chance_kendall_tau(6), chance_kendall_tau(3, [0, 0, 1])
    (0.5, 0.6666666666666666)
    """
    sizes = _sizes(num_pieces, classes)
    if num_pieces == 1:
        return 1.0
    if len(sizes) == num_pieces:
        return 0.5
    kinds, seen, rank = list(classes or ()), Counter[int](), []
    for kind in kinds:
        seen[kind] += 1
        rank.append(seen[kind])
    total = Fraction(0)
    for late in range(num_pieces):
        for early in range(late):
            one, other = kinds[early], kinds[late]
            total += 1 if one == other else _precedes(rank[early], seen[one], rank[late], seen[other])
    return float(total / comb(num_pieces, 2))


def _precedes(i: int, n: int, j: int, m: int) -> Fraction:
    """The probability that the i-th of n equal pieces precedes the j-th of m others in a random order."""
    ways = sum(comb(i - 1 + b, b) * comb(n - i + m - b, m - b) for b in range(j))
    return Fraction(ways, comb(n + m, n))
