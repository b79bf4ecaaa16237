"""The built-in rewards on batches: the paper's reward with its options, order scores, format, repetition and length."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jigsaw.rewards import RewardError, format_order, get_metric, get_reward, grid_of, visual_jigsaw

ANSWER = [2, 3, 1, 4]
NEAR = [3, 2, 1, 4]  # two of four right


def think(order):
    return format_order(order, thinking="the sky is on top")


def test_visual_jigsaw_gives_the_values_of_the_paper():
    texts = [think(ANSWER), think(NEAR), think([1, 1, 1, 1]), think([1, 2, 3, 99]), "2, 3, 1, 4", ""]
    assert visual_jigsaw(texts, [ANSWER] * 6) == pytest.approx([1.2, 0.2 * 0.5 + 0.2, 0.2, 0.2, 0.0, 0.0])


def test_two_swapped_tiles_of_nine_earn_the_value_of_the_paper():
    right = [5, 1, 3, 7, 9, 2, 4, 8, 6]
    assert visual_jigsaw([format_order([1, 5, *right[2:]], "direct")], [right], ["direct"]) == [
        pytest.approx(0.2 * 7 / 9)
    ]


def test_style_direct_has_no_format_weight():
    texts = ["2, 3, 1, 4", "3, 2, 1, 4", "It is 2, 3, 1, 4"]
    assert visual_jigsaw(texts, [ANSWER] * 3, answer_style=["direct"] * 3) == [1.0, 0.1, 0.0]


def test_each_row_may_have_its_own_answer_style():
    texts = [format_order(ANSWER, style) for style in ("boxed", "direct", "think", "think")]
    assert visual_jigsaw(texts, [ANSWER] * 4, answer_style=["boxed", "direct", "think", None]) == [1.2, 1.0, 1.2, 1.2]


def test_message_lists_score_like_their_text():
    parts = [{"type": "text", "text": think(ANSWER)}]
    messages = [[{"role": "assistant", "content": think(ANSWER)}], [{"role": "assistant", "content": parts}], []]
    assert visual_jigsaw(messages, [ANSWER] * 3) == [1.2, 1.2, 0.0]
    with pytest.raises(RewardError, match="must be a string or a list of messages"):
        visual_jigsaw([7], [ANSWER])


def test_options_change_the_values():
    texts, answers = [think(NEAR), think(ANSWER)], [ANSWER] * 2
    assert visual_jigsaw(texts, answers, discount=0.5) == pytest.approx([0.45, 1.2])
    assert visual_jigsaw(texts, answers, format_weight=0.0) == pytest.approx([0.1, 1.0])
    assert visual_jigsaw(texts, answers, min_pieces_for_partial=5) == pytest.approx([0.2, 1.2])
    assert visual_jigsaw(texts, answers, min_pieces_for_partial=4) == pytest.approx([0.3, 1.2])


def test_without_the_format_gate_an_answer_in_malformed_tags_earns_no_format_weight():
    texts = ["So <answer>2, 3, 1, 4</answer>", "<answer>2, 3, 1, 4</answer><answer>1, 2, 3, 4</answer>", ""]
    assert visual_jigsaw(texts, [ANSWER] * 3) == [0.0, 0.0, 0.0]
    assert visual_jigsaw(texts, [ANSWER] * 3, format_gate=False) == [1.0, 0.0, 0.0]


def test_identical_pieces_may_be_swapped():
    classes = [[0, 7, 7, 1]]  # the pieces shown as 2 and 3 look the same
    assert visual_jigsaw([think([3, 2, 1, 4])], [ANSWER], classes=classes) == [1.2]
    assert visual_jigsaw([think([3, 2, 1, 4])], [ANSWER], classes=[None]) == [pytest.approx(0.3)]


def test_the_think_tag_may_be_part_of_the_chat_template():
    text = format_order(ANSWER, think_prefilled=True)
    assert visual_jigsaw([text, think(ANSWER)], [ANSWER] * 2, think_prefilled=[True, False]) == [1.2, 1.2]


@settings(deadline=None)
@given(st.text(), st.permutations(range(1, 5)))
def test_any_text_has_a_value_in_range(text, order):
    values = visual_jigsaw([text, f"<think>{text}</think>{think(order)[-25:]}"], [ANSWER] * 2)
    assert all(0.0 <= value <= 1.2 for value in values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"discount": 1.5}, "discount is 1.5; it must be from 0 to 1"),
        ({"format_weight": -1}, "format_weight is -1; it must be at least 0"),
        ({"format_weight": float("nan")}, "format_weight is nan"),
        ({"answer": [[1, 2, 2, 4]]}, r"answer \[1, 2, 2, 4\] is not a permutation of 1..4; build the data set again"),
        ({"answer": [ANSWER, ANSWER]}, "column answer has 2 values for 1 completions"),
        ({"classes": [None, None]}, "column classes has 2 values for 1 completions"),
        ({"answer_style": ["thinks"]}, "did you mean think"),
    ],
)
def test_wrong_options_and_columns_are_refused(options, message):
    with pytest.raises(RewardError, match=message):
        visual_jigsaw([think(ANSWER)], **{"answer": [ANSWER], **options})


def test_order_scores_work_as_rewards():
    texts, answers = [think(ANSWER), think(NEAR), "broken"], [ANSWER] * 3
    grid = json.dumps({"grid": [2, 2]})

    def values(use, **options):
        columns = {"geometry": options.pop("geometry", [None] * 3)}
        return get_reward(use, **options)(texts, answers, **columns)

    assert values("exact") == [1.0, 0.0, 0.0]
    assert values("place_accuracy") == [1.0, 0.5, 0.0]
    assert values("place_accuracy", exponent=3) == [1.0, 0.125, 0.0]
    assert values("place_accuracy", exponent=0.5) == pytest.approx([1.0, 0.5**0.5, 0.0])
    assert values("kendall_tau") == pytest.approx([1.0, 5 / 6, 0.0])
    assert values("footrule") == [1.0, 0.75, 0.0]
    assert values("longest_run") == [1.0, 0.5, 0.0]
    assert values("smoothed", decay=0.5) == [1.0, 0.75, 0.0]
    # 3 2 / 1 4 compared with 2 3 / 1 4: the pair 1 4 is right, as a sequence and on the grid.
    assert values("neighbor_accuracy") == pytest.approx([1.0, 1 / 3, 0.0])
    assert values("neighbor_accuracy", geometry=[grid] * 3) == [1.0, 0.25, 0.0]
    assert values("neighbor_accuracy", grid=[2, 2]) == [1.0, 0.25, 0.0]
    assert values("neighbor_accuracy", grid=[2, 2], exponent=2) == [1.0, 0.0625, 0.0]
    assert values("neighbor_accuracy", grid=[1, 4]) == values("neighbor_accuracy")
    for wrong in ("x", "22", [4], [2, 0], [2.0, 2], [2, 1, 2]):
        with pytest.raises(RewardError, match=r"grid is .*; it must be two counts"):
            get_reward("neighbor_accuracy", grid=wrong)
    with pytest.raises(RewardError, match="exponent is 0"):
        get_reward("place_accuracy", exponent=0)


@pytest.mark.parametrize(("pieces", "grid"), [(6, (2, 3)), (5, None), (12, None)])
def test_the_grid_is_used_only_if_it_has_one_cell_per_piece(pieces, grid):
    assert grid_of('{"grid": [2, 3]}', pieces) == grid


def test_a_grid_whose_cells_are_not_the_places_is_ignored():
    values = get_reward("neighbor_accuracy")([think(NEAR)], [ANSWER], geometry=['{"grid": [3, 3], "clips": 4}'])
    assert values == [pytest.approx(1 / 3)]


def test_format_and_valid_are_scored_separately():
    texts, answers = [think(ANSWER), think([1, 1, 1, 1]), "2, 3, 1, 4"], [ANSWER] * 3
    assert get_reward("format")(texts, answers) == [1.0, 1.0, 0.0]
    assert get_metric("valid")(texts, answers) == [1.0, 0.0, 0.0]
    assert get_reward("format")(texts, answers, answer_style=["direct"] * 3) == [0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("one two three four five six seven\n" * 4, -0.5),
        ("one two three four five six seven\n\n" * 4, -0.5),
        ("one two three four five six seven\n" * 3, 0.0),
        ("one two three four five six\n" * 40, 0.0),
        ("one two three four five six seven\nand so\n" * 9, 0.0),
        ("", 0.0),
    ],
)
def test_four_equal_lines_of_seven_words_cost_a_penalty(text, value):
    assert get_reward("repetition")([text], [ANSWER]) == [value]


def test_repetition_options_are_used_and_checked():
    text = "one two three\n" * 3
    assert get_reward("repetition", min_words=3, max_repeats=2, penalty=1)([text], [ANSWER]) == [-1.0]
    with pytest.raises(RewardError, match="max_repeats >= 1"):
        get_reward("repetition", max_repeats=0)


def test_length_is_one_within_the_band_and_falls_linearly_outside():
    lengths = [0, 50, 100, 1000, 1500, 2000, 5000]
    ids = [[0] * count for count in lengths]
    values = get_reward("length")([""] * 7, [ANSWER] * 7, completion_ids=ids)
    assert values == [0.0, 0.5, 1.0, 1.0, 0.5, 0.0, 0.0]


def test_length_without_token_ids_is_an_error_that_names_the_remedy():
    with pytest.raises(RewardError, match="outside training use unit: words"):
        get_reward("length")(["a"], [ANSWER])
    assert get_reward("length", unit="words", minimum=2, maximum=4)(["a", "a b"], [ANSWER] * 2) == [0.5, 1.0]
    with pytest.raises(RewardError, match="unit is 'lines'"):
        get_reward("length", unit="lines")
    with pytest.raises(RewardError, match="1 <= minimum <= maximum"):
        get_reward("length", minimum=2000)
