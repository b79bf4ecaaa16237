"""Permutations: the convention of answers, and uniform sampling of shown orders."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jigsaw.tasks import Puzzle, TaskError, answer_of, draw_shown, shown_of

orders = st.integers(2, 64).flatmap(lambda count: st.permutations(range(count)))


@given(orders)
def test_the_answer_lists_the_shown_index_of_the_piece_of_each_place(shown):
    answer = answer_of(shown)
    assert [shown[index - 1] for index in answer] == list(range(len(shown)))


@given(orders)
def test_the_shown_order_is_recovered_from_the_answer(shown):
    assert shown_of(answer_of(shown)) == tuple(shown)


def test_the_answer_is_not_the_shown_order_itself():
    """For the shown order third, first, second the answer is 2, 3, 1, not 3, 1, 2."""
    inverse = tuple(original + 1 for original in (2, 0, 1))
    assert answer_of((2, 0, 1)) == (2, 3, 1) != inverse


@pytest.mark.parametrize(("identity", "kinds"), [(True, 6), (False, 5)])
def test_shown_orders_are_uniform_over_the_allowed_ones(identity, kinds):
    rng, draws = Random(1), 12_000
    counts = Counter(draw_shown(3, rng, identity=identity) for _ in range(draws))
    assert len(counts) == kinds
    assert max(abs(count - draws / kinds) for count in counts.values()) < 5 * (draws / kinds) ** 0.5
    assert ((0, 1, 2) in counts) is identity


def test_a_puzzle_of_one_piece_is_refused():
    with pytest.raises(ValueError, match="at least two"):
        draw_shown(1, Random(0), identity=False)


@pytest.mark.parametrize("answer", [(1, 1, 2), (0, 1, 2), (1, 2, 4), (2,)])
def test_a_puzzle_refuses_an_answer_that_is_not_a_permutation(answer):
    with pytest.raises(TaskError, match="not a permutation"):
        Puzzle(task="image", answer=answer, geometry={})


def test_a_puzzle_refuses_an_unknown_style_and_a_wrong_number_of_classes():
    with pytest.raises(TaskError, match="answer_style"):
        Puzzle(task="image", answer=(1, 2), geometry={}, answer_style="loud")
    with pytest.raises(TaskError, match="classes"):
        Puzzle(task="image", answer=(1, 2), geometry={}, classes=(0, 0, 1))
