"""Kinds of answer: how each is parsed, formatted, refused and scored."""

import sys
import threading
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jigsaw.rewards import RewardError, get_reward, visual_jigsaw
from jigsaw.rewards.answers import ANSWER_KINDS, answer, check_answer_of, kind_of, kind_of_row, math

CASES = {
    "order": ({"num_pieces": 3, "classes": [0, 0, 1]}, [2, 3, 1]),
    "choice": ({"options": ["A", "B", "C"], "texts": ["left", "right", "left of it"]}, "B"),
    "number": ({"tolerance": 0.5, "unit": "m"}, 12.25),
    "interval": ({"duration": 20.0}, [2.5, 6.0]),
    "box": ({"width": 100, "height": 80}, [10, 20, 50.5, 60]),
    "text": ({"accepted": ["the Louvre"]}, "Louvre"),
    "math": ({}, r"\frac{1}{2}"),
}


def test_every_kind_of_answer_has_a_case():
    assert set(CASES) == set(ANSWER_KINDS)


@pytest.mark.parametrize("style", ["think", "boxed", "direct"])
@pytest.mark.parametrize("name", ANSWER_KINDS)
def test_a_formatted_answer_is_parsed_back_and_all_equivalents_score_fully(name, style):
    args, right = CASES[name]
    kind = kind_of(name, args)
    for value in kind.equivalents(right):
        parsed = kind.parse(kind.format(value, style), style)
        assert parsed.well_formed and parsed.reason == "ok"
        assert kind.score(parsed.value, right) == 1.0
        assert kind.is_right(parsed.value, right)
    assert kind.score(None, right) == 0.0


def read(name, text, **args):
    parsed = kind_of(name, args).parse(text, "direct")
    return parsed.value if parsed.reason == "ok" else parsed.reason


ABC = {"options": ["A", "B", "C"], "texts": ["left", "right", "left"]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("B", "B"),
        (" (b). ", "B"),
        ("Option B", "B"),
        ("the answer B", "B"),
        ("B. right", "B"),
        ("B: right", "B"),
        ("(B) right", "B"),
        ("right", "B"),
        ("B. left", "not_an_option"),
        ("left", "not_an_option"),
        ("A, B", "several_answers"),
        ("A or B", "several_answers"),
        ("not B", "not_an_option"),
        ("B?", "not_an_option"),
        ("D", "not_an_option"),
        ("", "empty"),
        ("B" * 2000, "too_long"),
    ],
)
def test_choices_are_read(text, expected):
    assert read("choice", text, **ABC) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", 7),
        ("-3.5", -3.5),
        ("1,250", 1250),
        ("3/4", 0.75),
        ("1.2e3", 1200),
        ("７", 7),
        ("7 m", 7),
        ("7 km", "not_a_number"),
        ("7 or 8", "several_answers"),
        ("7-8", "several_answers"),
        ("1,25", "not_a_number"),
        ("1/0", "several_answers"),
        ("about 7", "not_a_number"),
        ("9" * 40, "not_a_number"),
        ("1e999", "several_answers"),
        ("seven", "not_a_number"),
    ],
)
def test_numbers_are_read(text, expected):
    assert read("number", text, unit="m") == expected


@pytest.mark.parametrize(
    ("answered", "right", "args", "score"),
    [
        (0.3, 0.3, {}, 1),
        (0.30001, 0.3, {}, 0),
        (10.5, 10, {"relative": 0.05}, 1),
        (10.51, 10, {"relative": 0.05}, 0),
        (9, 10, {"tolerance": 1}, 1),
        (-10, 10, {"relative": 0.5}, 0),
    ],
)
def test_a_number_within_its_tolerance_is_right(answered, right, args, score):
    kind = kind_of("number", args)
    assert kind.score(kind.parse(str(answered), "direct").value, right) == score


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2.5, 6", [2.5, 6]),
        ("[2.5, 6]", [2.5, 6]),
        ("2.5 to 6 s", [2.5, 6]),
        ("2.5s - 6s", [2.5, 6]),
        ("6, 2.5", "reversed"),
        ("2, 30", "out_of_range"),
        ("2", "not_an_interval"),
        ("2, 4, 6", "several_answers"),
        ("-2, 4", "not_an_interval"),
    ],
)
def test_intervals_are_read(text, expected):
    assert read("interval", text, duration=20) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1, 2, 3, 4.5]", [1, 2, 3, 4.5]),
        ("1 2 3 4", [1, 2, 3, 4]),
        ("3, 2, 1, 4", "reversed"),
        ("1, 2, 300, 4", "out_of_range"),
        ("1, 2, 3", "not_a_box"),
        ("1, 2, 3, 4, 5", "several_answers"),
    ],
)
def test_boxes_are_read(text, expected):
    assert read("box", text, width=100, height=80) == expected


