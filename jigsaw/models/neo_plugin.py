"""vLLM's way to NEO and to another layout of experts: the entry point of `vllm.general_plugins`.

vLLM calls `register` in every process of an environment that has this package, for whatever model. It therefore writes
names down and imports nothing of ours: model, configuration and the check of the engine's configuration are imported
when a model of that kind is opened. It may be called again, and never fails.
"""

from __future__ import annotations

import logging
from typing import Any

ARCHITECTURE = "NEOChatModel"
EXPERTS = "Qwen3VLMoeForConditionalGeneration"


class NEOEngineConfig:
    """What vLLM asks before it opens a NEO, in the form that its `MODELS_CONFIG_MAP` wants."""

    @staticmethod
    def verify_and_update_model_config(model_config: Any) -> None:
        """Say what the configuration on disk does not."""
        from jigsaw.models.neo.vllm_config import prepare_model

        prepare_model(model_config)

    @staticmethod
    def verify_and_update_config(vllm_config: Any) -> None:
        """Refuse or set what would drop the image mask."""
        from jigsaw.models.neo.vllm_config import prepare_engine

        prepare_engine(vllm_config)


def register() -> None:
    """Make NEO known to vLLM, and another layout of experts."""
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
    except Exception:  # a plug-in that fails takes vLLM down for every other model too
        logging.getLogger(__name__).warning("NEO could not be registered with this vLLM", exc_info=True)
