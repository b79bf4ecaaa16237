"""Qwen2-VL and Qwen2.5-VL: M-RoPE positions, causal attention, a vision tower that takes packed patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from jigsaw.models.families.base import IMAGE, VIDEO, BoxUnit, Family, Medium

VISION_TOKENS = (
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
"""Tokens that stand for media in a prompt."""


class Qwen2VL(Family):
    """Three equal position axes for text; the rules of `get_rope_index` for media."""

    model_type = "qwen2_vl"
    processor = "Qwen2VLProcessor"
    box_unit: ClassVar[BoxUnit] = "thousandths"
    parts = {  # noqa: RUF012  # of the base class
        "projector": ("*.merger.*", "*.merger_list.*", "*.deepstack_merger_list.*"),
        "vision_tower": ("*visual.*",),
        "language_model": ("*language_model.*", "lm_head.*"),
    }

    def prepare(self, model: Any) -> None:
        """See `Family`."""
        from jigsaw.compat import embed_patches_by_product
        from jigsaw.models.vision_windows import WINDOWS

        visual = model.model.visual
        visual.config._attn_implementation = WINDOWS
        embed_patches_by_product(visual.patch_embed.proj)

    def positions(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, fields: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """See `Family`."""
        names = ["mm_token_type_ids", *(name for medium in self.media for name in (medium.grid, *medium.per_medium))]
        known = {name: fields[name] for name in names if name in fields}
        positions = model.model.get_rope_index(input_ids, attention_mask=attention_mask, **known)[0]
        return positions, positions.amax(dim=(0, 2)) + 1

    def completion_positions(self, numbers: Tensor) -> Tensor:
        """See `Family`."""
        return numbers.expand(3, *numbers.shape)

    def take_block_masks(self, model: Any) -> None:
        """See `Family`. Checkpointed layers run again after the forward pass, so the setting stays."""
        from jigsaw.models.packed_attention import BY_MASK

        model.config.get_text_config()._attn_implementation = BY_MASK

    def blank_medium(self, medium: Medium, config: Any, device: Any) -> dict[str, Tensor]:
        """See `Family`."""
        vision = config.vision_config
        side = vision.spatial_merge_size
        width = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        blank: dict[str, Tensor] = {
            medium.pixels: torch.zeros(side**2, width, device=device),
            medium.grid: torch.tensor([[1, side, side]], device=device),
        }
        return blank | {name: torch.ones(1, device=device) for name in medium.per_medium}

    def _vision_tokens(self) -> Sequence[str]:
        return VISION_TOKENS


class Qwen25VL(Qwen2VL):
    """As Qwen2-VL, with videos placed by the seconds between their frames."""

    model_type = "qwen2_5_vl"
    processor = "Qwen2_5_VLProcessor"
    media = (IMAGE, VIDEO._replace(per_medium=("second_per_grid_ts",)))
    box_unit = "pixels"

    def prepare(self, model: Any) -> None:
        """See `Family`."""
        from jigsaw.compat import use_rope_index
        from jigsaw.models.mrope import rope_index

        super().prepare(model)
        use_rope_index(model, rope_index)