def test_a_box_scores_its_overlap_and_zero_below_the_floor():
    kind, strict = (
        kind_of("box", {"width": 10, "height": 10}),
        kind_of("box", {"width": 10, "height": 10, "floor": 0.5}),
    )
    half, third = [0, 0, 10, 5], [0, 0, 10, 3]
    assert kind.score(half, [0, 0, 10, 10]) == 0.5 and kind.score(third, [0, 0, 10, 10]) == 0.3
    assert strict.score(half, [0, 0, 10, 10]) == 0.5 and strict.score(third, [0, 0, 10, 10]) == 0
    assert kind.is_right(half, [0, 0, 10, 10]) and not kind.is_right(third, [0, 0, 10, 10])


@pytest.mark.parametrize(
    ("text", "metric", "score"),
    [
        ("  PARIS. ", "exact", 1),
        ("ＰＡＲＩＳ", "exact", 1),
        ("Pariss", "exact", 0),
        ("Pariss", "anls", 1 - 1 / 6),
        ("Pars", "anls", 0.8),
        ("Par", "anls", 0.6),
        ("Lyon", "anls", 0),
        ("Paris/Lyon", "anls", 0),
        ("Paris?", "anls", 0),
    ],
)
def test_texts_are_scored_by_their_metric(text, metric, score):
    kind = kind_of("text", {"metric": metric})
    assert kind.score(kind.parse(text, "direct").value, "Paris") == pytest.approx(score)


def test_a_text_of_two_lines_is_refused_as_two_answers():
    assert read("text", "Paris\nLyon") == "several_answers"


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("0.5", 1),
        ("$\\frac{2}{4}$", 1),
        ("1/2", 1),
        ("0.51", 0),
        ("1/2 or 1/3", 0),
        ("\\pm 1/2", 0),
        ("x = 1/2 = 3", 0),
        ("9^{9^{9^{9}}}", 0),
        ("9**99999", 0),
        ("99999!", 0),
        ("\\sum_{i=1}^{999} i", 0),
        ("\\frac{1}{", 0),
        ("half", 0),
    ],
)
def test_mathematical_answers_are_scored(text, score):
    pytest.importorskip("math_verify")
    kind = kind_of("math")
    assert kind.score(kind.parse(text, "direct").value, r"\frac{1}{2}") == score


def test_mathematical_answers_are_scored_outside_the_main_thread():
    pytest.importorskip("math_verify")
    scores = []
    thread = threading.Thread(target=lambda: scores.append(kind_of("math").score("0.25", r"\frac14")))
    thread.start()
    thread.join()
    assert scores == [1.0]


@given(st.permutations(range(1, 5)), st.permutations(range(1, 5)), st.sampled_from(["think", "boxed", "direct"]))
def test_the_answer_reward_of_an_order_equals_visual_jigsaw(text, right, style):
    kind = kind_of_row({"answer": right})
    texts = [kind.format(text, style), "1, 2, 3, 4", ""]
    for options in ({}, {"discount": 0.5, "format_weight": 0.1}, {"format_gate": False, "min_pieces_for_partial": 5}):
        rows = {"answer": [right] * 3, "answer_style": [style] * 3, "classes": [None, [0, 0, 1, 2], None]}
        assert answer(texts, **rows, **options) == visual_jigsaw(texts, **rows, **options)


def test_one_reward_scores_a_mixture_of_kinds():
    reward = get_reward("answer")
    texts = [f"<think></think><answer>{body}</answer>" for body in ("2, 1", "B", "4.2", "0, 5", "rain")]
    columns = {
        "answer_kind": [None, "choice", "number", "interval", "text"],
        "answer_args": [None, {"options": ["A", "B"]}, '{"tolerance": 0.5}', {}, {}],
    }
    assert reward(texts, [[2, 1], "B", 4, [0, 10], "snow"], **columns) == [1.2, 1.2, 1.2, 0.7, 0.2]


CHANCE = [
    ("choice", {"options": ["A", "B", "C", "D"]}, "A", 0.25),
    ("choice", {"options": ["A", "B", "C", "D"], "alike": [["A", "B"]]}, "A", 0.5),
    ("number", {}, 3, None),
    ("order", {"num_pieces": 9}, list(range(1, 10)), 0.0222244),
]


@pytest.mark.parametrize(("name", "args", "right", "level"), CHANCE)
def test_chance_of_a_kind_is_its_score_for_random_guessing(name, args, right, level):
    assert kind_of(name, args).chance(right) == (None if level is None else pytest.approx(level, abs=1e-6))


