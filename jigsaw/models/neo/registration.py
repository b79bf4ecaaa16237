"""Registers NEO with transformers' Auto classes."""

from __future__ import annotations

from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor

from jigsaw.compat import open_by_architecture
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


def open_anywhere() -> None:
    """Register NEO, and also open PT checkpoints, which have another model type, and TRL's reference model."""
    register()
    open_by_architecture(ARCHITECTURE, NEOChatConfig, NEOChatModel)
