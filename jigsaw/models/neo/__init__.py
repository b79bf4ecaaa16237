"""NEO, the native vision-language model (arXiv 2510.14979), in plain transformers style.

Importing this package registers NEO with `AutoConfig`, `AutoModelForImageTextToText` and `AutoProcessor`, so that
official checkpoints open like any other:

    import jigsaw.models.neo
    model = AutoModelForImageTextToText.from_pretrained("Paranioar/NEO1_0-2B-SFT")

docs/neo.md explains the model.
"""

from jigsaw.models.neo.configuration import NEOChatConfig, NEOTextConfig, NEOVisionConfig
from jigsaw.models.neo.model import NEOChatModel
from jigsaw.models.neo.processing import NEOImageProcessor, NEOProcessor
from jigsaw.models.neo.registration import register

register()

__all__ = [
    "NEOChatConfig",
    "NEOChatModel",
    "NEOImageProcessor",
    "NEOProcessor",
    "NEOTextConfig",
    "NEOVisionConfig",
]