def test_the_chance_of_an_interval_is_the_mean_over_random_intervals():
    # An interval between two random times covers a third of the duration on average.
    assert kind_of("interval", {"duration": 10}).chance([0, 10]) == pytest.approx(1 / 3, abs=0.01)
    assert kind_of("box", {"width": 10, "height": 10}).chance([0, 0, 10, 10]) == pytest.approx(1 / 9, abs=0.01)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"answer_kind": "choise", "answer": "A"}, "answer kind 'choise' is unknown; did you mean choice"),
        ({"answer_kind": "choice", "answer": "A"}, "needs options in its answer_args"),
        ({"answer_kind": "choice", "answer": "A", "answer_args": {"options": ["A"]}}, "two or more"),
        ({"answer_kind": "choice", "answer": "A", "answer_args": {"options": ["a", "A"]}}, "different labels"),
        (
            {"answer_kind": "choice", "answer": "E", "answer_args": {"options": ["A", "B"]}},
            "'E' is not one of the options",
        ),
        ({"answer_kind": "choice", "answer": "A", "answer_args": {"options": ["A", "B"], "texts": ["x"]}}, "1 texts"),
        ({"answer_kind": "number", "answer": "many", "answer_args": None}, "'many' is not a number"),
        ({"answer_kind": "number", "answer": True}, "True is not a number"),
        ({"answer_kind": "number", "answer": 1, "answer_args": {"tolerence": 1}}, "did you mean tolerance"),
        ({"answer_kind": "number", "answer": 1, "answer_args": {"tolerance": -1}}, "tolerance is -1"),
        ({"answer_kind": "interval", "answer": [3, 2]}, "not an interval"),
        (
            {"answer_kind": "interval", "answer": [3, 20], "answer_args": {"duration": 10}},
            "ends after the duration of 10 seconds",
        ),
        (
            {"answer_kind": "box", "answer": [0, 0, 20, 5], "answer_args": {"width": 10, "height": 10}},
            "outside the picture of 10x10",
        ),
        ({"answer_kind": "text", "answer": " "}, "not a line of text"),
        ({"answer_kind": "math", "answer": 3}, "not an expression"),
        ({"answer": "B"}, "set the row's answer_kind"),
        ({"answer": [1, 3]}, "not a permutation"),
        ({"answer_kind": "text", "answer": "a", "answer_args": "[1]"}, "must be a mapping"),
    ],
)
def test_a_row_that_cannot_be_scored_is_refused(row, message):
    with pytest.raises(RewardError) as error:
        check_answer_of(row)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_luck_is_the_share_of_random_guesses_that_count_as_right():
    video = kind_of("interval", {"duration": 10.0})
    # A quarter of all random intervals cover at least half of the duration.
    assert video.luck([0.0, 10.0]) == pytest.approx(0.25, abs=0.03)
    picture = kind_of("box", {"width": 100, "height": 100, "right": 0.25})
    rng = Random(0)
    boxes = [[sorted([rng.random(), rng.random()]) for _ in range(2)] for _ in range(4000)]
    large = sum((x2 - x1) * (y2 - y1) >= 0.25 for (x1, x2), (y1, y2) in boxes) / len(boxes)
    assert picture.luck([0, 0, 100, 100]) == pytest.approx(large, abs=0.05)
    assert kind_of("choice", {"options": ["A", "B", "C"]}).luck("A") == pytest.approx(1 / 3)
    assert kind_of("number").luck(7) is None and kind_of("interval").luck([1.0, 2.0]) is None


def test_the_possible_guesses_are_listed_for_a_choice():
    assert list(kind_of("choice", {"options": ["A", "B"]}).guesses()) == ["A", "B"]
    assert not kind_of("number").guesses()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (r"\frac{22answer>\frac{22}{7}}", "not_math"),
        (r"\frac{3}\frac{3}{4}", "not_math"),
        (r"\frac{}{4}", "not_math"),
        (r"\sqrt", "not_math"),
        (r"7}{27", "not_math"),
        (r"<answer>\frac{3}{4}", "not_math"),
        ("2 3", "several_answers"),
        (r"2\,3", "several_answers"),
        ("2~3", "several_answers"),
        ("{4}{3}", "several_answers"),
        (r"\frac{2 3}{4}", "several_answers"),
    ],
)
def test_an_expression_that_would_be_read_incompletely_is_refused(text, reason):
    """math-verify takes the last expression that it can read, and reads `2 3` as 5."""
    assert kind_of("math").read(text) == (None, reason)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (r"\frac12", "0.5"),
        (r"\frac{\sqrt{3}}{2}", r"\frac{\sqrt3}{2}"),
        (r"\sqrt[3]{8}", "2"),
        (r"\left\{1, 2\right\}", r"\{2, 1\}"),
        (r"2\frac{1}{2}", "2.5"),
        (r"\frac 1 2", "0.5"),
        (r"\log_{2}8", "3"),
        ("2^{3}", "8"),
        ("12{,}000", "12000"),
    ],
)
def test_complete_expressions_are_read(text, right):
    pytest.importorskip("math_verify")
    kind = kind_of("math")
    assert kind.score(kind.read(text)[0], right) == 1.0


@pytest.mark.parametrize(
    "fault, remedy",
    [
        ("raise ModuleNotFoundError('no math_verify')", r"need math-verify; install it"),
        ("raise ImportError('Unsupported ANTLR version 4.7.2')", r"cannot be imported \(Unsupported ANTLR .*==4\.9\.3"),
    ],
)
def test_a_math_library_that_cannot_be_imported_is_refused_with_the_remedy(fault, remedy, tmp_path, monkeypatch):
    (tmp_path / "math_verify.py").write_text(fault)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "math_verify", raising=False)
    math._library.cache_clear()
    math._expressions.cache_clear()
    with pytest.raises(RewardError, match=remedy) as error:
        kind_of("math").score("1", "1")
    assert "\n" not in str(error.value)
    math._library.cache_clear()
