"""Makes transformers' Auto classes open NEO."""

from __future__ import annotations

import functools
from typing import Any

import transformers
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedConfig,
)

from jigsaw.models.neo.configuration import ARCHITECTURE, NEOChatConfig
from jigsaw.models.neo.model import NEOChatModel
from jigsaw.models.neo.processing import NEOImageProcessor, NEOProcessor


def register() -> None:
    """Register configuration, model and processors; a second call changes nothing."""
    AutoConfig.register(NEOChatConfig.model_type, NEOChatConfig, exist_ok=True)
    AutoModelForImageTextToText.register(NEOChatConfig, NEOChatModel, exist_ok=True)
    AutoImageProcessor.register(
        NEOChatConfig, image_processor_classes={"torchvision": NEOImageProcessor}, exist_ok=True
    )
    AutoProcessor.register(NEOChatConfig, NEOProcessor, exist_ok=True)
    # TRL (1.16) opens the model that the KL is measured from by its class, which it looks for in transformers alone
    setattr(transformers, ARCHITECTURE, NEOChatModel)
    if not hasattr(AutoConfig.from_pretrained, "knows_neo"):
        AutoConfig.from_pretrained = _by_architecture(AutoConfig.from_pretrained)


def _by_architecture(original: Any) -> Any:
    """`AutoConfig.from_pretrained` that knows a NEO by its architecture.

    The library goes by the model type alone, and the PT checkpoints carry one that is not NEO's. It could go once the
    authors correct these files.
    """

    @functools.wraps(original)
    def from_pretrained(path: Any, **kwargs: Any) -> Any:
        found, rest = PreTrainedConfig.get_config_dict(path, **kwargs)
        if ARCHITECTURE in (found.get("architectures") or ()) and found.get("model_type") != NEOChatConfig.model_type:
            for name in ("trust_remote_code", "code_revision"):  # of code that comes with a checkpoint: not ours
                rest.pop(name, None)
            return NEOChatConfig.from_dict({**found, "model_type": NEOChatConfig.model_type}, **rest)
        return original(path, **kwargs)

    from_pretrained.knows_neo = True  # type: ignore[attr-defined]
    return from_pretrained
