"""Qwen3-VL, dense and mixture of experts: interleaved M-RoPE, deepstack, time stamps before pairs of video frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jigsaw.models.families.qwen import Qwen2VL, prepare_tower

if TYPE_CHECKING:
    from jigsaw.models.tiny import TinySizes

PATCH = 16
"""Side of a patch in the released models, in pixels; 2x2 patches become one token."""

DEEPSTACK = 3
"""Layers of the language model to which vision features are added, in the released models."""


class Qwen3VL(Qwen2VL):
    """Like Qwen2-VL, but in videos each pair of frames is a block after its time in seconds.

    The limit of video pixels applies to all frames of a clip together.
    """

    title = "Qwen3-VL"
    model_type = "qwen3_vl"
    processor = "Qwen3VLProcessor"

    def prepare(self, model: Any) -> None:
        """See `Family`. Each pair of frames is a block with one time, for which the library's positions are right."""
        prepare_tower(model)

    def prepare_processor(self, processor: Any) -> None:
        """See `Family`: frames keep the size that the task chose, unless the clip exceeds its pixel limit.

        transformers 5.22 will limit every frame of a clip by default.
        """
        if processor.video_processor.cap_pixels_per_frame is None:
            processor.video_processor.cap_pixels_per_frame = False

    def write(self, processor: Any, turns: Sequence[Mapping[str, Any]], *, opens_answer: bool) -> str:
        """See `Family`: a video is only its placeholder.

        The templates write start and end tokens of vision around it. transformers before 5 replaced all three with the
        blocks of frames, which have their own start and end tokens. Since then the outer tokens stay in the prompt, and
        no released checkpoint was trained with them (vllm-project/vllm#46817). Remove this when transformers removes
        them again.
        """
        text = super().write(processor, turns, opens_answer=opens_answer)
        return text.replace("<|vision_start|><|video_pad|><|vision_end|>", "<|video_pad|>")

    def tiny(self, sizes: TinySizes, tokenizer: Any) -> tuple[Any, Any]:
        """See `Family`."""
        from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

        text = _text_config(sizes, tokenizer)
        return _model(Qwen3VLForConditionalGeneration, Qwen3VLConfig, text, sizes, tokenizer), _processor(tokenizer)


class Qwen3VLMoe(Qwen3VL):
    """Qwen3-VL with a mixture of experts in the language model."""

    title = "Qwen3-VL, experts"
    model_type = "qwen3_vl_moe"

    def tiny(self, sizes: TinySizes, tokenizer: Any) -> tuple[Any, Any]:
        """See `Family`: four experts, two per token."""
        from transformers import Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration

        text = _text_config(sizes, tokenizer) | {
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "norm_topk_prob": True,  # as released: transformers always normalises, vLLM reads this key
            "moe_intermediate_size": int(sizes.hidden_size * sizes.mlp_ratio) // 2,
        }
        model = _model(Qwen3VLMoeForConditionalGeneration, Qwen3VLMoeConfig, text, sizes, tokenizer)
        return model, _processor(tokenizer)


def _text_config(sizes: TinySizes, tokenizer: Any) -> dict[str, Any]:
    half = sizes.head_size // 2
    side = half * 20 // 64  # the 64 rotary pairs of a head are shared 24 : 20 : 20 by time, row and column
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_interleaved": True}
    return sizes.text_config(tokenizer) | {"rope_parameters": rope | {"mrope_section": [half - 2 * side, side, side]}}


def _model(kind: Any, config: Any, text: dict[str, Any], sizes: TinySizes, tokenizer: Any) -> Any:
    token = tokenizer.convert_tokens_to_ids
    vision = {
        "depth": sizes.vision_layers,
        "hidden_size": sizes.vision_hidden_size,
        "intermediate_size": int(sizes.vision_hidden_size * sizes.mlp_ratio),
        "num_heads": sizes.vision_hidden_size // sizes.head_size,
        "patch_size": PATCH,
        "out_hidden_size": sizes.hidden_size,
        "num_position_embeddings": 256,
        "deepstack_visual_indexes": list(range(min(sizes.vision_layers, sizes.num_layers, DEEPSTACK))),
        "initializer_range": sizes.initializer_range,
    }
    return kind(
        config(
            text_config=text,
            vision_config=vision,
            image_token_id=token("<|image_pad|>"),
            video_token_id=token("<|video_pad|>"),
            vision_start_token_id=token("<|vision_start|>"),
            vision_end_token_id=token("<|vision_end|>"),
            tie_word_embeddings=sizes.tie_word_embeddings,
        )
    )


def _processor(tokenizer: Any) -> Any:
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    one_token = (2 * PATCH) ** 2
    images = {"shortest_edge": one_token, "longest_edge": 1280 * one_token}
    videos = {"shortest_edge": 2 * one_token, "longest_edge": 24_576 * one_token}  # of all frames; the released budget
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=images, patch_size=PATCH),
        video_processor=Qwen3VLVideoProcessor(size=videos, patch_size=PATCH, cap_pixels_per_frame=False),
        tokenizer=tokenizer,
        chat_template=tokenizer.chat_template,
    )
