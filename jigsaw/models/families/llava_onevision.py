"""LLaVA-OneVision: several tiles for a single image, one tile per image for several, pooled frames for clips."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from jigsaw.models.families.base import Blank, Extent, Medium, Row
from jigsaw.models.families.tiles import TiledFamily, tiny_siglip

if TYPE_CHECKING:
    from jigsaw.models.tiny import TinySizes

IMAGES = Medium("image", "pixel_values", None, ("image_sizes", "batch_num_images"))
CLIPS = Medium("video", "pixel_values_videos")

SIDE, PATCH = 32, 8
"""Sizes of a tiny model: side of a tile and of a patch in pixels; 384 and 14 in the released models."""

CHAT_TEMPLATE = (
    "{%- for turn in messages %}{{- '<|im_start|>' + turn.role + '\\n' }}"
    "{%- for part in ([{'type': 'text', 'text': turn.content}] if turn.content is string else turn.content) %}"
    "{{- part.text if part.type == 'text' else '<' + part.type + '>\\n' }}{%- endfor %}"
    "{{- '<|im_end|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""ChatML with every medium in its place."""


class LlavaOnevision(TiledFamily):
    """A Qwen2 language model with a SigLIP vision tower.

    The released chat templates write the media of a turn before its text. A single image of a prompt is cut into tiles
    by its resolution; each of several images is one tile.
    """

    title = "LLaVA-OneVision"
    model_type = "llava_onevision"
    processor = "LlavaOnevisionProcessor"
    media = (IMAGES, CLIPS)
    nested_images = True
    parts = {  # noqa: RUF012  # of the base class
        "projector": ("*multi_modal_projector.*", "*image_newline"),
        "vision_tower": ("*vision_tower.*",),
        "language_model": ("*language_model.*", "lm_head.*"),
    }
    tiny_tokens = {  # noqa: RUF012  # of the base class
        "image_token": "<image>",
        "video_token": "<video>",
    }

    def prepare(self, model: Any) -> None:
        """See `Family`."""
        from jigsaw.compat import take_clips_of_any_length

        take_clips_of_any_length(model)

    def expand_media(self, row: Row, processor: Any) -> Row:
        """See `Family`: clips stay clips."""
        return row

    def encode(
        self, processor: Any, text: Sequence[str], images: Sequence[Sequence[Any]], clips: Sequence[Sequence[Any]]
    ) -> Any:
        """See `Family`. The processor can only batch clips of equal length, so each clip is processed separately."""
        flat = [
            processor.video_processor([clip.frames], do_sample_frames=False, return_tensors="pt")[CLIPS.pixels]
            for of_prompt in clips
            for clip in of_prompt
        ]
        words = iter([processor.replace_video_token({CLIPS.pixels: pixels}, 0) for pixels in flat])
        place = re.escape(processor.video_token)
        text = [re.sub(place, lambda _: next(words), one) for one in text]
        inputs = super().encode(processor, text, images, [()] * len(text))
        if flat:
            inputs[CLIPS.pixels] = self.concatenate(CLIPS.pixels, flat)
        return inputs

    def concatenate(self, name: str, parts: Sequence[Tensor]) -> Tensor:
        """See `Family`: missing tiles are zeros, and missing frames are NaN."""
        if name not in (IMAGES.pixels, CLIPS.pixels):
            return super().concatenate(name, parts)
        longest = max(part.shape[1] for part in parts)
        blank = 0.0 if name == IMAGES.pixels else torch.nan
        return torch.cat([pad(part, (0, 0) * 3 + (0, longest - part.shape[1]), value=blank) for part in parts])

    def extents(
        self, processor: Any, medium: Medium, media: Sequence[Sequence[Any]], fields: Mapping[str, Any]
    ) -> list[Extent]:
        """See `Family`: from the text that the processor writes for media of these sizes."""
        side = self.tile(processor)[0]
        if medium is CLIPS:
            frames = [[torch.empty(len(clip.frames), 0) for clip in of_prompt] for of_prompt in media]
            words = [processor.replace_video_token({medium.pixels: [one]}, 0) for of in frames for one in of]
            lengths = iter([word.count(processor.video_token) for word in words])
            return [Extent(sum(next(lengths) for _ in of), {medium.pixels: len(of)}) for of in frames]
        tile = torch.empty(1, 1, 3, side, side)
        extents = []
        for of_prompt in media:
            sizes = [(image.height, image.width) for image in of_prompt]
            inputs = {"batch_num_images": [len(of_prompt)], "pixel_values": tile, "image_sizes": sizes}
            words = [processor.replace_image_token(inputs, number) for number in range(len(of_prompt))]
            rows = {"pixel_values": len(of_prompt), "image_sizes": len(of_prompt)}
            rows["batch_num_images"] = 1 if of_prompt else 0
            extents.append(Extent(sum(word.count(processor.image_token) for word in words), rows))
        return extents

    def tile(self, processor: Any) -> tuple[int, int]:
        """See `TiledFamily`."""
        return int(processor.image_processor.size["height"]), int(processor.num_image_tokens)

    def largest_image(self, processor: Any) -> int:
        """See `Family`."""
        side, tokens = self.tile(processor)
        most = max(height * width for height, width in processor.image_processor.image_grid_pinpoints) // side**2
        return (1 + int(most)) * 2 * tokens

    def blank_medium(self, medium: Medium, config: Any, device: Any) -> Blank:
        """See `Family`: two images of one tile each, since a single image has several tiles; or a clip of one frame."""
        vision = config.vision_config
        side, patches = vision.image_size, vision.image_size // vision.patch_size
        if medium is CLIPS:
            return Blank(
                {medium.pixels: torch.zeros(1, 1, 3, side, side, device=device)}, tokens=((patches + 1) // 2) ** 2 + 1
            )
        inputs = {
            medium.pixels: torch.zeros(2, 1, 3, side, side, device=device),
            "image_sizes": torch.tensor([[side, side]] * 2, device=device),
            "batch_num_images": torch.tensor([2], device=device),
        }
        return Blank(inputs, tokens=2 * (patches**2 + 1))

    def _tokens_of_patches(self, patches: int, config: Any) -> int:
        return patches

    def tiny(self, sizes: TinySizes, tokenizer: Any) -> tuple[Any, Any]:
        """See `Family`."""
        from transformers import (
            LlavaOnevisionConfig,
            LlavaOnevisionForConditionalGeneration,
            LlavaOnevisionImageProcessor,
            LlavaOnevisionProcessor,
            LlavaOnevisionVideoProcessor,
        )

        size = {"height": SIDE, "width": SIDE}
        grids = [[SIDE * rows, SIDE * columns] for rows in (1, 2) for columns in (1, 2)]
        processor = LlavaOnevisionProcessor(
            image_processor=LlavaOnevisionImageProcessor(size=dict(size), image_grid_pinpoints=grids),
            video_processor=LlavaOnevisionVideoProcessor(size=dict(size)),
            tokenizer=tokenizer,
            num_image_tokens=(SIDE // PATCH) ** 2,
            vision_feature_select_strategy="full",
            chat_template=CHAT_TEMPLATE,
        )
        text = sizes.text_config(tokenizer) | {"model_type": "qwen2"}
        text.pop("head_dim")
        config = LlavaOnevisionConfig(
            text_config=text,
            vision_config=tiny_siglip(sizes, SIDE, PATCH),
            image_grid_pinpoints=grids,
            image_token_index=processor.image_token_id,
            video_token_index=processor.video_token_id,
            tie_word_embeddings=sizes.tie_word_embeddings,
        )
        return LlavaOnevisionForConditionalGeneration(config), processor
