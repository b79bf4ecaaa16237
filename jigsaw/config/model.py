"""The `model` section of a recipe: which checkpoint is trained, which part of it, and its pixel limits.

In: the content of the section. Out: a frozen, typed section. Nothing heavy is imported.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from jigsaw.config.section import PathText, Section
from jigsaw.models.tiny import TinyArchitecture, TinySizes


class PixelLimits(Section):
    """Pixel limits of one image or video, as the model's processor applies them.

    Attributes:
        min_pixels: a medium with fewer is enlarged; None for the checkpoint's own limit.
        max_pixels: a medium with more is shrunk; None likewise.
    """

    min_pixels: int | None = Field(None, gt=0)
    max_pixels: int | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> PixelLimits:
        if self.min_pixels is not None and self.max_pixels is not None and self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels {self.min_pixels} is over max_pixels {self.max_pixels}")
        return self


class LoraSection(Section):
    """Low-rank adapters instead of all weights; they are merged into the checkpoint that a stage leaves.

    Attributes:
        rank: of the adapters.
        alpha: scale; the update is multiplied by alpha / rank.
        dropout: on the input of the adapters.
        targets: names of the linear layers that get one, or `all-linear`. Layers that `model.freeze` matches get none.
    """

    rank: int = Field(16, ge=1)
    alpha: float = Field(32, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"


class ModelSection(Section):
    """Which model is trained: a checkpoint, or a tiny one made from random weights.

    Attributes:
        path: a local checkpoint folder or a hub id.
        tiny: the architecture of a tiny model, instead of `path`.
        sizes: sizes of a tiny model.
        dtype: of computation and of the checkpoints. Weights that are trained are kept in float32 meanwhile.
        image: pixel limits for the processor; those of the checkpoint where not given.
        video: likewise for videos: of each frame (Qwen2.5-VL), or of all frames of a clip together (Qwen3-VL). A model
            that takes a clip as images has none. InternVL cuts an image into as many tiles as `image.max_pixels`
            allows; SmolVLM and Gemma 3 resize every image to one size and take no limits.
        no_think: ask a reasoning model for the answer alone: `template` turns off the switch `enable_thinking` of its
            chat template, any other text is added to the user's turns, such as `/no_think` for MiMo-VL. The changed
            template is saved with the trained model.
        frames: how NEO's prompts label the frames of a clip, `seconds` for NEO 1.0 and `numbers` for NEO 1.5; null for
            what the checkpoint has.
        freeze: what is not trained: `vision_tower`, `projector`, `language_model`, or patterns of parameter names such
            as `*.visual.blocks.0.*`; of a NEO also `patch-embedding`, `pre-buffer`, `hw-projections`, `post-llm`.
        pre_buffer: how many layers of a NEO are its pre-Buffer, where `freeze` names such a group.
        lora: adapters instead of all weights; None trains the weights.
    """

    path: PathText | None = None
    tiny: TinyArchitecture | None = None
    sizes: TinySizes = TinySizes()
    dtype: Literal["float32", "bfloat16"] = "float32"
    image: PixelLimits = PixelLimits()
    video: PixelLimits = PixelLimits()
    no_think: str | None = Field(None, min_length=1)
    frames: Literal["seconds", "numbers"] | None = None
    freeze: tuple[str, ...] = ()
    pre_buffer: int | None = Field(None, ge=0)
    lora: LoraSection | None = None

    @property
    def processing(self) -> dict[str, Any]:
        """Pixel limits and prompts, as arguments of `load_processor`."""
        videos = {"min_video_pixels": self.video.min_pixels, "max_video_pixels": self.video.max_pixels}
        return self.image.model_dump() | videos | {"no_think": self.no_think, "frames": self.frames}

    @model_validator(mode="after")
    def _one_origin(self) -> ModelSection:
        if self.path is not None and self.tiny is not None:
            raise ValueError("give either path or tiny; write tiny: null (tiny=null) to train the model at path")
        if self.path is None and self.tiny is None:
            raise ValueError("give path, a checkpoint folder or hub id, or tiny, an architecture")
        return self
