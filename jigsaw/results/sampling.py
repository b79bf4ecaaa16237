"""Several completions of one puzzle: pass@k, and the majority vote over orders."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np


def pass_at_k(right: int, samples: int, k: int) -> float:
    """The probability that k of n samples, of which c are right, include a right one: 1 - C(n-c, k) / C(n, k).

    The unbiased estimator of Chen et al., "Evaluating Large Language Models Trained on Code" (2021), section 2.1.

    >>> pass_at_k(1, 4, 1), pass_at_k(1, 4, 4), pass_at_k(0, 4, 4)
    (0.25, 1.0, 0.0)
    """
    return 1.0 - comb(samples - right, k) / comb(samples, k)


def powers_of_two(samples: int) -> list[int]:
    """The k for which pass@k is reported: 1, 2, 4, ... up to `samples`, and `samples` itself.

    >>> powers_of_two(6)
    [1, 2, 4, 6]
    """
    return sorted({samples, *(2**power for power in range(samples.bit_length()))})


def majority_order(orders: Sequence[Sequence[int] | None]) -> list[int] | None:
    """The permutation with the most votes, by linear assignment. An order has one vote for each of its places.

    Args:
        orders: permutations of 1..K. None (no valid answer) has no vote. A tie is decided for the permutation that
            agrees most with the earliest orders.

    Returns:
        The order, or None if there are no votes.

    >>> majority_order([[1, 2, 3], [1, 3, 2], None, [1, 3, 2]])
    [1, 3, 2]
    """
    from scipy.optimize import linear_sum_assignment

    voters = [list(order) for order in orders if order is not None]
    if not voters:
        return None
    votes = np.zeros((len(voters[0]), len(voters[0])))
    for number, order in enumerate(voters):
        # An earlier order has slightly more than one vote. The surplus of all orders stays below one vote.
        surplus = (len(voters) - number) / (len(order) * len(voters) ** 2 + 1)
        votes[range(len(order)), np.asarray(order) - 1] += 1 + surplus
    places, pieces = linear_sum_assignment(votes, maximize=True)
    return [int(piece) + 1 for _, piece in sorted(zip(places, pieces, strict=True))]
