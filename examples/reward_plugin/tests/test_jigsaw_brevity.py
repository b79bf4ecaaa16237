"""Tests of a reward plug-in. They load the rewards as a recipe does, which also checks the contract."""

import pytest

from jigsaw.rewards import RewardError, get_metric, get_reward

TEXT = "<think>tile 1 is left of tile 2</think><answer>1, 2</answer>"


def test_brevity_falls_to_zero_at_the_limit():
    """Four or more words earn nothing with a limit of four."""
    assert get_reward("jigsaw_brevity:brevity", limit=4)(["", "a b", "a b c d e"], [[1]] * 3) == [1.0, 0.5, 0.0]


def test_piece_talk_counts_pieces():
    """Both pieces are named."""
    assert get_reward("jigsaw_brevity:piece_talk")([TEXT], [[1, 2]], num_pieces=[2]) == [1.0]


def test_a_metric_is_not_optimised():
    """It can be logged; a recipe's `rewards:` refuses it."""
    assert get_metric("jigsaw_brevity:num_words")(["one two"], [[1]]) == [2.0]
    with pytest.raises(RewardError, match="is a metric"):
        get_reward("jigsaw_brevity:num_words")
