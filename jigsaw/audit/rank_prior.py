"""How much of the answer a few numbers about each piece give away: a prior of places, fitted on other sources.

In: per puzzle a small table of symbols, one row per shown piece (its rank in brightness, say), and the answer. Out: the
order that the symbols make most likely. The model is naive Bayes, P(symbol | place) by counting, with the best
permutation by linear assignment; sources are dealt out to folds, and a puzzle is never judged by its own.
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
    """How many of the values are smaller, for each; equal values share a rank, so that no order is read out of ties.

    >>> ranks([5.0, 1.0, 5.0])
    [1, 0, 1]
    """
    return [sum(other < value for other in values) for value in values]


def fitted_orders(
    tables: Sequence[Symbols], answers: Sequence[Sequence[int]], sources: Sequence[str]
) -> list[list[int]]:
    """The most likely order of every puzzle, by the puzzles of other folds.

    Args:
        tables: per puzzle int symbols of shape `(K, F)`, row j of the piece shown as `j + 1`; all of one shape.
        answers: the right orders.
        sources: what each was made from. With a single one the puzzles themselves are dealt out.

    Returns:
        Shown indices by place, from 1.
    """
    from scipy.optimize import linear_sum_assignment

    alone = len(set(sources)) < 2
    folds = np.array([_fold(str(at) if alone else source) for at, source in enumerate(sources)])
    stacked = np.stack(tables)
    _, codes = np.unique(stacked, return_inverse=True)
    codes = codes.reshape(stacked.shape)
    count, pieces, features = stacked.shape
    kinds = int(codes.max()) + 1
    places = np.argsort(np.array(answers), axis=1)  # places[p, j]: where the piece shown as j + 1 belongs
    orders: list[list[int]] = [[] for _ in range(count)]
    # Where symbols tell nothing the assignment is drawn: left to itself it would follow the numbers of the pieces.
    ties = np.random.default_rng(0).uniform(0, 1e-9, (count, pieces, pieces))
    for fold in set(folds.tolist()):
        seen = np.ones((features, pieces, kinds))  # add-one smoothing
        for feature in range(features):
            known = folds != fold
            np.add.at(seen[feature], (places[known].reshape(-1), codes[known, :, feature].reshape(-1)), 1)
        likely = np.log(seen / seen.sum(axis=2, keepdims=True))
        for at in np.flatnonzero(folds == fold):
            gain = ties[at] + sum(likely[feature][:, codes[at, :, feature]] for feature in range(features))
            orders[at] = [int(piece) + 1 for piece in linear_sum_assignment(gain, maximize=True)[1]]
    return orders


def commonest(answers: Sequence[Sequence[int]], sources: Sequence[str]) -> list[list[int]]:
    """For every puzzle the answer that is most frequent among the puzzles of other folds."""
    alone = len(set(sources)) < 2
    folds = [_fold(str(at) if alone else source) for at, source in enumerate(sources)]
    best: dict[int, list[int] | None] = {}
    for fold in set(folds):
        others = [tuple(answer) for answer, other in zip(answers, folds, strict=True) if other != fold]
        counted = Counter(sorted(others)).most_common(1)
        best[fold] = list(counted[0][0]) if counted else None
    return [best[fold] or list(range(1, len(answer) + 1)) for answer, fold in zip(answers, folds, strict=True)]


def _fold(source: str) -> int:
    return sha256(source.encode("utf-8", "replace")).digest()[0] % FOLDS
