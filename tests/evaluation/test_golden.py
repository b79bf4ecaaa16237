"""The same completions give the figures that they gave before the evaluation had one log.

`golden/` holds puzzles without media, completions of three models (one with four samples each), and the figures that
the version of 2026-11-29 computed from them.
"""

import json
from pathlib import Path

import pytest

from jigsaw.evaluation.breakdown import figures_of
from jigsaw.evaluation.run import compared
from jigsaw.evaluation.summary import gain, score
from jigsaw.rewards import Composition

GOLDEN = Path(__file__).parent / "golden"
PUZZLES, COMPLETIONS, FIGURES = (
    json.loads((GOLDEN / f"{name}.json").read_text()) for name in ("puzzles", "completions", "figures")
)


def answered(model):
    rows = {row["id"]: row for row in PUZZLES["rows"]}
    return [rows[one["id"]] | {"sample": one["sample"], "completion": one["text"]} for one in COMPLETIONS[model]]


def agree(found, golden):
    """The same keys and texts everywhere, and numbers that differ by rounding at most."""
    if isinstance(golden, dict):
        assert set(found) == set(golden)
        for key in golden:
            agree(found[key], golden[key])
    elif isinstance(golden, list):
        assert len(found) == len(golden)
        for one, other in zip(found, golden, strict=True):
            agree(one, other)
    else:
        assert found == (pytest.approx(golden, rel=1e-9, abs=1e-12) if isinstance(golden, float) else golden)


@pytest.mark.parametrize("model", ["after", "before", "sampled"])
def test_figures_of_a_model(model):
    composition = Composition(PUZZLES["rewards"])
    agree(figures_of(PUZZLES["rows"], score(answered(model), composition), composition), FIGURES[model])


def test_differences_of_two_models():
    composition = Composition(PUZZLES["rewards"])
    before, after = (score(answered(model), composition) for model in ("before", "after"))
    agree(gain(before, after), FIGURES["gain"])
    agree(compared(before, after), FIGURES["compared"])
