"""95% intervals of means over puzzles. Puzzles of one source are correlated, so the intervals are over sources.

In: one value per puzzle, and its source. Out: the mean with its interval, by one of two methods:

- `rate_interval`, for values in [0, 1]: Wilson's score interval. If sources repeat, or values are not only 0 and 1, it
  uses the effective sample size, which a jackknife over sources estimates. Its coverage also holds near 0 and 1, where
  resampled means do not vary and a percentile interval has no width.
- `bootstrap_mean`, for rewards and differences, which have no fixed range: whole sources are resampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 10_000
DRAWS_AT_ONCE = 4_000_000
SEED = 0
LEVEL = 0.95

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95% interval."""

    value: float
    low: float
    high: float


def rate_interval(values: Sequence[float], sources: Sequence[str]) -> Estimate:
    """Mean of values in [0, 1] with Wilson's score interval (Wilson 1927) over sources.

    With one value of 0 or 1 per source the sample size is the number of sources. Otherwise it is p (1 - p) / V, where V
    is the variance of the mean under the jackknife over sources. It is multiplied by the squared ratio of the normal to
    Student's quantile, which makes it smaller for few sources (Korn and Graubard 1998). Half a source of ones and half
    a source of zeros are added before V is estimated, so that it is not zero where nearly all values are equal.

    Args:
        values: one number in [0, 1] per puzzle.
        sources: what each puzzle was made from.

    Raises:
        ValueError: there are no values, the lengths differ, or a value is outside [0, 1].

    >>> rate_interval([1.0, 0.0], ["a", "b"])
    Estimate(value=0.5, low=0.09453120573423074, high=0.9054687942657693)
    >>> rate_interval([0.0] * 20, [f"{i}.jpg" for i in range(20)])
    Estimate(value=0.0, low=0.0, high=0.16112515805281938)
    """
    from scipy.special import ndtri, stdtrit  # importing scipy.stats takes much longer

    array, sums, counts = _by_source(values, sources)
    if array.min() < 0 or array.max() > 1:
        raise ValueError(f"a rate needs values from 0 to 1, not from {array.min()} to {array.max()}")
    mean, clusters, normal = float(array.mean()), len(sums), float(ndtri((1 + LEVEL) / 2))
    if len(array) == clusters and bool(np.isin(array, (0.0, 1.0)).all()):
        size = float(clusters)
    elif clusters == 1:
        size = 1.0
    else:
        half_source = array.size / clusters / 2
        sums, counts = np.append(sums, [half_source, 0.0]), np.append(counts, [half_source, half_source])
        without = (sums.sum() - sums) / (counts.sum() - counts)
        variance = (1 - 1 / len(sums)) * float(((without - without.mean()) ** 2).sum())
        centre = float(sums.sum() / counts.sum())
        size = centre * (1 - centre) / variance
        size *= (normal / float(stdtrit(clusters - 1, (1 + LEVEL) / 2))) ** 2
    squared = normal * normal
    centre = (mean + squared / (2 * size)) / (1 + squared / size)
    half = normal / (1 + squared / size) * (mean * (1 - mean) / size + squared / (4 * size * size)) ** 0.5
    # Rounding must not move an end past the mean, or out of [0, 1].
    return Estimate(mean, max(0.0, min(centre - half, mean)), min(1.0, max(centre + half, mean)))


def bootstrap_mean(values: Sequence[float], sources: Sequence[str]) -> Estimate:
    """Mean of `values` with a cluster bootstrap interval over `sources`.

    Whole sources are sampled with replacement 10,000 times. The interval is from the 2.5th to the 97.5th percentile of
    the means (Efron's percentile method). The sampling is seeded, so equal data give equal intervals.

    Args:
        values: one number per puzzle; for a paired comparison, the differences.
        sources: what each puzzle was made from.

    Raises:
        ValueError: there are no values, or the lengths differ.

    >>> bootstrap_mean([1.0, 1.0, 0.0, 0.0], ["a", "a", "b", "b"])
    Estimate(value=0.5, low=0.0, high=1.0)
    """
    array, sums, counts = _by_source(values, sources)
    generator = np.random.default_rng(SEED)
    shares = np.full(len(sums), 1 / len(sums))
    at_once = max(1, DRAWS_AT_ONCE // len(sums))  # all samples of 50,000 sources at once would take 4 GB
    means = []
    for done in range(0, RESAMPLES, at_once):
        draws = generator.multinomial(len(sums), shares, size=min(at_once, RESAMPLES - done))
        means.append((draws @ sums) / (draws @ counts))
    low, high = np.percentile(np.concatenate(means), [100 * (1 - LEVEL) / 2, 100 * (1 + LEVEL) / 2])
    return Estimate(float(array.mean()), float(low), float(high))


def sign_flip_p(differences: Sequence[float], sources: Sequence[str]) -> float:
    """Two-sided p-value that paired differences have mean 0: Fisher's randomisation test over sources.

    If neither model is better, exchanging the two models on all puzzles of a source changes nothing. For up to 12
    sources with a difference all 2^S exchanges are tried, else 10,000 random ones with a fixed seed.

    Raises:
        ValueError: there are no differences, or the lengths differ.

    >>> sign_flip_p([1.0, 1.0, 1.0, 1.0], ["a", "b", "c", "d"])  # 2 of the 16 exchanges are as far from zero
    0.125
    """
    _, sums, _ = _by_source(differences, sources)
    sums = sums[np.abs(sums) > 1e-12]
    if not len(sums):
        return 1.0
    exhaustive = len(sums) <= 12
    if exhaustive:
        signs = 1 - 2 * ((np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums))) & 1)
        reached = np.abs(signs @ sums)
    else:
        generator = np.random.default_rng(SEED)
        at_once = max(1, DRAWS_AT_ONCE // len(sums))
        parts = [
            np.abs((1 - 2 * generator.integers(0, 2, (min(at_once, RESAMPLES - done), len(sums)))) @ sums)
            for done in range(0, RESAMPLES, at_once)
        ]
        reached = np.concatenate(parts)
    as_far = int((reached >= abs(sums.sum()) - 1e-9).sum())
    return as_far / len(reached) if exhaustive else (as_far + 1) / (len(reached) + 1)


def _by_source(values: Sequence[float], sources: Sequence[str]) -> tuple[Array, Array, Array]:
    """The values as an array, and for each source the sum and the number of its values."""
    if not len(values) or len(values) != len(sources):
        raise ValueError(f"{len(values)} values for {len(sources)} sources")
    array = np.asarray(values, dtype=np.float64)
    _, index = np.unique(np.asarray(sources), return_inverse=True)
    counts = np.bincount(index).astype(np.float64)
    return array, np.bincount(index, weights=array).astype(np.float64), counts
