"""Models: opens and checks checkpoints, creates tiny models, computes log-probabilities of completions.

The public API::

    load_model(path, dtype="float32") -> a transformers model of a supported family, ready to generate
    load_processor(path, *, min_pixels=None, max_pixels=None) -> its processor
    build_tiny(architecture, out, *, texts=(), **sizes) -> the folder of a model from random weights
    completion_log_probabilities(model, processor, rows, completions, *, shared=True) -> for each row its tensors

The supported families are in `jigsaw.models.families`. Each name is imported when it is first used: transformers takes
seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jigsaw.models.load import load_model, load_processor
    from jigsaw.models.shared_prefix import completion_log_probabilities
    from jigsaw.models.tiny import build_tiny

__all__ = ["build_tiny", "completion_log_probabilities", "load_model", "load_processor"]

_HOMES = {
    "build_tiny": "tiny",
    "completion_log_probabilities": "shared_prefix",
    "load_model": "load",
    "load_processor": "load",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
