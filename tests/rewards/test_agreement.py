"""Agreement: whether the answer is the order or the option that the reasoning named last."""

import pytest

from jigsaw.rewards import Composition, get_metric
from jigsaw.rewards.agreement import agreement, named_last
from jigsaw.rewards.answers import kind_of, kind_of_row

ORDER = kind_of_row({"answer": [1, 2, 3]})
LETTERS = kind_of("choice", {"options": ["A", "B", "C"]})
NUMBERS = kind_of("choice", {"options": ["1", "2", "3"]})


@pytest.mark.parametrize(
    ("thinking", "kind", "named"),
    [
        ("I think 2, 1, 3. Wait: 3, 1, 2.", ORDER, [3, 1, 2]),
        ("The order is 3 -> 1 -> 2 because of the sky.", ORDER, [3, 1, 2]),
        ("There are 3 tiles, 2 of them dark.", ORDER, None),
        ("1, 2, 3, 4 are four numbers, 1, 1, 2 has a double.", ORDER, None),
        ("Option B looks wrong, so the answer is C.", LETTERS, "C"),
        ("(A) is out. (B) fits.", LETTERS, "B"),
        ("A cat sits on a mat. C is a letter.", LETTERS, None),
        ("Final choice:\nB\n", LETTERS, "B"),
        ("Patch 1 is too light; patch 3 continues the roof.", NUMBERS, "3"),
        ("There are 3 patches.", NUMBERS, None),
        ("The number 2 patch... the answer must be 2", NUMBERS, "2"),
        ("It starts at 2 s.", kind_of("number"), None),
    ],
)
def test_the_last_order_or_option_named_in_the_reasoning_is_read(thinking, kind, named):
    assert named_last(thinking, kind) == named


def test_agreement_has_a_value_only_where_reasoning_and_answer_name_one():
    texts = [
        "<think>So 2, 1.</think><answer>2, 1</answer>",
        "<think>So 1, 2.</think><answer>2, 1</answer>",
        "<think>Hard to say.</think><answer>2, 1</answer>",
        "<think>So 2, 1.</think><answer>two</answer>",
        "2, 1",
    ]
    styles = ["think"] * 4 + ["direct"]
    assert agreement(texts, [[2, 1]] * 5, answer_style=styles) == [1.0, 0.0, None, None, None]
    assert get_metric("agreement") is not None


def test_the_agreement_gate_gives_zero_to_an_answer_that_contradicts_its_reasoning():
    gated = Composition([{"use": "visual_jigsaw", "gate": "agreement"}])
    texts = [f"<think>{text}</think><answer>2, 1</answer>" for text in ("So 2, 1.", "So 1, 2.", "Hard to say.")]
    assert gated.score(texts, {"answer": [[2, 1]] * 3}) == {"visual_jigsaw": [1.2, 0.0, 1.2]}


def test_reading_the_reasoning_takes_linear_time():
    text = "option " * 40_000 + "1, " * 40_000
    assert named_last(text, NUMBERS) is None and named_last(text, ORDER) is None
