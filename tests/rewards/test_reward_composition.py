"""Composition of a recipe's rewards: weights, gates, tasks, error handling, metrics and the functions for TRL."""

import asyncio
import logging
import math

import pytest

from jigsaw.rewards import Composition, RewardError, RewardSpec, format_order

ANSWER = [2, 3, 1]
RIGHT, NEAR, BROKEN = format_order(ANSWER), format_order([2, 1, 3]), "2, 3, 1"
COLUMNS = {
    "answer": [ANSWER] * 3,
    "task": ["image", "video", "image"],
    "id": ["a1", "b2", "c3"],
    "answer_style": ["think"] * 3,
}
TEXTS = [RIGHT, NEAR, BROKEN]


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        """
def one(completions, **columns):
    return [1.0] * len(completions)

def fragile(completions, id):
    return [float("nan") if name == "b2" else 1.0 for name in id]

def touchy(completions, id):
    if "b2" in id:
        raise KeyError("b2")
    return [1.0] * len(id)

def lossy(completions, id):
    return [1.0] * (len(id) if id[0].startswith("synthetic") else len(id) - 1)

def together(completions, id):
    if len(id) == 3:
        raise OSError("too many")
    return [1.0] * len(id)

async def asked(completions, answer):
    return [1.0] * len(completions)

def seen(completions, id, log_extra=None):
    log_extra("name", list(id))
    return [1.0] * len(id)
"""
    )


def test_the_total_is_the_weighted_sum_of_the_rewards_that_have_a_value(plugins):
    both = Composition([{"use": "visual_jigsaw"}, {"use": "mine.py:one", "weight": -0.5, "only": ["video"]}])
    scores = both.score(TEXTS, COLUMNS)
    assert scores == {"visual_jigsaw": [1.2, pytest.approx(0.2 / 3 + 0.2), 0.0], "one": [None, 1.0, None]}
    assert both.total(scores) == [1.2, pytest.approx(0.2 / 3 + 0.2 - 0.5), 0.0]
    assert both.weights == [1.0, -0.5]
    only = Composition([{"use": "mine.py:one", "only": ["depth"]}])
    assert only.total(only.score(TEXTS, COLUMNS)) == [None, None, None]


def test_a_format_gate_gives_zero_to_a_completion_in_wrong_form(plugins):
    gated = Composition([{"use": "mine.py:one", "gate": "format"}])
    assert gated.score(TEXTS, COLUMNS) == {"one": [1.0, 1.0, 0.0]}
    direct = {**COLUMNS, "answer_style": ["direct"] * 3}
    assert gated.score(TEXTS, direct) == {"one": [0.0, 0.0, 1.0]}


@pytest.mark.parametrize("use", ["mine.py:touchy", "mine.py:fragile"])
@pytest.mark.parametrize(("on_error", "value"), [("zero", 0.0), ("skip", None)])
def test_a_failing_row_does_not_change_the_other_rows(plugins, use, on_error, value, caplog):
    composed = Composition([{"use": use, "on_error": on_error}])
    with caplog.at_level(logging.WARNING):
        assert list(composed.score(TEXTS, COLUMNS).values()) == [[1.0, value, 1.0]]
    assert "row b2: mine.py:" in caplog.text and "1 of 3 rows failed" in caplog.text


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (
            "mine.py:touchy",
            r"reward touchy, row b2: mine\.py:touchy \(mine\.py:10\) raised KeyError: 'b2' \(on_error: zero",
        ),
        ("mine.py:fragile", r"reward fragile, row b2: mine\.py:fragile \(mine\.py:5\) returned nan at position 0"),
        ("mine.py:lossy", r"reward lossy, row a1: .* returned 0 values for 1 completions"),
        ("mine.py:together", r"reward together, a batch of 3 rows from row a1: .* raised OSError: too many"),
    ],
)
def test_a_failure_is_an_error_that_names_the_row_and_the_line(plugins, use, message):
    with pytest.raises(RewardError, match=message) as error:
        Composition([use]).score(TEXTS, COLUMNS)
    assert "\n" not in str(error.value)


def test_on_error_also_applies_to_a_batch_that_fails_only_as_a_whole(plugins):
    assert Composition([{"use": "mine.py:together", "on_error": "zero"}]).score(TEXTS, COLUMNS) == {
        "together": [0.0] * 3
    }


def test_a_missing_column_is_an_error_whatever_on_error_says(plugins):
    composed = Composition([{"use": "mine.py:touchy", "on_error": "skip"}])
    with pytest.raises(RewardError, match="needs the column id"):
        composed.score(TEXTS, {"answer": [ANSWER] * 3})
    with pytest.raises(RewardError, match="is for video only, but the rows have no column task"):
        Composition([{"use": "format", "only": ["video"]}]).score(TEXTS, {"answer": [ANSWER] * 3})


