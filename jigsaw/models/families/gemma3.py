"""Gemma 3: images of 896 x 896 pixels with bidirectional attention; sliding windows in most layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from jigsaw.errors import JigsawError
from jigsaw.models.families.base import Medium, Row, runs
from jigsaw.models.families.frames import with_frames
from jigsaw.models.families.tiles import TiledFamily, tiny_siglip
from jigsaw.models.neo.video import video_parts

if TYPE_CHECKING:
    from jigsaw.models.packed_attention import Packing
    from jigsaw.models.tiny import TinySizes

SIDE, PATCH, TOKENS, WINDOW = 32, 8, 4, 12
"""Sizes of a tiny model: side of an image and of a patch in pixels, tokens of an image, and tokens of a window; 896,
14, 256 and 1024 in the released models."""

CHAT_TEMPLATE = (
    "{{- bos_token }}{%- for turn in messages %}"
    "{{- '<start_of_turn>' + ('model' if turn.role == 'assistant' else turn.role) + '\\n' }}"
    "{%- for part in ([{'type': 'text', 'text': turn.content}] if turn.content is string else turn.content) %}"
    "{{- '<start_of_image>' if part.type == 'image' else part.text }}{%- endfor %}"
    "{{- '<end_of_turn>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<start_of_turn>model\\n' }}{%- endif %}"
)
"""The turns of the released models, which call the assistant `model`."""


class Gemma3(TiledFamily):
    """The frames of a clip are images after their times, as for NEO; Gemma 3 has no video form."""

    title = "Gemma 3"
    model_type = "gemma3"
    processor = "Gemma3Processor"
    nested_images = True
    parts = {  # noqa: RUF012  # of the base class
        "projector": ("*multi_modal_projector.*",),
        "vision_tower": ("*vision_tower.*",),
        "language_model": ("*language_model.*", "lm_head.*"),
    }
    tiny_tokens = {  # noqa: RUF012  # of the base class
        "bos_token": "<bos>",
        "eos_token": "<end_of_turn>",
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
        "turn_token": "<start_of_turn>",
    }

    def prepare_processor(self, processor: Any) -> None:
        """See `Family`.

        Raises:
            JigsawError: the checkpoint also adds crops of images.
        """
        if processor.image_processor.do_pan_and_scan:
            raise JigsawError("preprocessor_config.json: do_pan_and_scan adds crops of images, which is not supported")

    def sees_both_ways(
        self, model: Any, positions: Tensor, attention_mask: Tensor, token_fields: Mapping[str, Tensor]
    ) -> Tensor | None:
        """See `Family`: the consecutive tokens of one image."""
        if "token_type_ids" not in token_fields:
            return None
        return runs(token_fields["token_type_ids"] == 1)

    def masks(self, model: Any, packing: Packing, build: Callable[[Packing], Any]) -> Any:
        """See `Family`: most layers attend within a window of positions, which also applies to images."""
        window = model.config.get_text_config().sliding_window
        return {"full_attention": build(packing), "sliding_attention": build(replace(packing, window=window))}

    def expand_media(self, row: Row, processor: Any) -> Row:
        """See `Family`."""
        return with_frames(row, lambda clip: video_parts({"video": clip}))

    def placeholder_id(self, processor: Any, medium: Medium) -> int:
        """See `Family`: the processor's own `image_token_id` is the token before an image."""
        return int(processor.tokenizer.image_token_id)

    def vision_token_ids(self, processor: Any) -> list[int]:
        """See `Family`."""
        tokenizer = processor.tokenizer
        return sorted({tokenizer.boi_token_id, tokenizer.eoi_token_id, tokenizer.image_token_id})

    def tile(self, processor: Any) -> tuple[int, int]:
        """See `TiledFamily`."""
        return int(processor.image_processor.size["height"]), int(processor.image_seq_length)

    def _tokens_of_patches(self, patches: int, config: Any) -> int:
        return int(config.mm_tokens_per_image)

    def tiny(self, sizes: TinySizes, tokenizer: Any) -> tuple[Any, Any]:
        """See `Family`: every other layer has full attention; the window is shorter than most prompts.

        Up to four line breaks are one token, as in the released vocabulary, on which vLLM relies.
        """
        from tokenizers import AddedToken
        from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3ImageProcessor, Gemma3Processor

        tokenizer.add_tokens([AddedToken("\n" * lines, normalized=False, special=False) for lines in range(1, 5)])
        processor = Gemma3Processor(
            image_processor=Gemma3ImageProcessor(size={"height": SIDE, "width": SIDE}),
            tokenizer=tokenizer,
            image_seq_length=TOKENS,
            chat_template=CHAT_TEMPLATE,
        )
        kinds = ("sliding_attention", "full_attention")
        config = Gemma3Config(
            text_config=sizes.text_config(tokenizer)
            | {
                "sliding_window": WINDOW,
                "query_pre_attn_scalar": sizes.head_size,
                "layer_types": [kinds[number % 2] for number in range(sizes.num_layers)],
            },
            vision_config=tiny_siglip(sizes, SIDE, PATCH),
            mm_tokens_per_image=TOKENS,
            boi_token_index=tokenizer.boi_token_id,
            eoi_token_index=tokenizer.eoi_token_id,
            image_token_index=tokenizer.image_token_id,
            initializer_range=sizes.initializer_range,
            tie_word_embeddings=sizes.tie_word_embeddings,
        )
        model = Gemma3ForConditionalGeneration(config)
        torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=sizes.initializer_range)
        return model, processor
