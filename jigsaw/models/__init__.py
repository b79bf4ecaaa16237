"""Models: tiny ones made here, checkpoints opened from elsewhere.

The public door::

    load_model(path, dtype="float32") -> a transformers model, Qwen2.5-VL or NEO, ready to generate
    load_processor(path, *, min_pixels=None, max_pixels=None) -> its processor
    build_tiny(architecture, TinySizes(...), texts, out) -> parameters of a model from random weights, written to `out`

Each is imported when it is first asked for: transformers takes seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jigsaw.models.load import load_model, load_processor
    from jigsaw.models.tiny import TinySizes, build_tiny

__all__ = ["TinySizes", "build_tiny", "load_model", "load_processor"]

_HOMES = {"TinySizes": "tiny", "build_tiny": "tiny", "load_model": "load", "load_processor": "load"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