def test_metrics_are_logged_with_the_rewards(plugins):
    composed = Composition(["visual_jigsaw"], ["exact", "valid", "visual_jigsaw", {"use": "mine.py:touchy"}])
    assert composed.measure(TEXTS, COLUMNS) == {
        "exact": [1.0, 0.0, 0.0],
        "valid": [1.0, 1.0, 0.0],
        "visual_jigsaw": [1.2, pytest.approx(0.2 / 3 + 0.2), 0.0],
        "touchy": [1.0, None, 1.0],
    }
    assert composed.names == ["visual_jigsaw"]


def test_trl_gets_functions_with_unique_names_and_their_weights(plugins):
    composed = Composition(["format", {"use": "jigsaw.rewards.text:format_reward", "weight": 0.5}, "format"])
    functions, weights = composed.trl_functions()
    assert [function.__name__ for function in functions] == ["format", "format_reward", "format_2"]
    assert weights == [1.0, 0.5, 1.0]
    assert functions[-1](prompts=[[]] * 3, completions=TEXTS, completion_ids=[[1]] * 3, **COLUMNS) == [1.0, 1.0, 0.0]


def test_the_functions_accept_the_message_lists_state_and_loggers_of_trl(plugins):
    logged = {}
    columns = {**COLUMNS, "trainer_state": object(), "log_extra": logged.__setitem__, "log_metric": None}
    columns |= {"prompts": [[]] * 3, "completion_ids": [[1] * 150] * 3}
    messages = [[{"role": "assistant", "content": text}] for text in TEXTS]
    composed = Composition(["visual_jigsaw", "length", {"use": "mine.py:seen", "only": ["image"]}, "mine.py:asked"])
    functions, _ = composed.trl_functions()
    assert functions[0](completions=messages, **columns) == [1.2, pytest.approx(0.2 / 3 + 0.2), 0.0]
    assert functions[1](completions=messages, **columns) == [1.0] * 3
    assert functions[2](completions=messages, **columns) == [1.0, None, 1.0]
    assert logged == {"name": ["a1", None, "c3"]}  # one value per row of the batch, as TRL requires
    assert asyncio.iscoroutinefunction(functions[3])
    assert asyncio.run(functions[3](completions=messages, **columns)) == [1.0] * 3


def test_a_composition_lists_the_columns_that_it_reads(plugins):
    assert Composition(["mine.py:touchy"], ["neighbor_accuracy"]).columns == [
        "answer",
        "answer_style",
        "classes",
        "geometry",
        "id",
        "think_prefilled",
    ]


def test_think_prefilled_is_passed_to_rewards_and_gates(plugins):
    text = format_order(ANSWER, think_prefilled=True)
    entries = ["visual_jigsaw", {"use": "mine.py:one", "gate": "format"}]
    columns = {"answer": [ANSWER], "think_prefilled": [True]}
    assert Composition(entries).score([text], columns) == {"visual_jigsaw": [1.2], "one": [1.0]}
    assert Composition(entries).score([text], {"answer": [ANSWER]}) == {"visual_jigsaw": [0.0], "one": [0.0]}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"use": "format", "wieght": 1}, "reward 'format': no key 'wieght'; did you mean weight?"),
        ({"use": "format", "args": {"penalty": 1}}, "format (jigsaw/rewards/text.py"),
        ({"use": "repetition", "args": {"penaltie": 1}}, "no argument 'penaltie'; did you mean penalty?"),
        ({"use": "formt"}, "no reward is called 'formt'; did you mean format?"),
        ({"use": "valid"}, "valid is a metric"),
        ({"weight": 1.0}, "a reward without `use`"),
        ({"use": ""}, "`use` is ''"),
        ({"use": "format", "weight": "heavy"}, "weight is 'heavy'; it must be a finite number"),
        ({"use": "format", "weight": math.nan}, "weight is nan"),
        ({"use": "format", "weight": True}, "weight is True"),
        ({"use": "format", "args": [1]}, "args is [1]; it must be a mapping"),
        ({"use": "format", "gate": "exact"}, "gate is 'exact'; it must be format or agreement, or left out"),
        ({"use": "format", "only": "video"}, "only is 'video'; it must be a list of task names such as [video]"),
        ({"use": "format", "only": []}, "only is []"),
        ({"use": "format", "on_error": "zreo"}, "on_error is 'zreo'; did you mean zero?"),
        (3, "a reward is 3; write a name, or a mapping with `use`"),
    ],
)
def test_wrong_entries_are_refused(entry, message, monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    with pytest.raises(RewardError) as error:
        Composition([entry])
    assert message in str(error.value)


def test_a_metric_has_no_weight():
    with pytest.raises(RewardError, match="metric 'exact' has a weight"):
        Composition(["visual_jigsaw"], [{"use": "exact", "weight": 2}])


def test_specs_are_frozen_and_keyword_only():
    spec = RewardSpec(use="format", weight=2)
    with pytest.raises(AttributeError):
        spec.weight = 3
    with pytest.raises(TypeError):
        RewardSpec("format")
    assert RewardSpec.of(spec) is spec
