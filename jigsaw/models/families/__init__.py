"""Model families: the differences between architectures, one file each, selected by `config.model_type`.

    family_of(model) -> Family                the family of a model, wrapped or not
    family_of_processor(processor) -> Family  the family that a processor belongs to
    require_supported(config, where) -> str   checks a `config.json` and returns its model type; imports no torch

No code outside this package depends on the architecture. An architecture that is not listed here is refused, because
guessed positions and attention masks give wrong log-probabilities without any error.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

from jigsaw.errors import JigsawError
from jigsaw.models.families.base import Family, Medium

__all__ = ["MODEL_TYPES", "Family", "Medium", "family_named", "family_of", "family_of_processor", "require_supported"]

MODEL_TYPES: Mapping[str, str] = {
    "qwen2_vl": "jigsaw.models.families.qwen:Qwen2VL",
    "qwen2_5_vl": "jigsaw.models.families.qwen:Qwen25VL",
    "qwen3_vl": "jigsaw.models.families.qwen3:Qwen3VL",
    "qwen3_vl_moe": "jigsaw.models.families.qwen3:Qwen3VLMoe",
    "internvl": "jigsaw.models.families.internvl:InternVL",
    "smolvlm": "jigsaw.models.families.smolvlm:SmolVLM",
    "gemma3": "jigsaw.models.families.gemma3:Gemma3",
    "llava_onevision": "jigsaw.models.families.llava_onevision:LlavaOnevision",
    "neo_chat": "jigsaw.models.families.neo:Neo",
}
"""The supported values of `model_type` in a checkpoint's `config.json`, and the class of each family."""

_ARCHITECTURES = {"NEOChatModel": "neo_chat"}
"""Architectures whose checkpoints may have another `model_type`, as NEO's PT checkpoints do."""

_REFUSED = {
    "qwen3_5": "its linear-attention layers carry a state through padding and from one completion to the next",
    "qwen3_5_moe": "its linear-attention layers carry a state through padding and from one completion to the next",
    "qwen3_next": "its linear-attention layers carry a state through padding and from one completion to the next",
}
"""Architectures that were tested and do not work, with the reason."""


def require_supported(config: Mapping[str, Any], where: str) -> str:
    """Check that the architecture of a checkpoint is supported, without importing torch.

    Args:
        config: the content of a `config.json`.
        where: name of the checkpoint, for the error.

    Returns:
        Its model type, a key of `MODEL_TYPES`.

    Raises:
        JigsawError: the architecture is not supported.

    >>> require_supported({"model_type": "qwen2_5_vl"}, "here")
    'qwen2_5_vl'
    >>> require_supported({"model_type": "qwen3_5"}, "here")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    jigsaw.errors.JigsawError: here: the architecture qwen3_5 is not supported: its linear-attention layers carry ...
    """
    named = config.get("architectures")
    own = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    kind = next((_ARCHITECTURES[name] for name in own if name in _ARCHITECTURES), None)
    kind = kind or str(config.get("model_type"))[:60]
    if kind not in MODEL_TYPES:
        why = f": {_REFUSED[kind]}" if kind in _REFUSED else ""
        raise JigsawError(
            f"{where}: the architecture {kind} is not supported{why}; supported are {', '.join(MODEL_TYPES)}"
        )
    return kind


@cache
def family_named(model_type: str) -> Family:
    """The family of a model type, a key of `MODEL_TYPES`."""
    module, _, name = MODEL_TYPES[model_type].partition(":")
    family: Family = getattr(import_module(module), name)()
    return family


def family_of(model: Any) -> Family:
    """The family of a `transformers` model, possibly wrapped by data parallelism, DeepSpeed or adapters.

    Raises:
        JigsawError: the architecture is not supported.
    """
    network = unwrapped(model)
    config = {"model_type": network.config.model_type, "architectures": network.config.architectures}
    return family_named(require_supported(config, type(network).__name__))


def family_of_processor(processor: Any) -> Family:
    """The family of a processor, by its class.

    Raises:
        JigsawError: no supported family has such a processor.
    """
    names = {kind.__name__ for kind in type(processor).__mro__}
    for model_type in MODEL_TYPES:
        family = family_named(model_type)
        if family.processor in names:
            return family
    raise JigsawError(
        f"{type(processor).__name__}: not the processor of a supported architecture ({', '.join(MODEL_TYPES)})"
    )


def unwrapped(model: Any) -> Any:
    """The model without the wrappers of data parallelism, DeepSpeed and adapters."""
    while hasattr(model, "module"):
        model = model.module
    return model.get_base_model() if hasattr(model, "get_base_model") else model
