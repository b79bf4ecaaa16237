"""Scores of an order: pure functions of `(order, answer)` with values in [0, 1].

The order is the result of `parse_order`: a permutation of 1..K, or None. The answer is a permutation of 1..K too:
`answer[i]` is the shown index of the piece that belongs at place `i`. Every score is 1 only at the answer, 0 for an
order that is not a permutation, and independent of how the pieces are numbered. With three pieces::

    answer [2, 3, 1], order [2, 1, 3]:  one place of three is right, and pieces 2 and 1 are not neighbours in the answer

`classes` has one number per piece in *shown* order (`classes[j]` is the class of the piece shown as `j + 1`). Pieces of
a class look the same and may be exchanged; `true_places` exchanges them in favour of the order before it is scored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from jigsaw.rewards.errors import RewardError


def check_answer(answer: Sequence[int], classes: Sequence[int] | None = None) -> None:
    """Refuse an answer that is not a permutation of 1..K, or classes that are not one per piece.

    Raises:
        RewardError: names the fault.
    """
    if not answer or sorted(answer) != list(range(1, len(answer) + 1)):
        raise RewardError(f"answer {list(answer)} is not a permutation of 1..{len(answer)}; build the data set again")
    if classes is not None and len(classes) != len(answer):
        raise RewardError(
            f"{len(classes)} classes for {len(answer)} pieces; one class number per shown piece is needed"
        )


def true_places(
    order: Sequence[int] | None,
    answer: Sequence[int],
    classes: Sequence[int] | None = None,
    *,
    keep: Literal["places", "sequence"] = "places",
) -> list[int] | None:
    """The place where the piece at each place belongs, from which an order is scored; 0, 1, .., K-1 for the answer.

    Args:
        order: shown indices, place by place. Returns None unless it is a permutation of 1..K.
        answer: the right order, a permutation of 1..K.
        classes: one class number per shown piece, or None. Pieces of a class may be exchanged, so that each can belong
            at any place of its class; `keep` decides.
        keep: `places`: a piece that is at a place of its class belongs there, and the other places of the class are
            assigned from first to last. `sequence`: all places of a class are assigned from first to last, so that
            pieces of one class are never inverted. Both return 0, 1, .., K-1 exactly if every place has a piece of the
            right class.

    Raises:
        RewardError: the answer is not a permutation, or the number of classes is not K.

    >>> true_places([2, 1, 3], [2, 3, 1])
    [0, 2, 1]
    >>> true_places([2, 1, 3], [2, 3, 1], classes=[5, 7, 5])  # pieces 1 and 3 look the same
    [0, 1, 2]
    """
    check_answer(answer, classes)
    if order is None or len(order) != len(answer) or sorted(order) != sorted(answer):
        return None
    if classes is None:
        home = {piece: place for place, piece in enumerate(answer)}
        return [home[piece] for piece in order]
    placed = [classes[piece - 1] for piece in order]
    wanted = [classes[piece - 1] for piece in answer]
    kept = [keep == "places" and here == there for here, there in zip(placed, wanted, strict=True)]
    free: dict[int, list[int]] = defaultdict(list)
    for place in range(len(answer) - 1, -1, -1):  # from last to first, so that `pop` returns the first
        if not kept[place]:
            free[wanted[place]].append(place)
    return [place if stays else free[kind].pop() for place, (kind, stays) in enumerate(zip(placed, kept, strict=True))]


def exact(order: Sequence[int] | None, answer: Sequence[int], classes: Sequence[int] | None = None) -> float:
    """1.0 if every place has its piece (or one of its class), else 0.0.

    >>> exact([2, 3, 1], [2, 3, 1]), exact([2, 1, 3], [2, 3, 1]), exact(None, [2, 3, 1])
    (1.0, 0.0, 0.0)
    """
    return float(place_accuracy(order, answer, classes) == 1.0)


def place_accuracy(order: Sequence[int] | None, answer: Sequence[int], classes: Sequence[int] | None = None) -> float:
    """The fraction of places that have their piece (or one of its class). A multiple of 1/K; never (K-1)/K.

    >>> place_accuracy([2, 1, 3], [2, 3, 1])
    0.3333333333333333
    """
    places = true_places(order, answer, classes)
    if places is None:
        return 0.0
    return sum(here == there for here, there in enumerate(places)) / len(places)


def neighbor_accuracy(
    order: Sequence[int] | None,
    answer: Sequence[int],
    classes: Sequence[int] | None = None,
    *,
    grid: tuple[int, int] | None = None,
) -> float:
    """The fraction of neighbouring places whose two pieces are neighbours in the same direction in the answer.

    It credits a block whose pieces are in the right order at the wrong places, which place accuracy does not.

    Args:
        order: shown indices, place by place, or None.
        answer: the right order.
        classes: one class number per shown piece, or None.
        grid: rows and columns of the places in raster order; pairs are right-hand and lower neighbours. None: places
            in a row (clips, points). A single piece has no pairs and counts as right.

    Raises:
        RewardError: the grid does not have K places.

    >>> neighbor_accuracy([2, 3, 1], [1, 2, 3])
    0.5
    >>> neighbor_accuracy([3, 4, 1, 2], [1, 2, 3, 4], grid=(2, 2))  # rows exchanged: only row pairs are right
    0.5
    """
    rows, columns = grid or (1, len(answer))
    if rows * columns != len(answer):
        raise RewardError(f"grid {rows}x{columns} has {rows * columns} places, the answer {len(answer)}")
    places = true_places(order, answer, classes)
    if places is None:
        return 0.0
    right = [(place, place + 1) for place in range(len(places)) if (place + 1) % columns]
    below = [(place, place + columns) for place in range(len(places) - columns)]
    if not right and not below:
        return 1.0
    hits = sum(places[b] == places[a] + 1 and places[b] % columns != 0 for a, b in right)
    hits += sum(places[b] == places[a] + columns for a, b in below)
    return hits / (len(right) + len(below))


def kendall_tau(order: Sequence[int] | None, answer: Sequence[int], classes: Sequence[int] | None = None) -> float:
    """Kendall's tau scaled to [0, 1]: the fraction of pairs of pieces in the right sequence, (tau + 1) / 2.

    0 for the reversed answer, 1/2 on average for random orders. A single piece counts as right.

    >>> kendall_tau([1, 3, 2], [1, 2, 3])
    0.6666666666666667
    """
    places = true_places(order, answer, classes, keep="sequence")
    if places is None:
        return 0.0
    size = len(places)
    if size == 1:
        return 1.0
    inversions = sum(places[a] > places[b] for a in range(size) for b in range(a + 1, size))
    return 1.0 - inversions / (size * (size - 1) / 2)


def footrule(order: Sequence[int] | None, answer: Sequence[int], classes: Sequence[int] | None = None) -> float:
    """Spearman's footrule scaled to [0, 1]: one minus the sum of displacements over its maximum, floor(K^2 / 2).

    0 for the reversed answer. A single piece counts as right.

    >>> footrule([1, 3, 2], [1, 2, 3])
    0.5
    """
    places = true_places(order, answer, classes, keep="sequence")
    if places is None:
        return 0.0
    if len(places) == 1:
        return 1.0
    return 1.0 - sum(abs(here - there) for here, there in enumerate(places)) / (len(places) ** 2 // 2)


def longest_run(order: Sequence[int] | None, answer: Sequence[int], classes: Sequence[int] | None = None) -> float:
    """The length of the longest run of consecutive right places, in raster order or time, divided by K.

    >>> longest_run([1, 2, 4, 3], [1, 2, 3, 4])
    0.5
    """
    places = true_places(order, answer, classes)
    if places is None:
        return 0.0
    longest = run = 0
    for here, there in enumerate(places):
        run = run + 1 if here == there else 0
        longest = max(longest, run)
    return longest / len(places)


def smoothed(
    order: Sequence[int] | None,
    answer: Sequence[int],
    classes: Sequence[int] | None = None,
    *,
    grid: tuple[int, int] | None = None,
    decay: float = 0.5,
) -> float:
    """The mean over places of `decay ** distance`, where the distance is from the place to where its piece belongs.

    Args:
        order: shown indices, place by place, or None.
        answer: the right order.
        classes: one class number per shown piece, or None.
        grid: rows and columns of the places; the distance is then counted in steps along rows and columns.
        decay: factor of the credit per step, in [0, 1). At 0 the score is the place accuracy.

    Raises:
        RewardError: the grid does not have K places, or the decay is out of range.

    >>> smoothed([1, 3, 2], [1, 2, 3])
    0.6666666666666666
    """
    rows, columns = grid or (1, len(answer))
    if rows * columns != len(answer):
        raise RewardError(f"grid {rows}x{columns} has {rows * columns} places, the answer {len(answer)}")
    if not 0.0 <= decay < 1.0:
        raise RewardError(f"decay is {decay}; it must be at least 0 and below 1")
    places = true_places(order, answer, classes)
    if places is None:
        return 0.0
    steps = [
        abs(here // columns - there // columns) + abs(here % columns - there % columns)
        for here, there in enumerate(places)
    ]
    return sum(decay**step for step in steps) / len(places)
