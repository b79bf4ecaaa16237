"""Scores of orders: range, maximum, relabelling, identical pieces, and chance in closed form against enumeration."""

from itertools import permutations, product
from math import factorial
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jigsaw import rewards
from jigsaw.rewards import RewardError, order_reward, true_places

GRIDS = {4: (2, 2), 6: (2, 3), 9: (3, 3)}
SCORES = {
    "exact": rewards.exact,
    "place_accuracy": rewards.place_accuracy,
    "neighbor_accuracy": rewards.neighbor_accuracy,
    "neighbor_accuracy_2d": lambda *args: rewards.neighbor_accuracy(*args, grid=GRIDS.get(len(args[1]))),
    "kendall_tau": rewards.kendall_tau,
    "footrule": rewards.footrule,
    "longest_run": rewards.longest_run,
    "smoothed": rewards.smoothed,
    "smoothed_2d": lambda *args: rewards.smoothed(*args, grid=GRIDS.get(len(args[1]))),
    "order_reward": order_reward,
}
each_score = pytest.mark.parametrize("score", SCORES.values(), ids=SCORES.keys())


@st.composite
def order_and_answer(draw, classes=False):
    size = draw(st.integers(1, 9))
    numbers = range(1, size + 1)
    pair = draw(st.permutations(numbers)), draw(st.permutations(numbers))
    if not classes:
        return pair
    return *pair, draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))


@each_score
@settings(deadline=None)
@given(order_and_answer())
def test_a_score_is_from_0_to_1_and_1_only_for_the_answer(score, pair):
    order, answer = pair
    value = score(order, answer)
    assert 0.0 <= value <= 1.0
    assert (value == 1.0) == (order == answer)
    assert score(answer, answer) == 1.0


@each_score
@settings(deadline=None)
@given(order_and_answer(classes=True), st.randoms(use_true_random=False))
def test_relabelling_the_pieces_keeps_the_score(score, sample, rng):
    order, answer, classes = sample
    new = rng.sample(range(1, len(order) + 1), len(order))
    moved = [0] * len(order)
    for old, number in enumerate(new):
        moved[number - 1] = classes[old]
    renamed = [new[piece - 1] for piece in order], [new[piece - 1] for piece in answer]
    assert score(*renamed) == score(order, answer)
    assert score(*renamed, moved) == score(order, answer, classes)


@each_score
@settings(deadline=None)
@given(order_and_answer(classes=True))
def test_identical_pieces_may_be_swapped(score, sample):
    order, answer, classes = sample
    value = score(order, answer, classes)
    right = [classes[piece - 1] for piece in order] == [classes[piece - 1] for piece in answer]
    assert 0.0 <= value <= 1.0
    assert (value == 1.0) == right
    for a, b in product(range(len(order)), repeat=2):
        if classes[order[a] - 1] == classes[order[b] - 1]:
            swapped = list(order)
            swapped[a], swapped[b] = swapped[b], swapped[a]
            assert score(swapped, answer, classes) == value


@each_score
@given(order_and_answer())
def test_classes_of_one_piece_each_keep_the_score(score, pair):
    order, answer = pair
    assert score(order, answer, list(range(len(order)))) == score(order, answer)


@pytest.mark.parametrize("name", ["exact", "place_accuracy", "longest_run", "order_reward", "kendall_tau", "footrule"])
@settings(deadline=None)
@given(order_and_answer(classes=True))
def test_identical_pieces_never_lower_the_score(name, sample):
    order, answer, classes = sample
    assert SCORES[name](order, answer, classes) >= SCORES[name](order, answer) - 1e-12


@each_score
@pytest.mark.parametrize("order", [None, [], [1, 2], [1, 1, 1], [1, 2, 99], [0, 1, 2], [1, 2, 3, 3], [2, 3, 1, 4]])
def test_an_order_that_is_not_a_permutation_scores_zero(score, order):
    assert score(order, [2, 3, 1]) == 0.0


@each_score
def test_an_answer_that_is_not_a_permutation_is_refused(score):
    with pytest.raises(RewardError, match=r"not a permutation of 1\.\.3"):
        score([1, 2, 3], [1, 2, 2])
    with pytest.raises(RewardError, match="2 classes for 3 pieces"):
        score([1, 2, 3], [1, 2, 3], [0, 0])


def test_the_answer_is_not_its_inverse():
    """Shown order [2, 0, 1] has the answer [2, 3, 1]; its inverse, [3, 1, 2], has no piece in the right place."""
    assert order_reward([2, 3, 1], [2, 3, 1]) == 1.0
    assert order_reward([3, 1, 2], [2, 3, 1]) == 0.0


