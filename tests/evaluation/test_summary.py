"""Scores and chance of evaluations, against values by hand and by enumeration of all orders."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jigsaw.answering.answers import AnsweredPuzzle
from jigsaw.errors import JigsawError
from jigsaw.evaluation.figures import CHANGES, compare, evaluation_of
from jigsaw.evaluation.log import FIGURES
from jigsaw.evaluation.scoring import score as score_answers
from jigsaw.results.chance import levels_of, mean_levels
from jigsaw.rewards import (
    Composition,
    chance_exact,
    chance_order_reward,
    chance_place_accuracy,
    format_order,
)

PAPER = Composition(["visual_jigsaw"])


def row(answer, completion="", *, style="direct", classes=None, source="a.jpg", number=0):
    return {
        "id": f"puzzle-{number}",
        "task": "image",
        "source": {"path": source, "fingerprint": "0"},
        "answer": answer,
        "num_pieces": len(answer),
        "answer_style": style,
        "classes": classes,
        "geometry": {},
        "completion": completion,
    }


def answered(rows):
    return [AnsweredPuzzle(puzzle, [puzzle["completion"]]) for puzzle in rows]


def score(rows, composition):
    return score_answers(answered(rows), composition)


# Scores


@pytest.mark.parametrize(
    "completion, exact, place, valid, reward",
    [
        ("2, 3, 1, 4", 1.0, 1.0, 1.0, 1.0),
        ("2 3 4 1", 0.0, 0.5, 1.0, 0.1),  # discount 0.2 x 2 of 4 right
        ("3, 4, 2, 1", 0.0, 0.0, 1.0, 0.0),
        ("2, 3, 1, 1", 0.0, 0.0, 0.0, 0.0),  # not a permutation: three right places have no reward
        ("2, 3, 1", 0.0, 0.0, 0.0, 0.0),
        ("", 0.0, 0.0, 0.0, 0.0),
        ("the order is 2, 3, 1, 4", 0.0, 0.0, 0.0, 0.0),
    ],
)
def test_a_completion_is_scored_by_the_order_in_it(completion, exact, place, valid, reward):
    (scored,) = score([row([2, 3, 1, 4], completion)], PAPER)
    assert (scored.exact, scored.place_accuracy, scored.valid, scored.reward) == pytest.approx(
        (exact, place, valid, reward)
    )
    assert (scored.order is not None) is bool(valid)
    assert (scored.reason == "ok") is bool(valid)


def test_an_answer_in_the_right_form_also_earns_the_format_weight():
    right, wrong, bare = score(
        [
            row([2, 1], "<think>sky</think><answer>2, 1</answer>", style="think"),
            row([2, 1], "<think>sky</think><answer>1, 2</answer>", style="think"),
            row([2, 1], "2, 1", style="think"),
        ],
        PAPER,
    )
    assert [item.reward for item in (right, wrong, bare)] == pytest.approx([1.2, 0.2, 0.0])
    assert [item.valid for item in (right, wrong, bare)] == [1.0, 1.0, 0.0]


def test_identical_pieces_may_be_swapped():
    (scored,) = score([row([1, 2, 3], "1, 3, 2", classes=[0, 1, 1])], PAPER)
    assert (scored.exact, scored.place_accuracy) == (1.0, 1.0)


def test_the_reward_is_the_weighted_sum_of_the_composition():
    composition = Composition([{"use": "exact", "weight": 2.0}, {"use": "place_accuracy", "weight": 0.5}])
    rows = [row([2, 1, 3], text) for text in ("2, 1, 3", "1, 2, 3", "x")]
    rewards = [item.reward for item in score(rows, composition)]
    assert rewards == pytest.approx([2.5, 0.5 / 3, 0.0])


def test_samples_keep_the_order_and_the_sources_of_the_rows():
    rows = [row([2, 1], "2, 1", source=name, number=i) for i, name in enumerate(["b", "a", "b"])]
    assert [(item.id, item.source) for item in score(rows, PAPER)] == [
        ("puzzle-0", "b"),
        ("puzzle-1", "a"),
        ("puzzle-2", "b"),
    ]


# Chance


def chance(rows, composition):
    levels = mean_levels(levels_of(rows, composition))
    return {name: level.mean for name, level in levels.items()}


@pytest.mark.parametrize("style", ["direct", "think", "boxed"])
@pytest.mark.parametrize("pieces", [2, 3, 4, 5])
def test_chance_is_the_mean_over_all_orders(pieces, style):
    answer = [*range(2, pieces + 1), 1]
    tries = [row(answer, format_order(list(order), style), style=style) for order in permutations(answer)]
    scored = score(tries, PAPER)
    levels = chance([row(answer, style=style)], PAPER)
    for name in ("exact", "place_accuracy", "neighbor_accuracy", "kendall_tau", "reward"):
        assert levels[name] == pytest.approx(sum(getattr(item, name) for item in scored) / len(scored)), name
    assert not {"valid", "format"} & levels.keys()


def test_chance_is_a_closed_form_for_built_in_rewards_and_enumerated_for_others():
    built_in = [{"use": "exact", "weight": 0.5}, {"use": "kendall_tau"}, {"use": "format", "weight": 0.1}]
    halves = Composition([*built_in, {"use": "exact", "only": ["video"]}])
    assert chance([row([2, 1, 3])], halves)["reward"] == pytest.approx(0.5 / 6 + 0.5 + 0.1)
    bent = Composition([{"use": "place_accuracy", "args": {"exponent": 2.0}}])
    assert chance([row([2, 1, 3])], bent)["reward"] == pytest.approx((1 + 3 / 9) / 6)
    assert chance([row([2, 1, 3])], halves)["reward/kendall_tau"] == 0.5


def test_the_sampled_chance_of_many_pieces_has_a_standard_error():
    """The mean of the squared share of fixed points of 9 pieces is 2/81, which 120 sampled orders approximate."""
    bent = Composition([{"use": "place_accuracy", "args": {"exponent": 2.0}}])
    level = mean_levels(levels_of([row([*range(2, 10), 1], number=i) for i in range(4)], bent))["reward"]
    assert 0 < level.error < 0.01
    assert abs(level.mean - 2 / 81) < 4 * level.error
    exact = mean_levels(levels_of([row([2, 1, 3])], bent))["reward"]
    assert exact.error == 0


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 2), min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_chance_with_identical_pieces_is_the_mean_over_all_orders(classes, random):
    answer = random.sample(range(1, len(classes) + 1), len(classes))
    tries = [
        row(answer, format_order(list(order), "direct"), classes=classes) for order in permutations(sorted(answer))
    ]
    scored, levels = score(tries, PAPER), chance([row(answer, classes=classes)], PAPER)
    for name in ("exact", "place_accuracy", "neighbor_accuracy", "kendall_tau", "reward"):
        assert levels[name] == pytest.approx(sum(getattr(item, name) for item in scored) / len(scored)), name


def test_chance_of_a_large_puzzle_with_identical_pieces_is_sampled_with_its_error():
    puzzle = row(list(range(1, 17)), classes=[0, 1, 2, 3] * 4)
    levels = levels_of([puzzle], Composition(["neighbor_accuracy"]))[0]
    for name in ("neighbor_accuracy", "reward"):
        assert 0 < levels[name].error < 0.02
    assert levels["kendall_tau"].error == 0
    assert levels_of([puzzle], Composition(["neighbor_accuracy"]))[0] == levels


@pytest.mark.parametrize("args", [{}, {"discount": 0.5, "format_weight": 0.1, "min_pieces_for_partial": 5}])
@pytest.mark.parametrize("style", ["direct", "boxed"])
def test_the_closed_form_of_the_reward_is_the_mean_over_all_orders(args, style):
    composition = Composition([{"use": "visual_jigsaw", "weight": 2.0, "args": args}])
    tries = [row([2, 4, 1, 3], format_order(list(order), style), style=style) for order in permutations([1, 2, 3, 4])]
    mean = sum(item.reward for item in score(tries, composition)) / len(tries)
    assert chance([row([2, 4, 1, 3], style=style)], composition)["reward"] == pytest.approx(mean)


@pytest.mark.parametrize("classes", [None, [0, 0, 1, 2], [0, 0, 1, 1], [5, 5, 5, 1]])
def test_chance_agrees_with_the_closed_forms(classes):
    levels = chance([row([2, 3, 1, 4], classes=classes)], PAPER)
    assert levels["exact"] == pytest.approx(chance_exact(4, classes))
    assert levels["place_accuracy"] == pytest.approx(chance_place_accuracy(4, classes))
    assert levels["reward"] == pytest.approx(chance_order_reward(4, classes=classes))


def test_chance_of_many_pieces_is_near_its_closed_form_and_deterministic():
    rows = [row(list(range(1, 10)), number=number) for number in range(40)]
    levels = chance(rows, PAPER)
    assert levels["exact"] == pytest.approx(1 / 362880)
    assert levels["place_accuracy"] == pytest.approx(1 / 9)
    # 4800 orders; each earns 0.2 x right / 9, where `right` has mean one and variance one
    assert levels["reward"] == pytest.approx(chance_order_reward(9), abs=4 * 0.2 / 9 / 4800**0.5)
    assert chance(rows, PAPER) == levels


def test_chance_of_a_mixture_is_the_mean_of_its_puzzles():
    two, four = chance([row([2, 1])], PAPER), chance([row([2, 1, 4, 3])], PAPER)
    both = chance([row([2, 1]), row([2, 1, 4, 3], number=1)], PAPER)
    for name in ("exact", "place_accuracy", "reward"):
        assert both[name] == pytest.approx((two[name] + four[name]) / 2)


def test_the_closed_forms_equal_the_means_of_the_scores():
    """The closed forms are compared with the scores that evaluations report."""
    answer = [4, 2, 1, 3]
    tries = score([row(answer, format_order(list(order), "direct")) for order in permutations(answer)], PAPER)
    assert sum(item.exact for item in tries) / 24 == pytest.approx(chance_exact(4))
    assert sum(item.place_accuracy for item in tries) / 24 == pytest.approx(chance_place_accuracy(4))


# Summaries

scored_rows = st.lists(
    st.tuples(st.sampled_from(["2, 1, 3", "1, 2, 3", "3, 1, 2", "1, 1, 2", "?"]), st.sampled_from("abc")),
    min_size=1,
    max_size=12,
)


@settings(deadline=None, max_examples=30)
@given(scored_rows)
def test_scores_are_the_means_over_puzzles(pairs):
    rows = [row([2, 1, 3], text, source=source, number=i) for i, (text, source) in enumerate(pairs)]
    levels = chance(rows, PAPER)
    results = evaluation_of(answered(rows), PAPER)
    assert results.num_puzzles == len(pairs)
    assert results.num_sources == len({source for _, source in pairs})
    right = {"2, 1, 3": 3, "1, 2, 3": 1, "3, 1, 2": 1}
    by_hand = {
        "exact": sum(text == "2, 1, 3" for text, _ in pairs),
        "valid": sum(text in right for text, _ in pairs),
        "place_accuracy": sum(right.get(text, 0) / 3 for text, _ in pairs),
        "reward": sum(1.0 if text == "2, 1, 3" else 0.2 * right.get(text, 0) / 3 for text, _ in pairs),
    }
    for name in FIGURES:
        figure = results.estimates[name]
        if name in by_hand:
            assert figure.value == pytest.approx(by_hand[name] / len(pairs))
        assert figure.low - 1e-9 <= figure.value <= figure.high + 1e-9
        assert figure.chance == (pytest.approx(levels[name]) if name in levels else None)


def test_each_of_several_rewards_has_a_score():
    only = Composition(["exact", {"use": "place_accuracy", "only": ["video"]}])
    results = evaluation_of(answered([row([2, 1, 3], "2, 1, 3"), row([2, 1, 3], "1, 2, 3", number=1)]), only)
    assert results.estimates["reward/exact"].value == 0.5
    assert results.estimates["reward/exact"].chance == pytest.approx(1 / 6)
    assert "reward/place_accuracy" not in results.estimates, "it has no value on image puzzles"
    assert "reward/visual_jigsaw" not in evaluation_of(answered([row([2, 1], "2, 1")]), PAPER).estimates


def test_the_order_of_the_answers_does_not_change_the_scores():
    texts = ["2, 1, 3", "1, 2, 3", "3, 1, 2", "?"] * 5
    rows = [row([2, 1, 3], text, source=f"{i % 7}", number=i) for i, text in enumerate(texts)]
    one, other = (evaluation_of(answered(some), PAPER) for some in (rows, rows[::-1]))
    assert (one.estimates, one.groups, one.places) == (other.estimates, other.groups, other.places)


def test_puzzles_with_unequal_numbers_of_completions_are_refused():
    both = [AnsweredPuzzle(row([2, 1]), ["2, 1"]), AnsweredPuzzle(row([2, 1], number=1), ["2, 1", "1, 2"])]
    with pytest.raises(JigsawError, match=r"the same number of completions: puzzle-0 has 1, puzzle-1 has 2"):
        evaluation_of(both, PAPER)
    with pytest.raises(JigsawError, match="there is no answer to score"):
        evaluation_of([], PAPER)


# Gains


def evaluation(completions, first=0):
    rows = [row([2, 1], text, source=f"{i}.jpg", number=first + i) for i, text in enumerate(completions)]
    return score(rows, PAPER)


def gain(before, after):
    return compare(before, after, "warmup", CHANGES).changes


def test_the_gain_is_the_mean_of_the_paired_differences():
    results = gain(evaluation(["1, 2", "2, 1", "?", "1, 2"]), evaluation(["2, 1", "1, 2", "2, 1", "2, 1"]))
    assert results["place_accuracy"].value == pytest.approx((1 - 1 + 1 + 1) / 4)
    assert results["reward"].value == pytest.approx((1 - 1 + 1 + 1) / 4)
    assert set(results) == {"exact", "place_accuracy", "reward"}


def test_the_gain_of_equal_completions_is_zero_without_width():
    before = evaluation(["2, 1", "1, 2"] * 8)
    change = gain(before, before)["place_accuracy"]
    assert (change.value, change.low, change.high, change.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_only_shared_puzzles_are_compared():
    assert compare(evaluation(["2, 1"] * 2), evaluation(["2, 1"] * 3, first=1), "other").num_puzzles == 1
    with pytest.raises(JigsawError, match="share no puzzle"):
        compare(evaluation(["2, 1"] * 2), evaluation(["2, 1"], first=2), "other")
