"""The same completions give the figures that they gave before the evaluation had one log.

`golden/` holds puzzles without media, completions of three models (one with four samples each), and the figures that
the version of 2026-11-29 computed from them, each list of values in its old layout.
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


def agree(found, golden):
    """Every golden key and text, and numbers that differ by rounding at most."""
    if isinstance(golden, dict):
        for key in golden:
            agree(found[key], golden[key])
    elif isinstance(golden, list):
        assert len(found) == len(golden)
        for one, other in zip(found, golden, strict=True):
            agree(one, other)
    else:
        assert found == (pytest.approx(golden, rel=1e-9, abs=1e-12) if isinstance(golden, float) else golden)


def in_old_layout(figures):
    """Estimates beside the counts; pass@k as a list; cells without their number of places."""
    return {key: value for key, value in figures.items() if key != "estimates"} | figures["estimates"]


@pytest.mark.parametrize("model", ["after", "before", "sampled"])
def test_figures_of_a_model(model):
    found, golden = in_old_layout(asdict(evaluation(model))), EXPECTED[model]
    found["groups"] = [in_old_layout(group) for group in found["groups"]]
    for entry in found["places"]:
        entry["grid"] = None if entry["grid"] is None else list(entry["grid"])
    for entry in golden["places"]:
        for cell in (entry["cells"] or {}).values():
            cell.pop("places", None)
    if model == "sampled":
        found["sampled"]["pass_at"] = [{"k": k, **figure} for k, figure in found["sampled"]["pass_at"].items()]
    agree(found, golden)
    assert set(FIGURES) <= set(golden)


def test_differences_of_two_models():
    before, after = (evaluation(model).samples for model in ("before", "after"))
    agree(asdict(compare(before, after, "warmup", CHANGES))["changes"], EXPECTED["gain"])
    found = asdict(compare(before, after, "other"))
    agree({"num_puzzles": found["num_puzzles"], "difference": found["changes"]}, EXPECTED["compared"])