def test_scores_of_chosen_orders_have_the_expected_values():
    right = list(range(1, 10))
    swapped = [2, 1, *right[2:]]
    assert order_reward(swapped, right) == pytest.approx(0.2 * 7 / 9)
    assert rewards.longest_run(swapped, right) == 7 / 9
    assert rewards.kendall_tau(right[::-1], right) == rewards.footrule(right[::-1], right) == 0.0
    shifted = [*right[1:], 1]
    assert rewards.place_accuracy(shifted, right) == 0.0
    assert rewards.neighbor_accuracy(shifted, right) == 7 / 8
    rows_rotated = [4, 5, 6, 7, 8, 9, 1, 2, 3]
    assert rewards.neighbor_accuracy(rows_rotated, right, grid=(3, 3)) == 9 / 12
    assert rewards.neighbor_accuracy([1, 2, 3, 4], [1, 2, 3, 4], grid=(2, 2)) == 1.0
    assert rewards.neighbor_accuracy([3, 1, 4, 2], [1, 2, 3, 4], grid=(2, 2)) == 0.0  # rotated by 90 degrees
    assert rewards.smoothed(swapped, right) == pytest.approx((7 + 2 * 0.5) / 9)
    assert rewards.smoothed(swapped, right, decay=0.0) == rewards.place_accuracy(swapped, right)
    assert true_places([1, 2, 3], [2, 3, 1], [0, 0, 0]) == [0, 1, 2]


def test_wrong_options_are_refused():
    with pytest.raises(RewardError, match="grid 2x2 has 4 places, the answer 3"):
        rewards.neighbor_accuracy([1, 2, 3], [1, 2, 3], grid=(2, 2))
    with pytest.raises(RewardError, match="grid"):
        rewards.neighbor_accuracy([1, 2, 3, 4, 5], [1, 2, 3, 4, 5], grid=(2, 3))
    with pytest.raises(RewardError, match=r"decay is 1\.0"):
        rewards.smoothed([1, 2, 3], [1, 2, 3], decay=1.0)


def test_the_closed_forms_equal_the_mean_over_all_orders_of_nine_pieces():
    answer = list(range(1, 10))
    hits = [0] * 10
    reward = 0.0
    for order in permutations(answer):
        hits[sum(map(int.__eq__, order, answer))] += 1
        reward += order_reward(order, answer)
    assert sum(hits) == factorial(9)
    assert sum(count * places for places, count in enumerate(hits)) == factorial(9) * 9 * rewards.chance_place_accuracy(
        9
    )
    assert hits[9] == factorial(9) * rewards.chance_exact(9)
    assert reward / factorial(9) == pytest.approx(rewards.chance_order_reward(9), rel=1e-9)
    assert reward / factorial(9) == pytest.approx(0.2 / 9 + 0.8 / factorial(9), rel=1e-9)
    assert round(rewards.chance_order_reward(9), 7) == 0.0222244


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6])
def test_the_closed_forms_equal_the_mean_over_all_orders_of_fewer_pieces(size):
    answer = list(range(1, size + 1))
    every = list(permutations(answer))

    def mean(score, **options):
        return pytest.approx(fmean(score(order, answer, **options) for order in every))

    assert rewards.chance_exact(size) == mean(rewards.exact)
    assert rewards.chance_place_accuracy(size) == mean(rewards.place_accuracy)
    assert rewards.chance_kendall_tau(size) == mean(rewards.kendall_tau)
    for grid in (None, GRIDS.get(size)):
        assert rewards.chance_neighbor_accuracy(size, grid=grid) == mean(rewards.neighbor_accuracy, grid=grid)
    for options in ({}, {"discount": 0.7}, {"min_pieces_for_partial": 5}):
        assert rewards.chance_order_reward(size, **options) == mean(order_reward, **options)


@pytest.mark.parametrize("classes", [[0, 0, 1, 2, 3, 4], [0, 0, 0, 1, 1, 2], [0] * 6, [3, 1, 2, 1, 3, 2]])
def test_the_closed_forms_hold_with_identical_pieces(classes):
    answer = [3, 1, 6, 2, 5, 4]
    every = list(permutations(answer))
    places = [rewards.place_accuracy(order, answer, classes) for order in every]
    assert rewards.chance_place_accuracy(6, classes) == pytest.approx(fmean(places))
    assert rewards.chance_exact(6, classes) == pytest.approx(sum(place == 1 for place in places) / len(every))
    mean = fmean(order_reward(order, answer, classes) for order in every)
    assert rewards.chance_order_reward(6, classes) == pytest.approx(mean)
    placed = [classes[piece - 1] for piece in answer]
    assert rewards.chance_kendall_tau(6, placed) == pytest.approx(
        fmean(rewards.kendall_tau(order, answer, classes) for order in every)
    )
    for grid in (None, (2, 3), (3, 2)):
        mean = fmean(rewards.neighbor_accuracy(order, answer, classes, grid=grid) for order in every)
        assert rewards.chance_neighbor_accuracy(6, placed, grid=grid) == pytest.approx(mean)


def test_a_chance_with_too_many_arrangements_is_refused():
    with pytest.raises(RewardError, match="arrangements of these classes"):
        rewards.chance_neighbor_accuracy(16, [0, 1, 2, 3] * 4, grid=(4, 4))
