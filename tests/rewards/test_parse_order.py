"""Parsing of orders from completions: truth table, grammar, round trips and linear time."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jigsaw.rewards import ANSWER_STYLES, REASONS, RewardError, find_order, format_order, parse_order

CASES = [json.loads(line) for line in (Path(__file__).parent / "data/parse_cases.jsonl").read_text().splitlines()]
THOUGHT = "<think>edges match</think>"
BOX = "\\boxed{"
orders = st.integers(1, 64).flatmap(lambda size: st.permutations(range(1, size + 1)))
fragments = st.sampled_from(
    [
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        BOX,
        "}",
        "{",
        "\\text{",
        "1, 2, 3",
        "2",
        "1",
        "3",
        ",",
        " ",
        "->",
        "\n",
        ".",
        "[",
        "]",
        "Tile ",
        "３",
        "、",
        "a",
        "0",
        "-",
        "\\",
        "x<",
        "￼",
        "�",
    ]
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['style']}: {case['text'][:40]!r}")
def test_parsing_agrees_with_the_truth_table(case):
    parsed = parse_order(case["text"], case["num_pieces"], case["style"])
    assert (parsed.order, parsed.well_formed, parsed.reason) == (case["order"], case["well_formed"], case["reason"])


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("2=>3=>1", "ok"),
        ("2 --> 3 --> 1", "ok"),
        ("【２， ３， １】。", "ok"),
        ("{2, 3, 1}", "ok"),
        ("Tile 2 Tile 3 Tile 1", "ok"),
        ("tile 2, Tile 3, TILE 1", "ok"),
        ("图块 2、图块 3、图块 1", "ok"),
        ("2\n3\n1", "ok"),
        ("2,3 1", "ok"),
        ("2;3;1.", "ok"),
        ("[]", "empty"),
        (".", "not_integers"),
        ("2, 3, 1,", "not_integers"),
        (", 2, 3, 1", "not_integers"),
        ("2, 3, 1..", "not_integers"),
        ("[2, 3, 1", "not_integers"),
        ("(2, 3, 1]", "not_integers"),
        ("[[2, 3, 1]]", "not_integers"),
        ("[2], [3], [1]", "not_integers"),
        ("Tile 2, Clip 3, Tile 1", "not_integers"),
        ("Tile 2, 3, 1", "not_integers"),
        ("big tile 2, big tile 3, big tile 1", "not_integers"),
        ("2, 3, 1 2nd", "not_integers"),
        ("2, -> 3, 1", "not_integers"),
        ("2 -3 1", "not_integers"),
        ("2, ３1, 0x1", "not_integers"),
        ("²,3,1", "not_integers"),
        ("٢, ٣, ١", "not_integers"),
        ("2, 3, 1e0", "not_integers"),
        ("2_3_1", "not_integers"),
        ("2\u200b,3,1", "not_integers"),
        ("00, 1, 2", "not_integers"),
        ("0", "wrong_count"),
        ("4, 4, 4, 4", "wrong_count"),
        ("4, 4, 4", "out_of_range"),
        ("9" * 5000 + ", 1, 2", "out_of_range"),
    ],
)
def test_an_answer_may_hold_only_the_integers_of_the_order(answer, reason):
    parsed = parse_order(f"{THOUGHT}<answer>{answer}</answer>", 3)
    assert parsed.reason == reason
    assert parsed.well_formed
    assert parsed.order == ([2, 3, 1] if reason == "ok" else None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<think>a < b, x<y</think><answer>2, 3, 1</answer>", "ok"),
        ("<think>a</think><answer>2, 3, 1</answer></answer>", "malformed"),
        ("<think>a</think><answer><answer>2, 3, 1</answer></answer>", "malformed"),
        ("<think>use <answer> tags</think><answer>2, 3, 1</answer>", "malformed"),
        ("<think>a</think></think><answer>2, 3, 1</answer>", "malformed"),
        ("<think>a</think><answer>2, 3, 1</think></answer>", "malformed"),
        ("<think><think>a</think><answer>2, 3, 1</answer>", "malformed"),
        ("<answer>2, 3, 1</answer><think>a</think>", "malformed"),
        ("<answer>2, 3, 1</answer><answer>2, 3, 1</answer>", "malformed"),
        ("<think>a</think><answer>2, 3, 1</answer> or <answer>1, 2, 3</answer>", "malformed"),
        ("<think>a</think><answer>2, 3, 1</answer>\n<answer>2, 3, 1</answer>", "several_answers"),
        ("<THINK>a</THINK><answer>2, 3, 1</answer>", "malformed"),
        ("<think>a</think><answer>", "malformed"),
    ],
)
def test_style_think_needs_one_think_block_followed_by_one_answer_block(text, reason):
    parsed = parse_order(text, 3)
    assert (parsed.reason, parsed.well_formed) == (reason, reason == "ok")


@pytest.mark.parametrize(
    ("tail", "order", "reason"),
    [
        (r"\boxed{2 \rightarrow 3 \to 1}", [2, 3, 1], "ok"),
        (r"\boxed{\{2, 3, 1\}}", [2, 3, 1], "ok"),
        (r"\boxed{{2, 3, 1}}", [2, 3, 1], "ok"),
        (r"\boxed{\text{Tile }2, \text{Tile }3, \text{Tile }1}", [2, 3, 1], "ok"),
        (r"so {a} \boxed{2, 3, 1} }} {", [2, 3, 1], "ok"),
        (r"{{ \boxed{{2, 3, 1}}}}", [2, 3, 1], "ok"),
        (r"{a{\boxed{2, 3, 1}}}", [2, 3, 1], "ok"),
        (r"\boxed{\text{}}", None, "empty"),
        (r"\boxed{\frac{2}{3}, 1}", None, "not_integers"),
        (r"\boxed{\boxed{2, 3, 1}}", None, "several_answers"),
        (r"\boxed{2, 3, 1} \boxed{", None, "malformed"),
        (r"\boxed{{2, 3, 1}", None, "malformed"),
        (r"boxed{2, 3, 1}", None, "malformed"),
        (r"\boxed{2, 3, 1} <think>", None, "malformed"),
    ],
)
def test_a_box_is_matched_by_its_braces(tail, order, reason):
    parsed = parse_order(f"<think>a</think> {tail}", 3, "boxed")
    assert (parsed.order, parsed.reason) == (order, reason)


def test_the_think_tag_may_be_part_of_the_chat_template():
    text = "edges match</think><answer>2, 3, 1</answer>"
    assert parse_order(text, 3).reason == "malformed"
    assert parse_order(text, 3, think_prefilled=True).order == [2, 3, 1]
    assert parse_order(f"<think>{text}", 3, think_prefilled=True).reason == "malformed"
    assert parse_order(r"a</think>\boxed{2, 3, 1}", 3, "boxed", think_prefilled=True).order == [2, 3, 1]


@given(orders, st.sampled_from(ANSWER_STYLES), st.booleans())
def test_a_formatted_order_is_parsed_back(order, style, prefilled):
    text = format_order(order, style, think_prefilled=prefilled)
    assert parse_order(text, len(order), style, think_prefilled=prefilled) == (order, True, "ok")


@given(st.text(), st.sampled_from(["think", "boxed"]))
@example("a <answer> b", "think")
def test_the_reasoning_does_not_change_the_parsed_answer(thinking, style):
    if any(tag in thinking for tag in ("<think>", "</think>", "<answer>", "</answer>")):
        with pytest.raises(RewardError, match="remove it"):
            format_order([2, 1], style, thinking=thinking)
    else:
        assert parse_order(format_order([2, 1], style, thinking=thinking), 2, style).order == [2, 1]


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(st.text(), st.lists(fragments, max_size=30).map("".join)),
    st.integers(1, 5),
    st.sampled_from(ANSWER_STYLES),
    st.booleans(),
)
def test_any_text_parses_to_a_permutation_or_a_reason(text, size, style, prefilled):
    for parsed in (parse_order(text, size, style, think_prefilled=prefilled), find_order(text, size, style)):
        assert parsed.reason in REASONS
        assert (parsed.order is None) == (parsed.reason != "ok")
        assert parsed.order is None or sorted(parsed.order) == list(range(1, size + 1))
    assert (parse_order(text, size, style).reason in ("malformed", "several_answers")) <= (
        not parse_order(text, size, style).well_formed
    )


@pytest.mark.parametrize(
    ("text", "style", "order", "reason"),
    [
        ("So <answer>2, 3, 1</answer> it is", "think", [2, 3, 1], "ok"),
        ("2, 3, 1", "think", None, "malformed"),
        ("<answer>2, 3, 1</answer> or <answer>1, 2, 3</answer>", "think", None, "several_answers"),
        ("<answer>2, 2, 1</answer>", "think", None, "duplicate"),
        ("<answer>2, 3, 1", "think", None, "malformed"),
        (r"\boxed{2, 3, 1}", "boxed", [2, 3, 1], "ok"),
        (r"\boxed{2 \to 3 \to 1}", "boxed", [2, 3, 1], "ok"),
        (r"<answer>2 \to 3 \to 1</answer>", "think", None, "not_integers"),
        (r"<think>\boxed{1, 2, 3}</think></think>\boxed{2, 3, 1}", "boxed", [2, 3, 1], "ok"),
        ("2, 3, 1", "direct", [2, 3, 1], "ok"),
    ],
)
def test_without_the_format_gate_a_single_answer_is_found_in_any_text(text, style, order, reason):
    parsed = find_order(text, 3, style)
    assert (parsed.order, parsed.reason) == (order, reason)
    assert parsed.well_formed == (style == "direct")


@given(orders, st.sampled_from(ANSWER_STYLES))
def test_with_the_right_form_find_order_equals_parse_order(order, style):
    assert find_order(format_order(order, style), len(order), style) == (order, True, "ok")


@pytest.mark.parametrize(
    "unit",
    [
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "<answer></answer>",
        "{",
        "}",
        "{}",
        BOX,
        BOX + "}",
        "7",
        "1 ",
        "1,",
        ",",
        "->",
        " ",
        "\n",
        "Tile 1 ",
        "a",
        "２",
        "\\text{",
        "\\{",
        "<",
        "[",
        "\u3000",
        "\\",
        "$",
        "{$ ",
        "\\,",
        "\\left(",
        "\\mathbf{",
        "\\hspace{1em}",
        "\\hspace{11111",
        "\\boxed ",
    ],
)
def test_a_megabyte_of_text_is_parsed_in_linear_time(unit):
    """A megabyte takes less than 0.9 s of processor time and at most 16 times as long as an eighth of it.

    Each measurement has three tries, since other processes on the machine slow it down.
    """
    frames = [
        "{}",
        "<think>{}",
        "<think>{}</think><answer>1</answer>",
        "<think></think>{}",
        "<think></think><answer>1{}!</answer>",
        "<think></think>\\boxed{{{}}}",
        "<think></think><answer>$1{}</answer>",
    ]

    def seconds(frame: str, length: int, style: str) -> float:
        text = frame.format((unit * length)[:length])
        start = time.process_time()
        parse_order(text, 9, style)
        return time.process_time() - start

    for frame in frames:
        for style in ANSWER_STYLES:
            limit = min(0.9, 16 * max(seconds(frame, 2**17, style), 0.03))
            assert any(seconds(frame, 2**20, style) < limit for _ in range(3))


def test_wrong_arguments_are_refused():
    with pytest.raises(RewardError, match=r"answer style 'thinks' is unknown; did you mean think\?"):
        parse_order("", 3, "thinks")
    with pytest.raises(RewardError, match="num_pieces is 0"):
        parse_order("", 0)
    with pytest.raises(RewardError, match="direct has no thinking"):
        format_order([1], "direct", thinking="hm")
