"""InternVL 3 and 3.5, the class of transformers: images as tiles of 448 pixels and a thumbnail, frames as tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from jigsaw.errors import JigsawError
from jigsaw.models.families.base import Row
from jigsaw.models.families.frames import with_frames
from jigsaw.models.families.tiles import TiledFamily

if TYPE_CHECKING:
    from jigsaw.models.tiny import TinySizes

SIDE, PATCH = 32, 8
"""Sizes of a tiny model: a tile is 4x4 patches and becomes 2x2 tokens; 448 and 14 in the released models."""

CHAT_TEMPLATE = (
    "{%- for turn in messages %}{{- '<|im_start|>' + turn.role + '\\n' }}"
    "{%- for part in ([{'type': 'text', 'text': turn.content}] if turn.content is string else turn.content) %}"
    "{{- '<IMG_CONTEXT>\\n' if part.type == 'image' else part.text }}{%- endfor %}"
    "{{- '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""ChatML with one line per image, as in the released models."""


class InternVL(TiledFamily):
    """A Qwen2 or Qwen3 language model, and a vision tower that encodes one tile at a time."""

    title = "InternVL 3, 3.5"
    model_type = "internvl"
    processor = "InternVLProcessor"
    parts = {  # noqa: RUF012  # of the base class
        "projector": ("*multi_modal_projector.*",),
        "vision_tower": ("*vision_tower.*",),
        "language_model": ("*language_model.*", "lm_head.*"),
    }
    tiny_tokens = {  # noqa: RUF012  # of the base class
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }

    def vision_token_ids(self, processor: Any) -> list[int]:
        """See `Family`."""
        names = ("start_image_token", "end_image_token", "context_image_token", "video_token")
        tokens = (getattr(processor.tokenizer, name) for name in names)
        return sorted({*super().vision_token_ids(processor), *map(processor.tokenizer.convert_tokens_to_ids, tokens)})

    def expand_media(self, row: Row, processor: Any) -> Row:
        """See `Family`: the text of `InternVLProcessor` around frames that are resized to a tile."""
        side = self.tile(processor)[0]

        def parts(clip: Any) -> list[dict[str, Any]]:
            frames = [_resized(frame, side) for frame in clip.frames]
            return [
                part
                for number, frame in enumerate(frames)
                for part in ({"type": "text", "text": f"Frame{number + 1}: "}, {"type": "image", "image": frame})
            ]

        return with_frames(row, parts)

    def prepare_processor(self, processor: Any) -> None:
        """See `Family`: cut images into tiles, which is the processor's default, but which vLLM only does if set."""
        processor.image_processor.crop_to_patches = True

    def limit_pixels(self, processor: Any, kind: Literal["image", "video"], low: int | None, high: int | None) -> None:
        """See `Family`: the maximum pixels of an image determine its number of tiles; a frame is always one tile.

        Raises:
            JigsawError: there is a minimum, a limit for videos, or a maximum below one tile.
        """
        if low is None and high is None:
            return
        side = self.tile(processor)[0]
        if kind == "video":
            raise JigsawError(f"model.video: internvl resizes every frame to {side}x{side} pixels; leave it out")
        if low is not None:
            raise JigsawError(f"model.image.min_pixels: internvl enlarges images to {side}x{side}; leave it out")
        if high is None or high < side**2:
            raise JigsawError(f"model.image: max_pixels {high} is below one tile of {side}x{side} = {side**2}")
        processor.image_processor.max_patches = high // side**2

    def tile(self, processor: Any) -> tuple[int, int]:
        """See `TiledFamily`."""
        return int(processor.image_processor.size["height"]), int(processor.image_seq_length)

    def tiles_of(self, processor: Any, image: Any) -> int:
        """See `TiledFamily`."""
        width, height = image.size
        return int(processor.image_processor.get_number_of_image_patches(height, width, {"crop_to_patches": True}))

    def largest_image(self, processor: Any) -> int:
        """See `Family`."""
        return (int(processor.image_processor.max_patches) + 1) * self.tile(processor)[1]

    def _tokens_of_patches(self, patches: int, config: Any) -> int:
        return int(patches * config.downsample_ratio**2)

    def tiny(self, sizes: TinySizes, tokenizer: Any) -> tuple[Any, Any]:
        """See `Family`: a Qwen3 language model with tiles of 32 pixels."""
        from transformers import (
            GotOcr2ImageProcessor,
            InternVLConfig,
            InternVLForConditionalGeneration,
            InternVLProcessor,
            InternVLVideoProcessor,
        )

        size = {"height": SIDE, "width": SIDE}
        processor = InternVLProcessor(
            image_processor=GotOcr2ImageProcessor(size=dict(size), crop_to_patches=True, max_patches=4),
            video_processor=InternVLVideoProcessor(size=dict(size)),
            tokenizer=tokenizer,
            image_seq_length=(SIDE // PATCH // 2) ** 2,
            chat_template=CHAT_TEMPLATE,
        )
        config = InternVLConfig(
            text_config=sizes.text_config(tokenizer) | {"model_type": "qwen3"},
            vision_config={
                **sizes.vision_config(),
                "image_size": [SIDE, SIDE],
                "patch_size": [PATCH, PATCH],
                "initializer_range": sizes.initializer_range,
            },
            image_token_id=processor.image_token_id,
            image_seq_length=processor.image_seq_length,
            tie_word_embeddings=sizes.tie_word_embeddings,
        )
        return InternVLForConditionalGeneration(config), processor


def _resized(frame: Any, side: int) -> Any:
    """A frame `[height, width, 3]` resized to a tile, in the same way as by `InternVLVideoProcessor`."""
    import numpy as np
    import torch
    from PIL import Image
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional

    pixels = torch.from_numpy(np.array(frame)).permute(2, 0, 1)
    bicubic = InterpolationMode.BICUBIC
    resized = functional.resize(pixels, [side, side], interpolation=bicubic, antialias=True)
    return Image.fromarray(resized.permute(1, 2, 0).numpy())
