"""Orders from a few features of each piece: a naive Bayes prior of places, fitted on other sources.

In: for each puzzle a small table of symbols with one row per shown piece (such as its rank in brightness), and the
answer. Out: the most likely order. P(symbol | place) is counted, and the best permutation is found by linear
assignment. Sources are assigned to folds, and the prior of a puzzle comes from the other folds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np

FOLDS = 5

Symbols = np.ndarray[Any, np.dtype[np.int64]]


def ranks(values: Sequence[float]) -> list[int]:
    """For each value the number of smaller values. Equal values have the same rank.

    >>> ranks([5.0, 1.0, 5.0])
    [1, 0, 1]
    """
    return [sum(other < value for other in values) for value in values]


def fitted_orders(
    tables: Sequence[Symbols], answers: Sequence[Sequence[int]], sources: Sequence[str]
) -> list[list[int]]:
    """The most likely order of each puzzle, from the puzzles of other folds.

    Args:
        tables: for each puzzle int symbols of shape `(K, F)`; row j is the piece with the shown index `j + 1`.
        answers: the right orders.
        sources: what each puzzle was made from. If there is only one source, puzzles are assigned to folds.

    Returns:
        Shown indices by place, from 1.
    """
    from scipy.optimize import linear_sum_assignment

    folds = np.array(_folds(sources))
    stacked = np.stack(tables)
    _, codes = np.unique(stacked, return_inverse=True)
    codes = codes.reshape(stacked.shape)
    count, pieces, features = stacked.shape
    kinds = int(codes.max()) + 1
    places = np.argsort(np.array(answers), axis=1)  # places[p, j]: where the piece shown as j + 1 belongs
    orders: list[list[int]] = [[] for _ in range(count)]
    # Random tie-breaking: without it uninformative symbols would give the order of the shown indices.
    ties = np.random.default_rng(0).uniform(0, 1e-9, (count, pieces, pieces))
    for fold in set(folds.tolist()):
        seen = np.ones((features, pieces, kinds))  # add-one smoothing
        for feature in range(features):
            others = folds != fold
            np.add.at(seen[feature], (places[others].reshape(-1), codes[others, :, feature].reshape(-1)), 1)
        likely = np.log(seen / seen.sum(axis=2, keepdims=True))
        for at in np.flatnonzero(folds == fold):
            gain = ties[at] + sum(likely[feature][:, codes[at, :, feature]] for feature in range(features))
            orders[at] = [int(piece) + 1 for piece in linear_sum_assignment(gain, maximize=True)[1]]
    return orders


def commonest(answers: Sequence[Sequence[int]], sources: Sequence[str]) -> list[list[int]]:
    """For each puzzle the most frequent answer among the puzzles of other folds."""
    folds = _folds(sources)
    best: dict[int, list[int] | None] = {}
    for fold in set(folds):
        others = [tuple(answer) for answer, other in zip(answers, folds, strict=True) if other != fold]
        counted = Counter(sorted(others)).most_common(1)
        best[fold] = list(counted[0][0]) if counted else None
    return [best[fold] or list(range(1, len(answer) + 1)) for answer, fold in zip(answers, folds, strict=True)]


def _folds(sources: Sequence[str]) -> list[int]:
    """The fold of each puzzle, by its source, or by its number if there is only one source."""
    keys = sources if len(set(sources)) > 1 else [str(number) for number in range(len(sources))]
    return [sha256(key.encode("utf-8", "replace")).digest()[0] % FOLDS for key in keys]
