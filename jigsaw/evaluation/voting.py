"""Several answers to one puzzle: how often at least one of k is right, and what they are worth as a vote.

In: orders, or whether they are right. Out: pass@k, and the order that the votes add up to.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np


def pass_at_k(right: int, samples: int, k: int) -> float:
    """The chance that k of the samples, drawn without replacement, hold a right one: 1 - C(n-c, k) / C(n, k).

    The unbiased estimator of Chen et al., "Evaluating Large Language Models Trained on Code" (2021), section 2.1.

    Args:
        right: how many samples are right, 0 to `samples`.
        samples: how many there are.
        k: how many are drawn, 1 to `samples`.

    >>> pass_at_k(1, 4, 1), pass_at_k(1, 4, 4), pass_at_k(0, 4, 4)
    (0.25, 1.0, 0.0)
    """
    return 1.0 - comb(samples - right, k) / comb(samples, k)


def majority_order(orders: Sequence[Sequence[int] | None]) -> list[int] | None:
    """The permutation that gathers most votes, place by place; an order casts one vote for each of its places.

    The places' favourites alone may name a piece twice; so the permutation with the largest sum of votes is taken
    (linear assignment). Of several, it is the one that agrees most with the earliest orders.

    Args:
        orders: permutations of 1..K; None (no valid answer) casts no vote.

    Returns:
        The order, or None if nobody voted.

    >>> majority_order([[1, 2, 3], [1, 3, 2], None, [1, 3, 2]])
    [1, 3, 2]
    """
    from scipy.optimize import linear_sum_assignment

    cast = [list(order) for order in orders if order is not None]
    if not cast:
        return None
    votes = np.zeros((len(cast[0]), len(cast[0])))
    for number, order in enumerate(cast):
        # The surplus of all earlier-than-others votes together stays below one whole vote.
        votes[range(len(order)), np.asarray(order) - 1] += 1 + (len(cast) - number) / (len(order) * len(cast) ** 2 + 1)
    places, pieces = linear_sum_assignment(votes, maximize=True)
    return [int(piece) + 1 for _, piece in sorted(zip(places, pieces, strict=True))]


def powers_of_two(samples: int) -> list[int]:
    """1, 2, 4, ... up to `samples`, and `samples` itself: the k at which pass@k is reported.

    >>> powers_of_two(6)
    [1, 2, 4, 6]
    """
    return sorted({samples, *(2**power for power in range(samples.bit_length()))})
