"""Evaluation: figures of models on puzzles, with intervals and chance levels.

The public API::

    evaluate_checkpoint(model, data, *, generation=GREEDY, out=None, ...) -> EvalLog
    score_predictions(data, predictions, rewards) -> EvalLog of completions from another program
    generalize(run, *, out, ...) -> figures on unseen sources, sizes and prompt variants
    read_log(folder) -> EvalLog that one of these, or a run, has written

Each is imported when it is first used, because only some of them need torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jigsaw.answering.generation import Generation
    from jigsaw.evaluation.evaluate import evaluate_checkpoint
    from jigsaw.evaluation.generalization import generalize
    from jigsaw.evaluation.log import EvalLog, read_log
    from jigsaw.evaluation.score import score_predictions

__all__ = ["EvalLog", "Generation", "evaluate_checkpoint", "generalize", "read_log", "score_predictions"]

_MODULES = {
    "EvalLog": "jigsaw.evaluation.log",
    "Generation": "jigsaw.answering.generation",
    "evaluate_checkpoint": "jigsaw.evaluation.evaluate",
    "generalize": "jigsaw.evaluation.generalization",
    "read_log": "jigsaw.evaluation.log",
    "score_predictions": "jigsaw.evaluation.score",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
