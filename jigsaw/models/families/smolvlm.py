"""SmolVLM2 and Idefics3: one square per image, and the time of every frame of a clip as text."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from jigsaw.models.families.base import Row
from jigsaw.models.families.frames import with_frames
from jigsaw.models.families.tiles import TILES, TiledFamily

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jigsaw.models.tiny import TinySizes

SIDE, PATCH, SHUFFLE = 32, 8, 2
"""Sizes of a tiny model: side of an image and of a patch in pixels, and patches along the side of a token; 512, 16 and
4 in SmolVLM2 of 256M and 500M."""

CHAT_TEMPLATE = (
    "<|im_start|>{%- for turn in messages %}"
    "{{- turn.role | capitalize + (':' if turn.content is not string and turn.content[0].type == 'image' else ': ') }}"
    "{%- for part in ([{'type': 'text', 'text': turn.content}] if turn.content is string else turn.content) %}"
    "{{- '<image>' if part.type == 'image' else part.text }}{%- endfor %}"
    "{{- '<end_of_utterance>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- 'Assistant:' }}{%- endif %}"
)
"""The turns of the released models."""


class SmolVLM(TiledFamily):
    """Every image is one square; the processor's splitting into further squares is disabled.

    Pieces of a puzzle are small, and 17 squares per piece would fill the context of these models.
    """

    title = "SmolVLM2"
    model_type = "smolvlm"
    processor = "SmolVLMProcessor"
    media = (TILES._replace(per_medium=("pixel_attention_mask",)),)
    nested_images = True
    parts = {  # noqa: RUF012  # of the base class
        "projector": ("*connector.*",),
        "vision_tower": ("*vision_model.*",),
        "language_model": ("*text_model.*", "lm_head.*"),
    }
    tiny_tokens: ClassVar[dict[str, str]] = {
        "eos_token": "<end_of_utterance>",
        "image_token": "<image>",
        "video_token": "<video>",
        "fake_image_token": "<fake_token_around_image>",
        "global_image_token": "<global-img>",
    }

    def prepare_processor(self, processor: Any) -> None:
        """See `Family`."""
        processor.image_processor.do_image_splitting = False

    def encode(
        self, processor: Any, text: Sequence[str], images: Sequence[Sequence[Any]], clips: Sequence[Sequence[Any]]
    ) -> Any:
        """See `Family`. The model takes any grouping of images, so each image is one group, without padding."""
        inputs = super().encode(processor, text, images, clips)
        for name in self.media[0].inputs:
            if name in inputs:
                rows = [row[: len(of_prompt)] for row, of_prompt in zip(inputs[name], images, strict=True)]
                inputs[name] = torch.cat(rows)[:, None]
        return inputs

    def expand_media(self, row: Row, processor: Any) -> Row:
        """See `Family`: the text of `SmolVLMProcessor` around frames."""
        return with_frames(row, _parts)

    def write(self, processor: Any, turns: Sequence[Mapping[str, Any]], *, opens_answer: bool) -> str:
        """See `Family`. `processor_kwargs` is set because the processor otherwise warns about its video settings."""
        options = {"add_generation_prompt": opens_answer, "tokenize": False}
        return str(processor.apply_chat_template(list(turns), processor_kwargs={"do_sample_frames": False}, **options))

    def vision_token_ids(self, processor: Any) -> list[int]:
        """See `Family`: includes the tokens around images."""
        vocabulary = processor.tokenizer.get_vocab()
        rows = [token for token in vocabulary if token.startswith("<row_")]
        named = [processor.image_token, processor.fake_image_token, processor.global_image_token]
        named.append(getattr(processor, "video_token", None))
        return sorted({vocabulary[token] for token in (*rows, *named) if token in vocabulary})

    def tile(self, processor: Any) -> tuple[int, int]:
        """See `TiledFamily`."""
        return int(processor.image_processor.max_image_size["longest_edge"]), int(processor.image_seq_len)

    def _blank_tile(self, channels: int, side: int, device: Any) -> dict[str, Tensor]:
        # Not zeros, which the model treats as padding.
        return {
            TILES.pixels: torch.ones(1, 1, channels, side, side, device=device),
            "pixel_attention_mask": torch.ones(1, 1, side, side, dtype=torch.long, device=device),
        }

    def _tokens_of_patches(self, patches: int, config: Any) -> int:
        return int(patches // config.scale_factor**2)

    def tiny(self, sizes: TinySizes, tokenizer: Any) -> tuple[Any, Any]:
        """See `Family`."""
        from transformers import (
            SmolVLMConfig,
            SmolVLMForConditionalGeneration,
            SmolVLMImageProcessor,
            SmolVLMProcessor,
            SmolVLMVideoProcessor,
        )

        edge = {"longest_edge": SIDE}
        processor = SmolVLMProcessor(
            image_processor=SmolVLMImageProcessor(size=dict(edge), max_image_size=dict(edge), do_image_splitting=False),
            video_processor=SmolVLMVideoProcessor(size=dict(edge), max_image_size=dict(edge)),
            tokenizer=tokenizer,
            image_seq_len=(SIDE // PATCH // SHUFFLE) ** 2,
            chat_template=CHAT_TEMPLATE,
        )
        config = SmolVLMConfig(
            text_config=sizes.text_config(tokenizer) | {"model_type": "llama"},
            vision_config={
                **sizes.vision_config(),
                "image_size": SIDE,
                "patch_size": PATCH,
                "initializer_range": sizes.initializer_range,
            },
            scale_factor=SHUFFLE,
            image_token_id=processor.image_token_id,
            pad_token_id=tokenizer.pad_token_id,
            tie_word_embeddings=sizes.tie_word_embeddings,
        )
        return SmolVLMForConditionalGeneration(config), processor


def _parts(clip: Any) -> list[dict[str, Any]]:
    """The text and image parts of a clip, with the time in minutes and seconds before each frame."""
    from num2words import num2words
    from PIL import Image

    length = timedelta(seconds=int(len(clip.frames) / clip.fps))
    text = f"You are provided the following series of {num2words(len(clip.frames))} frames from a {length} "
    text += "[H:MM:SS] video.\n"
    parts: list[dict[str, Any]] = []
    for number, frame in enumerate(clip.frames):
        minutes, seconds = divmod(int(number / clip.fps), 60)
        parts += [
            {"type": "text", "text": f"{text}\nFrame from {minutes:02d}:{seconds:02d}:"},
            {"type": "image", "image": Image.fromarray(frame)},
        ]
        text = ""
    return [*parts, {"type": "text", "text": "\n\n"}]
