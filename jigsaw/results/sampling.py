"""Several completions of one puzzle: pass@k, and the majority vote over orders."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np


def pass_at_k(right: int, samples: int, k: int) -> float:
    """The probability that k of the samples, drawn without replacement, hold a right one: 1 - C(n-c, k) / C(n, k).

    The unbiased estimator of Chen et al., "Evaluating Large Language Models Trained on Code" (2021), section 2.1.

    >>> pass_at_k(1, 4, 1), pass_at_k(1, 4, 4), pass_at_k(0, 4, 4)
    (0.25, 1.0, 0.0)
    """
    return 1.0 - comb(samples - right, k) / comb(samples, k)


def powers_of_two(samples: int) -> list[int]:
    """1, 2, 4, ... up to `samples`, and `samples` itself: the k at which pass@k is reported.

    >>> powers_of_two(6)
    [1, 2, 4, 6]
    """
    return sorted({samples, *(2**power for power in range(samples.bit_length()))})


def majority_order(orders: Sequence[Sequence[int] | None]) -> list[int] | None:
    """The permutation with most votes, by linear assignment; an order casts one vote for each of its places.

    Args:
        orders: permutations of 1..K; None (no valid answer) casts no vote. Of permutations with equally many votes the
            one that agrees most with the earliest orders is taken.

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
        # The sum of what earlier orders get beyond their vote stays below one vote.
        votes[range(len(order)), np.asarray(order) - 1] += 1 + (len(cast) - number) / (len(order) * len(cast) ** 2 + 1)
    found, pieces = linear_sum_assignment(votes, maximize=True)
    return [int(piece) + 1 for _, piece in sorted(zip(found, pieces, strict=True))]
