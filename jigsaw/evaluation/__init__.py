"""Evaluation: solving puzzles, figures with intervals beside chance.

The public door::

    evaluate_checkpoint(model, data, *, generation=GREEDY, out=None, ...) -> figures
    score_predictions(data, predictions, rewards) -> figures of completions that were made elsewhere
    generalize(run, *, out, ...) -> figures on unseen sources, sizes and words

Each is imported when it is first asked for; they differ in what they load.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jigsaw.evaluation.generalization import generalize
    from jigsaw.evaluation.generation import Generation
    from jigsaw.evaluation.run import evaluate_checkpoint
    from jigsaw.evaluation.scoring import score_predictions

__all__ = ["Generation", "evaluate_checkpoint", "generalize", "score_predictions"]

_HOMES = {
    "Generation": "generation",
    "evaluate_checkpoint": "run",
    "generalize": "generalization",
    "score_predictions": "scoring",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
