"""Golden test: the same completions give the same scores as an earlier version.

`golden/` holds puzzles without media, completions of three models (one with four samples each), and the scores that the
version of 2026-11-29 computed from them, in the layout of that version.
"""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from jigsaw.answering.answers import AnsweredPuzzle
from jigsaw.evaluation.figures import CHANGES, compare, evaluation_of
from jigsaw.evaluation.log import FIGURES
from jigsaw.rewards import Composition

GOLDEN = Path(__file__).parent / "golden"
PUZZLES, COMPLETIONS, EXPECTED = (
    json.loads((GOLDEN / f"{name}.json").read_text()) for name in ("puzzles", "completions", "figures")
)
COMPOSITION = Composition(PUZZLES["rewards"])


def evaluation(model):
    texts = {}
    for one in COMPLETIONS[model]:
        texts.setdefault(one["id"], []).append(one["text"])
    answers = [AnsweredPuzzle(row, texts[row["id"]], row["contrast"]) for row in PUZZLES["rows"]]
    return evaluation_of(answers, COMPOSITION)


def assert_equal(results, golden):
    """Asserts that all golden keys and texts are equal and that numbers differ at most by rounding."""
    if isinstance(golden, dict):
        for key in golden:
            assert_equal(results[key], golden[key])
    elif isinstance(golden, list):
        assert len(results) == len(golden)
        for one, other in zip(results, golden, strict=True):
            assert_equal(one, other)
    else:
        assert results == (pytest.approx(golden, rel=1e-9, abs=1e-12) if isinstance(golden, float) else golden)


def in_old_layout(figures):
    """The scores in the layout of the golden file, with the estimates next to the counts."""
    return {key: value for key, value in figures.items() if key != "estimates"} | figures["estimates"]


@pytest.mark.parametrize("model", ["after", "before", "sampled"])
def test_the_scores_of_a_model_equal_the_golden_ones(model):
    results, golden = in_old_layout(asdict(evaluation(model))), EXPECTED[model]
    results["groups"] = [in_old_layout(group) for group in results["groups"]]
    for entry in results["places"]:
        entry["grid"] = None if entry["grid"] is None else list(entry["grid"])
    for entry in golden["places"]:
        for cell in (entry["cells"] or {}).values():
            cell.pop("places", None)
    if model == "sampled":
        results["sampled"]["pass_at"] = [{"k": k, **figure} for k, figure in results["sampled"]["pass_at"].items()]
    assert_equal(results, golden)
    assert set(FIGURES) <= set(golden)


def test_the_differences_of_two_models_equal_the_golden_ones():
    before, after = (evaluation(model).samples for model in ("before", "after"))
    assert_equal(asdict(compare(before, after, "warmup", CHANGES))["changes"], EXPECTED["gain"])
    results = asdict(compare(before, after, "other"))
    assert_equal({"num_puzzles": results["num_puzzles"], "difference": results["changes"]}, EXPECTED["compared"])
