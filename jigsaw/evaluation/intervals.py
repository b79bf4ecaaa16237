"""Intervals for means over puzzles that share sources. A photo's puzzles rise and fall together: sources are resampled.

In: one value per puzzle and the source of each. Out: the mean with a 95% percentile bootstrap interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
DRAWS_AT_ONCE = 4_000_000
SEED = 0


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95% interval."""

    value: float
    low: float
    high: float


def bootstrap_mean(values: Sequence[float], sources: Sequence[str]) -> Estimate:
    """Mean of `values` with a cluster bootstrap interval over `sources`.

    Whole sources are drawn with replacement, as many as there are, 10,000 times; the interval runs from the 2.5th to
    the 97.5th percentile of the means (Efron's percentile method). The draw is seeded: equal data give equal intervals.

    Args:
        values: one number per puzzle; for a paired comparison, the differences.
        sources: what each puzzle was made from.

    Raises:
        ValueError: no values, or lengths that differ.

    >>> bootstrap_mean([1.0, 1.0, 0.0, 0.0], ["a", "a", "b", "b"])
    Estimate(value=0.5, low=0.0, high=1.0)
    """
    if not values or len(values) != len(sources):
        raise ValueError(f"{len(values)} values for {len(sources)} sources")
    names, index = np.unique(np.asarray(sources), return_inverse=True)
    sums = np.bincount(index, weights=np.asarray(values, dtype=np.float64))
    counts = np.bincount(index).astype(np.float64)
    generator = np.random.default_rng(SEED)
    shares = np.full(len(names), 1 / len(names))
    at_once = max(1, DRAWS_AT_ONCE // len(names))  # all draws of 50,000 sources at once would take 4 GB
    means = []
    for done in range(0, RESAMPLES, at_once):
        draws = generator.multinomial(len(names), shares, size=min(at_once, RESAMPLES - done))
        means.append((draws @ sums) / (draws @ counts))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return Estimate(float(np.mean(np.asarray(values, dtype=np.float64))), float(low), float(high))
