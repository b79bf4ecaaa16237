"""The headline of a report: a sentence on the result of a run that agrees with its intervals."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jigsaw.evaluation.log import FIGURES, Change, Comparison, Evaluation, Figure, SetLog
from jigsaw.report.headline import headline, headline_so_far

CHANCE = {"exact": 1 / 24, "place_accuracy": 1 / 4}


def model(exact: float, place: float = 0.3, sources: int = 40, valid: float = 1.0) -> Evaluation:
    values = {"exact": exact, "place_accuracy": place, "valid": valid}
    estimates = {
        name: Figure(value := values.get(name, 0.5), value - 0.05, value + 0.05, chance=CHANCE.get(name))
        for name in FIGURES
    }
    return Evaluation(
        num_puzzles=120, num_sources=sources, estimates=estimates, groups=[], reasons={}, places=[], samples=[]
    )


def run(before: float, after: float, low: float, high: float, sources: int = 40, p_value: float = 0.001) -> SetLog:
    changes = {name: Change(after - before, low, high, p_value) for name in ("exact", "place_accuracy", "reward")}
    return SetLog(
        model=model(after, sources=sources),
        warmup=model(before),
        compared=Comparison(other="warmup", num_puzzles=120, changes=changes),
    )


@pytest.mark.parametrize(
    ("stored", "tone", "sentence"),
    [
        (run(0.12, 0.61, 0.4, 0.6), "better", "GRPO raised solved puzzles from 12% to 61%; guessing solves 4%."),
        (run(0.61, 0.12, -0.6, -0.4), "worse", "GRPO lowered solved puzzles from 61% to 12%; guessing solves 4%."),
        (
            run(0.181, 0.184, 0.001, 0.006),
            "better",
            "GRPO raised solved puzzles from 18.1% to 18.4%; guessing solves 4%.",
        ),
        (
            run(0.18, 0.19, -0.02, 0.03),
            "same",
            "GRPO made no measurable difference: solved puzzles went from 18% to 19%"
            " (95% interval of the change: -2 to +3 points); guessing solves 4%.",
        ),
        (
            run(0.18, 0.18, 0.0, 0.0),
            "same",
            "GRPO made no measurable difference: solved puzzles stayed at 18%"
            " (95% interval of the change: 0 to 0 points); guessing solves 4%.",
        ),
        (
            run(0.0, 0.5, 0.2, 0.7, sources=2, p_value=0.5),
            "same",
            "GRPO made no measurable difference: solved puzzles went from 0% to 50%"
            " (the held-out puzzles come from only 2 sources); guessing solves 4%.",
        ),
        (
            run(0.2, 0.25, 0.01, 0.09, p_value=0.06),
            "same",
            "GRPO made no measurable difference: solved puzzles went from 20% to 25%"
            " (95% interval of the change: +1 to +9 points, but p = 0.06); guessing solves 4%.",
        ),
    ],
)
def test_the_sentence_on_the_change_follows_from_its_interval(stored, tone, sentence):
    result = headline(stored)
    assert (result.sentence, result.tone) == (sentence, tone)
    badges = {"better": "GRPO helped", "same": "no measurable change", "worse": "GRPO made it worse"}
    assert result.badge == badges[tone]


@pytest.mark.parametrize(
    ("exact", "tone", "badge"),
    [(0.61, "better", "better than guessing"), (0.05, "same", "no better than guessing")],
)
def test_without_a_warm_up_before_grpo_the_model_is_compared_with_guessing(exact, tone, badge):
    result = headline(SetLog(model=model(exact)))
    assert result.sentence.startswith(f"The model solves {exact:.0%} of the held-out puzzles (95% interval: ")
    assert result.sentence.endswith("; guessing solves 4%.")
    assert "GRPO" not in result.sentence
    assert (result.tone, result.badge) == (tone, badge)


def test_place_accuracy_has_a_separate_sentence():
    one = run(0.0, 0.0, 0.0, 0.0)
    changes = one.compared.changes | {"place_accuracy": Change(0.06, 0.02, 0.09, 0.001)}
    one = replace(one, model=model(0.0, 0.36), compared=replace(one.compared, changes=changes))
    result = headline(one)
    assert result.tone == "same"
    assert result.detail == (
        "Pieces in the right place went from 30% to 36% (95% interval of the change: +2 to +9 points);"
        " guessing places 25%."
    )


def test_the_headline_of_a_run_without_evaluation_says_so():
    assert headline_so_far([]).sentence == "The model has not been evaluated on held-out puzzles yet."


def test_an_unknown_chance_is_not_printed():
    one = run(0.12, 0.61, 0.4, 0.6)
    estimates = one.model.estimates | {"exact": replace(one.model.estimates["exact"], chance=None)}
    one = replace(one, model=replace(one.model, estimates=estimates))
    assert headline(one).sentence == "GRPO raised solved puzzles from 12% to 61%."


@pytest.mark.parametrize(("valid", "printed"), [(0.03, True), (0.97, False)])
def test_the_share_of_valid_answers_is_printed_if_most_are_invalid(valid, printed):
    one = replace(run(0.12, 0.12, -0.1, 0.1), model=model(0.12, valid=valid))
    assert ("Only 3% of the answers are valid." in headline(one).detail) == printed
