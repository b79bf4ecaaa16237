"""Confidence intervals: their coverage, and the resampling of puzzles of one source together."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jigsaw.results.intervals import Estimate, bootstrap_mean, rate_interval, sign_flip_p

rows = st.lists(st.tuples(st.floats(-5, 5), st.sampled_from("abcdefg")), min_size=1, max_size=20)


def interval(pairs):
    return bootstrap_mean([value for value, _ in pairs], [source for _, source in pairs])


def simulated(generator, sources, puzzles, spread):
    """Simulated scores of puzzles with a random effect per photo; their true mean is 0."""
    photo = generator.normal(0, spread, sources)
    values = photo[:, None] + generator.normal(0, 1, (sources, puzzles))
    return values.reshape(-1).tolist(), np.repeat(np.arange(sources), puzzles).astype(str).tolist()


def coverage(regroup=lambda sources: sources, repeats=150):
    generator = np.random.default_rng(20)
    hits = 0
    for _ in range(repeats):
        values, sources = simulated(generator, sources=40, puzzles=6, spread=1.0)
        estimate = bootstrap_mean(values, regroup(sources))
        hits += estimate.low <= 0 <= estimate.high
    return hits / repeats


def test_the_interval_covers_the_true_mean_at_about_the_stated_rate():
    # Four standard deviations of 150 draws at 0.95 are 0.07. With few sources the coverage is slightly lower.
    assert 0.88 <= coverage() <= 0.995


def test_resampling_puzzles_instead_of_photos_has_too_little_coverage():
    """Shows that the simulation distinguishes the two ways of resampling."""
    # The theoretical coverage is 0.70: the variance of the mean is 7/240, but is estimated as 2/240.
    assert coverage(regroup=lambda sources: [str(i) for i in range(len(sources))], repeats=30) < 0.85


@settings(deadline=None, max_examples=40)
@given(rows)
def test_the_value_is_the_mean_and_the_interval_is_within_the_range_of_the_values(pairs):
    estimate = interval(pairs)
    assert estimate.value == pytest.approx(sum(value for value, _ in pairs) / len(pairs), abs=1e-9)
    values = [value for value, _ in pairs]
    assert min(values) - 1e-9 <= estimate.low <= estimate.high <= max(values) + 1e-9


@settings(deadline=None, max_examples=40)
@given(rows, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(pairs, random):
    shuffled = list(pairs)
    random.shuffle(shuffled)
    for one, other in zip(vars(interval(pairs)).values(), vars(interval(shuffled)).values(), strict=True):
        assert one == pytest.approx(other, abs=1e-9)


@settings(deadline=None, max_examples=20)
@given(rows)
def test_equal_data_give_equal_intervals(pairs):
    assert interval(pairs) == interval(pairs)


def test_the_interval_of_a_single_source_has_no_width():
    assert bootstrap_mean([0.0, 1.0, 1.0, 0.0], ["a"] * 4) == Estimate(0.5, 0.5, 0.5)


@pytest.mark.parametrize("sources", [["a"] * 6, list("abcdef"), list("aabbcc")])
def test_the_interval_of_equal_values_has_no_width(sources):
    assert bootstrap_mean([0.25] * 6, sources) == Estimate(0.25, 0.25, 0.25)


def test_puzzles_of_one_photo_widen_the_interval():
    values = [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0] * 5
    apart = bootstrap_mean(values, [str(i) for i in range(40)])
    together = bootstrap_mean(values, [str(i // 4) for i in range(40)])
    assert together.high - together.low > 1.5 * (apart.high - apart.low)


def test_photos_are_resampled_with_all_their_puzzles():
    """With photos of three puzzles and one, a resample has both (mean 0.75) or one of them twice (1.0 or 0.0)."""
    assert bootstrap_mean([1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"]) == Estimate(0.75, 0.0, 1.0)


def test_the_width_agrees_with_the_normal_approximation():
    values = (np.arange(400) % 2).astype(float).tolist()
    estimate = bootstrap_mean(values, [str(i) for i in range(400)])
    half = 1.96 * math.sqrt(0.25 / 400)
    assert estimate.low == pytest.approx(0.5 - half, abs=0.004)
    assert estimate.high == pytest.approx(0.5 + half, abs=0.004)


@pytest.mark.parametrize("values, sources", [([], []), ([1.0], []), ([1.0], ["a", "b"])])
def test_missing_values_or_sources_are_an_error(values, sources):
    with pytest.raises(ValueError, match="values for"):
        bootstrap_mean(values, sources)


def test_resampling_in_several_batches_gives_the_same_interval(monkeypatch):
    values, sources = simulated(np.random.default_rng(4), sources=9, puzzles=3, spread=1.0)
    in_one_batch = bootstrap_mean(values, sources)
    monkeypatch.setattr("jigsaw.results.intervals.DRAWS_AT_ONCE", 9 * 999)
    assert bootstrap_mean(values, sources) == in_one_batch


# Rates


def clustered_rates(generator, rate, sources, puzzles, pieces):
    """Simulated shares of right pieces with a random effect per photo; their true mean is `rate`."""
    photo_rate = generator.beta(3 * rate, 3 * (1 - rate), sources)[:, None]
    values = generator.binomial(pieces, np.broadcast_to(photo_rate, (sources, puzzles))) / pieces
    return values.reshape(-1).tolist(), np.repeat(np.arange(sources), puzzles).astype(str).tolist()


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.5, 0.95, 0.99])
@pytest.mark.parametrize("sources, puzzles, pieces", [(15, 8, 1), (60, 4, 4), (200, 1, 1), (40, 1, 9)])
def test_the_interval_of_a_rate_covers_it_at_about_the_stated_rate(rate, sources, puzzles, pieces):
    generator = np.random.default_rng(8)
    inside = 0
    for _ in range(400):
        estimate = rate_interval(*clustered_rates(generator, rate, sources, puzzles, pieces))
        inside += estimate.low <= rate <= estimate.high
    # Three standard deviations of 400 draws at 0.95 are 0.033. A bootstrap covers 0.47 at (0.01, 15, 8).
    assert inside / 400 >= 0.917


def test_the_bootstrap_interval_of_a_small_rate_has_too_little_coverage():
    """Shows why rates need another interval than means."""
    generator = np.random.default_rng(8)
    estimates = [bootstrap_mean(*clustered_rates(generator, 0.01, 15, 8, 1)) for _ in range(40)]
    assert sum(estimate.low <= 0.01 <= estimate.high for estimate in estimates) / 40 < 0.75


def test_the_interval_of_one_binary_value_per_source_is_wilsons():
    # Wilson 1927: centre (p + z^2 / 2n) / (1 + z^2 / n); 8 of 10 give 0.490 to 0.943.
    estimate = rate_interval([1.0] * 8 + [0.0] * 2, [str(i) for i in range(10)])
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abcdefg")), min_size=1, max_size=20))
def test_a_rate_is_within_its_interval_which_is_within_0_and_1(pairs):
    estimate = rate_interval([value for value, _ in pairs], [source for _, source in pairs])
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert estimate.high > estimate.low


def test_puzzles_of_one_photo_widen_the_interval_of_a_rate():
    values = [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0] * 5
    apart = rate_interval(values, [str(i) for i in range(40)])
    together = rate_interval(values, [str(i // 4) for i in range(40)])
    assert together.high - together.low > 1.5 * (apart.high - apart.low)


def test_a_value_outside_0_and_1_is_refused():
    with pytest.raises(ValueError, match="0 to 1"):
        rate_interval([0.2, 1.2], ["a", "b"])


# The significance of a difference


def test_all_sign_flips_of_few_sources_are_enumerated():
    assert sign_flip_p([1.0] * 5, list("abcde")) == 2 / 32
    assert sign_flip_p([1.0] * 5, ["a"] * 5) == 1.0  # one photo has no significance
    assert sign_flip_p([0.0] * 5, list("abcde")) == 1.0


@pytest.mark.parametrize("sources", [8, 30])
def test_equal_models_differ_significantly_at_the_stated_rate(sources):
    generator = np.random.default_rng(9)
    names = np.repeat(np.arange(sources), 4).astype(str).tolist()
    p_values = []
    for _ in range(200):
        shared = generator.normal(0, 1, sources)[:, None]
        p_values.append(sign_flip_p((shared + generator.normal(0, 1, (sources, 4))).reshape(-1).tolist(), names))
    assert sum(p <= 0.05 for p in p_values) / 200 <= 0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5


def test_a_real_difference_is_significant():
    generator = np.random.default_rng(9)
    assert sign_flip_p((1 + generator.normal(0, 1, 60)).tolist(), [str(i // 2) for i in range(60)]) < 0.001
