"""Qwen2-VL and Qwen2.5-VL: M-RoPE positions, causal attention, a vision tower on packed patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from jigsaw.models.families.base import IMAGE, VIDEO, Blank, BoxUnit, Family, Medium

if TYPE_CHECKING:
    from jigsaw.models.tiny import TinySizes

WINDOW = 56
"""Side of a window in a tiny Qwen2.5-VL's vision tower in pixels, 2x2 visual tokens; 112 in released checkpoints."""

VISION_TOKENS = (
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
"""Tokens that represent media in a prompt."""


class Qwen2VL(Family):
    """Positions have three equal axes for text, and follow the rules of `get_rope_index` for media."""

    title = "Qwen2-VL"
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
        from jigsaw.compat import use_rope_index
        from jigsaw.models.mrope import rope_index

        prepare_tower(model)
        use_rope_index(model, rope_index)

    def positions(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, fields: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """See `Family`."""
        names = ["mm_token_type_ids", *(name for medium in self.media for name in medium.inputs[1:])]
        known = {name: fields[name] for name in names if name in fields}
        positions = model.model.get_rope_index(input_ids, attention_mask=attention_mask, **known)[0]
        return positions, positions.amax(dim=(0, 2)) + 1

    def completion_positions(self, numbers: Tensor) -> Tensor:
        """See `Family`."""
        return numbers.expand(3, *numbers.shape)

    def take_block_masks(self, model: Any) -> None:
        """See `Family`. The setting is permanent, since checkpointed layers run again after the forward pass."""
        from jigsaw.models.packed_attention import BY_MASK

        model.config.get_text_config()._attn_implementation = BY_MASK

    def blank_medium(self, medium: Medium, config: Any, device: Any) -> Blank:
        """See `Family`."""
        vision = config.vision_config
        side = vision.spatial_merge_size
        width = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        blank: dict[str, Tensor] = {
            medium.pixels: torch.zeros(side**2, width, device=device),
            str(medium.grid): torch.tensor([[1, side, side]], device=device),
        }
        return Blank(blank | {name: torch.ones(1, device=device) for name in medium.per_medium}, tokens=1)

    def _vision_tokens(self) -> Sequence[str]:
        return VISION_TOKENS

    def tiny(self, sizes: TinySizes, tokenizer: Any) -> tuple[Any, Any]:
        """See `Family`."""
        from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor

        vision = {
            "depth": sizes.vision_layers,
            "embed_dim": sizes.vision_hidden_size,
            "hidden_size": sizes.hidden_size,
            "num_heads": sizes.vision_hidden_size // sizes.head_size,
            "mlp_ratio": max(1, round(sizes.mlp_ratio)),
            "initializer_range": sizes.initializer_range,
        }
        config = Qwen2VLConfig(**_config(sizes, tokenizer), vision_config=vision)
        return Qwen2VLForConditionalGeneration(config), Qwen2VLProcessor(**_processors(tokenizer))


class Qwen25VL(Qwen2VL):
    """Like Qwen2-VL, with positions of videos by the seconds between their frames."""

    title = "Qwen2.5-VL"
    model_type = "qwen2_5_vl"
    processor = "Qwen2_5_VLProcessor"
    media = (IMAGE, VIDEO._replace(per_medium=("second_per_grid_ts",)))
    box_unit = "pixels"

    def tiny(self, sizes: TinySizes, tokenizer: Any) -> tuple[Any, Any]:
        """See `Family`."""
        from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

        vision = {
            "depth": sizes.vision_layers,
            "hidden_size": sizes.vision_hidden_size,
            "intermediate_size": int(sizes.vision_hidden_size * sizes.mlp_ratio),
            "num_heads": sizes.vision_hidden_size // sizes.head_size,
            "out_hidden_size": sizes.hidden_size,
            "fullatt_block_indexes": sizes.full_attention,
            "window_size": WINDOW,
            "tokens_per_second": 2,  # as in the released checkpoints; the default is 4
            "initializer_range": sizes.initializer_range,
        }
        config = Qwen2_5_VLConfig(**_config(sizes, tokenizer), vision_config=vision)
        return Qwen2_5_VLForConditionalGeneration(config), Qwen2_5_VLProcessor(**_processors(tokenizer))


def prepare_tower(model: Any) -> None:
    """Patch the vision tower: batched window attention, and a matrix product for the patch embedding."""
    from jigsaw.compat import embed_patches_by_product
    from jigsaw.models.vision_windows import WINDOWS

    visual = model.model.visual
    visual.config._attn_implementation = WINDOWS
    embed_patches_by_product(visual.patch_embed.proj)


def _config(sizes: TinySizes, tokenizer: Any) -> dict[str, Any]:
    """The configuration of a tiny model without its vision tower."""
    token = tokenizer.convert_tokens_to_ids
    half = sizes.head_size // 2
    time_section = half // 4  # the 64 rotary pairs of a head are shared 16 : 24 : 24 by time, row and column
    row_section = (half - time_section) // 2
    text = sizes.text_config(tokenizer) | {
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [time_section, row_section, half - time_section - row_section],
        }
    }
    return {
        "text_config": {key: value for key, value in text.items() if key not in ("head_dim", "tie_word_embeddings")},
        "initializer_range": sizes.initializer_range,
        "image_token_id": token("<|image_pad|>"),
        "video_token_id": token("<|video_pad|>"),
        "vision_start_token_id": token("<|vision_start|>"),
        "vision_end_token_id": token("<|vision_end|>"),
        "tie_word_embeddings": sizes.tie_word_embeddings,
    }


def _processors(tokenizer: Any) -> dict[str, Any]:
    """The arguments of a tiny model's processor."""
    from transformers import Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    one_token = 28 * 28  # pixels behind one visual token: 2x2 patches of 14x14
    limits = {"shortest_edge": one_token, "longest_edge": 1280 * one_token}
    return {
        "image_processor": Qwen2VLImageProcessor(size=dict(limits)),
        "video_processor": Qwen2VLVideoProcessor(size=dict(limits)),
        "tokenizer": tokenizer,
        "chat_template": tokenizer.chat_template,
    }
