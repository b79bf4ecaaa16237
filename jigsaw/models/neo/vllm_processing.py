"""NEO's multimodal processor for vLLM: converts images to patches and to runs of context tokens.

In: prompts with one `<IMG_CONTEXT>` per image. Out: prompts with one such token per image token. The span of an image
is only its context tokens; `<img>` and `</img>` are text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vllm.config.multimodal import BaseDummyOptions
from vllm.multimodal.inputs import MultiModalFieldConfig
from vllm.multimodal.processing import (
    BaseDummyInputsBuilder,
    BaseMultiModalProcessor,
    BaseProcessingInfo,
    PromptReplacement,
)

from jigsaw.models.neo.configuration import NEOChatConfig
from jigsaw.models.neo.processing import CONTEXT, NEOProcessor

UNIT = 32
"""Side of a token in pixels."""


class NEOProcessingInfo(BaseProcessingInfo):  # type: ignore[misc]  # vLLM comes without types here
    """The configuration, the processor and the limits of media."""

    def get_hf_config(self) -> NEOChatConfig:
        """NEO's configuration."""
        config: NEOChatConfig = self.ctx.get_hf_config(NEOChatConfig)
        return config

    def get_hf_processor(self, **kwargs: object) -> NEOProcessor:
        """NEO's processor."""
        processor: NEOProcessor = self.ctx.get_hf_processor(NEOProcessor, **kwargs)
        return processor

    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        """Any number of images; videos are passed as images."""
        return {"image": None}

    def get_mm_max_tokens_per_item(self, seq_len: int, mm_counts: Mapping[str, int]) -> Mapping[str, int]:
        """Tokens of the largest image that fits in a prompt."""
        largest = self.get_hf_processor().image_processor.size["longest_edge"] // UNIT**2
        return {"image": min(largest, seq_len)}


class NEODummyInputs(BaseDummyInputsBuilder[NEOProcessingInfo]):  # type: ignore[misc]
    """The largest inputs, for profiling."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        """One placeholder per image."""
        return CONTEXT * mm_counts.get("image", 0)

    def get_dummy_mm_data(
        self, seq_len: int, mm_counts: Mapping[str, int], mm_options: Mapping[str, BaseDummyOptions]
    ) -> dict[str, Any]:
        """Square images of maximum size."""
        tokens = self.info.get_mm_max_tokens_per_item(seq_len, mm_counts)["image"]
        side = max(int(tokens**0.5), 1) * UNIT
        images = self._get_dummy_images(
            width=side, height=side, num_images=mm_counts.get("image", 0), overrides=mm_options.get("image")
        )
        return {"image": images}


class NEOMultiModalProcessor(BaseMultiModalProcessor[NEOProcessingInfo]):  # type: ignore[misc]
    """Applies NEO's processor."""

    def apply(self, inputs: Any, timing_ctx: Any) -> Any:
        """As in vLLM, with the number of images in the prompt.

        Their pixel budget depends on it, and vLLM's cache does not pass all of them to the processor together.
        """
        items = inputs.mm_data_items
        count = items.get_count("image") if "image" in items else 0
        kwargs = {**inputs.hf_processor_mm_kwargs, "prompt_images": count} if count else inputs.hf_processor_mm_kwargs
        return super().apply(replace(inputs, hf_processor_mm_kwargs=kwargs), timing_ctx)

    def _get_mm_fields_config(self, hf_inputs: Any, _: Mapping[str, object]) -> Mapping[str, MultiModalFieldConfig]:
        import torch

        grid = hf_inputs.get("image_grid_thw", torch.empty((0, 3), dtype=torch.long))
        return {
            "pixel_values": MultiModalFieldConfig.flat_from_sizes("image", grid.prod(-1)),
            "image_grid_thw": MultiModalFieldConfig.batched("image", keep_on_cpu=True),
        }

    def _get_prompt_updates(
        self, mm_items: Any, hf_processor_mm_kwargs: Mapping[str, Any], out_mm_kwargs: Any
    ) -> Sequence[PromptReplacement]:
        config = self.info.get_hf_config()
        token, merge = config.image_token_id, config.vision_config.merge_size

        def context_tokens(item: int) -> list[int]:
            grid = out_mm_kwargs["image"][item]["image_grid_thw"].data
            return [token] * (int(grid.prod()) // merge**2)

        return [PromptReplacement(modality="image", target=[token], replacement=context_tokens)]
