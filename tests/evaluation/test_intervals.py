"""Bootstrap intervals: they cover at about the rate that they state, and puzzles of one photo count together."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jigsaw.evaluation.intervals import Estimate, bootstrap_mean

rows = st.lists(st.tuples(st.floats(-5, 5), st.sampled_from("abcdefg")), min_size=1, max_size=20)


def interval(pairs):
    return bootstrap_mean([value for value, _ in pairs], [source for _, source in pairs])


def simulated(generator, sources, puzzles, spread):
    """Scores of puzzles whose photo makes them all easier or harder; their true mean is 0."""
    photo = generator.normal(0, spread, sources)
    values = photo[:, None] + generator.normal(0, 1, (sources, puzzles))
    return values.reshape(-1).tolist(), np.repeat(np.arange(sources), puzzles).astype(str).tolist()


def coverage(regroup=lambda sources: sources, repeats=150):
    generator = np.random.default_rng(20)
    hits = 0
    for _ in range(repeats):
        values, sources = simulated(generator, sources=40, puzzles=6, spread=1.0)
        found = bootstrap_mean(values, regroup(sources))
        hits += found.low <= 0 <= found.high
    return hits / repeats


def test_the_true_mean_is_inside_at_about_the_stated_rate():
    # 150 binomial draws at 0.95: four standard deviations are 0.07. Few sources cover a bit less.
    assert 0.88 <= coverage() <= 0.995


def test_resampling_puzzles_instead_of_photos_would_be_far_too_sure():
    """The counter-example that shows the simulation can tell the two apart."""
    # In theory 0.70: the variance of the mean is 7/240, taken for 2/240.
    assert coverage(regroup=lambda sources: [str(i) for i in range(len(sources))], repeats=30) < 0.85


@settings(deadline=None, max_examples=40)
@given(rows)
def test_the_value_is_the_mean_of_the_puzzles_and_stands_inside_its_range(pairs):
    found = interval(pairs)
    assert found.value == pytest.approx(sum(value for value, _ in pairs) / len(pairs), abs=1e-9)
    values = [value for value, _ in pairs]
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9


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


def test_a_single_source_says_nothing_of_other_sources_and_has_no_width():
    assert bootstrap_mean([0.0, 1.0, 1.0, 0.0], ["a"] * 4) == Estimate(0.5, 0.5, 0.5)


@pytest.mark.parametrize("sources", [["a"] * 6, list("abcdef"), list("aabbcc")])
def test_values_that_are_all_equal_have_an_interval_of_no_width(sources):
    assert bootstrap_mean([0.25] * 6, sources) == Estimate(0.25, 0.25, 0.25)


def test_puzzles_of_one_photo_widen_the_interval():
    values = [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0] * 5
    apart = bootstrap_mean(values, [str(i) for i in range(40)])
    together = bootstrap_mean(values, [str(i // 4) for i in range(40)])
    assert together.high - together.low > 1.5 * (apart.high - apart.low)


def test_photos_of_unequal_size_are_drawn_whole():
    """Of photos with three puzzles and one, a draw is both (mean 0.75) or one of them twice (1.0 or 0.0)."""
    assert bootstrap_mean([1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"]) == Estimate(0.75, 0.0, 1.0)


def test_the_width_is_that_of_the_normal_theory_where_that_holds():
    values = (np.arange(400) % 2).astype(float).tolist()
    found = bootstrap_mean(values, [str(i) for i in range(400)])
    half = 1.96 * math.sqrt(0.25 / 400)
    assert found.low == pytest.approx(0.5 - half, abs=0.004)
    assert found.high == pytest.approx(0.5 + half, abs=0.004)


@pytest.mark.parametrize("values, sources", [([], []), ([1.0], []), ([1.0], ["a", "b"])])
def test_nothing_to_average_is_an_error(values, sources):
    with pytest.raises(ValueError, match="values for"):
        bootstrap_mean(values, sources)


def test_drawing_in_pieces_gives_the_same_interval(monkeypatch):
    values, sources = simulated(np.random.default_rng(4), sources=9, puzzles=3, spread=1.0)
    whole = bootstrap_mean(values, sources)
    monkeypatch.setattr("jigsaw.evaluation.intervals.DRAWS_AT_ONCE", 9 * 999)
    assert bootstrap_mean(values, sources) == whole
