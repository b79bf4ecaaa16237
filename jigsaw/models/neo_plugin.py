"""Registers NEO, and Qwen3-VL experts of either layout, with vLLM: the entry point of `vllm.general_plugins`.

vLLM calls `register` in every process of an environment that has this package, for any model. So it only registers
names and imports nothing else of this package; model, configuration and checks are imported when a model of that kind
is opened. It may be called several times, and never fails.
"""

from __future__ import annotations

import logging
from typing import Any

ARCHITECTURE = "NEOChatModel"
EXPERTS = "Qwen3VLMoeForConditionalGeneration"


class NEOEngineConfig:
    """Hooks that vLLM calls before it opens a NEO, in the form of its `MODELS_CONFIG_MAP`."""

    @staticmethod
    def verify_and_update_model_config(model_config: Any) -> None:
        """Complete the model's configuration."""
        from jigsaw.models.neo.vllm_config import prepare_model

        prepare_model(model_config)

    @staticmethod
    def verify_and_update_config(vllm_config: Any) -> None:
        """Set or refuse settings that would drop the image mask."""
        from jigsaw.models.neo.vllm_config import prepare_engine

        prepare_engine(vllm_config)


def register() -> None:
    """Register NEO and the class for experts of either layout with vLLM."""
    try:
        from vllm.model_executor.models import ModelRegistry
        from vllm.model_executor.models.config import MODELS_CONFIG_MAP
        from vllm.transformers_utils import configs
        from vllm.transformers_utils.config import _CONFIG_REGISTRY

        configs._CLASS_TO_MODULE["NEOChatConfig"] = "jigsaw.models.neo.configuration"
        dict.__setitem__(_CONFIG_REGISTRY, "neo_chat", "NEOChatConfig")
        MODELS_CONFIG_MAP[ARCHITECTURE] = NEOEngineConfig
        ModelRegistry.register_model(ARCHITECTURE, "jigsaw.models.neo.vllm_model:NEOForVLLM")
        ModelRegistry.register_model(EXPERTS, "jigsaw.engines.vllm_experts:Qwen3VLMoe")
    except Exception:  # a plug-in that fails would break vLLM for every other model
        logging.getLogger(__name__).warning("NEO could not be registered with this vLLM", exc_info=True)
