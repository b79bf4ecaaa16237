"""The result of a run in a sentence: clear to anyone, and no stronger than the intervals."""

from __future__ import annotations

from typing import Any

import pytest

from jigsaw.report.headline import headline

CHANCE = {"exact": 1 / 24, "place_accuracy": 1 / 4}


def figures(exact: float, place: float | None = None, sources: int = 40, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"num_sources": sources, "num_puzzles": 120}
    for name, value in (("exact", exact), ("place_accuracy", place)):
        if value is not None:
            found[name] = {"value": value, "low": value - 0.05, "high": value + 0.05, "chance": CHANCE[name]}
    return found | more


def run(before: float, after: float, low: float, high: float, sources: int = 40, **more: float) -> dict[str, Any]:
    change = {"value": after - before, "low": low, "high": high, **more}
    return {"heldout": figures(after, sources=sources), "warmup": figures(before), "gain": {"exact": change}}


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
def test_the_change_is_called_what_its_interval_allows(stored, tone, sentence):
    found = headline(stored)
    assert (found.sentence, found.tone) == (sentence, tone)
    assert found.badge == {"better": "GRPO helped", "same": "no measurable change", "worse": "GRPO made it worse"}[tone]


@pytest.mark.parametrize("wrap", [lambda own: {"heldout": own}, lambda own: own])
@pytest.mark.parametrize(
    ("exact", "tone", "badge"),
    [(0.61, "better", "better than guessing"), (0.05, "same", "no better than guessing")],
)
def test_without_a_warm_up_before_grpo_the_model_is_compared_with_guessing(wrap, exact, tone, badge):
    found = headline(wrap(figures(exact)))
    assert found.sentence.startswith(f"The model solves {exact:.0%} of the held-out puzzles (95% interval: ")
    assert found.sentence.endswith("; guessing solves 4%.")
    assert "GRPO" not in found.sentence
    assert (found.tone, found.badge) == (tone, badge)


def test_pieces_in_the_right_place_have_a_sentence_of_their_own():
    place = {"place_accuracy": {"value": 0.06, "low": 0.02, "high": 0.09}}
    stored = {"heldout": figures(0.0, 0.36), "warmup": figures(0.0, 0.3)}
    stored["gain"] = {"exact": {"value": 0.0, "low": 0.0, "high": 0.0}} | place
    found = headline(stored)
    assert found.tone == "same"
    assert found.detail == (
        "Pieces in the right place went from 30% to 36% (95% interval of the change: +2 to +9 points);"
        " guessing places 25%."
    )


@pytest.mark.parametrize("stored", [{}, {"heldout": None}, {"heldout": {"exact": {"value": float("nan")}}}])
def test_a_run_without_figures_is_said_to_have_none(stored):
    assert headline(stored).sentence == "The model has not been evaluated on held-out puzzles yet."


def test_a_chance_level_that_is_not_known_is_not_printed():
    stored = run(0.12, 0.61, 0.4, 0.6)
    del stored["heldout"]["exact"]["chance"]
    assert headline(stored).sentence == "GRPO raised solved puzzles from 12% to 61%."


@pytest.mark.parametrize(("valid", "said"), [(0.03, True), (0.97, False)])
def test_a_model_whose_answers_are_mostly_invalid_is_said_to_be_one(valid, said):
    stored = run(0.12, 0.12, -0.1, 0.1)
    stored["heldout"]["valid"] = {"value": valid}
    assert ("Only 3% of the answers name every piece once." in headline(stored).detail) == said
