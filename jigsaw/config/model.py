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
        min_pixels: smaller media are enlarged to this; None for the checkpoint's limit.
        max_pixels: larger media are shrunk to this; None for the checkpoint's limit.
    """

    min_pixels: int | None = Field(None, gt=0)
    max_pixels: int | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> PixelLimits:
        if self.min_pixels is not None and self.max_pixels is not None and self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels {self.min_pixels} is over max_pixels {self.max_pixels}")
        return self


class LoraSection(Section):
    """Low-rank adapters (LoRA), trained instead of all weights and merged into the checkpoint at the end of a stage.

    Attributes:
        rank: rank of the adapters.
        alpha: scale of the adapters; their update is multiplied by alpha / rank.
        dropout: dropout on the input of the adapters.
        targets: names of the linear layers that get an adapter, or `all-linear`. Layers that `model.freeze` matches get
            none.
    """

    rank: int = Field(16, ge=1)
    alpha: float = Field(32, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"


class ModelSection(Section):
    """The model to train: a checkpoint, or a tiny model from random weights.

    Attributes:
        path: a local checkpoint folder or a hub id.
        tiny: the architecture of a tiny model, instead of `path`.
        sizes: sizes of the tiny model.
        dtype: data type of computation and checkpoints. Trained weights are kept in float32 during training.
        image: pixel limits of images.
        video: pixel limits of videos: of each frame for Qwen2.5-VL, of all frames of a clip together for Qwen3-VL. A
            model that takes a clip as images has none. InternVL cuts an image into as many tiles as `image.max_pixels`
            allows; SmolVLM and Gemma 3 resize every image to one size and take no limits.
        no_think: ask a reasoning model for the answer only: `template` turns off the switch `enable_thinking` of its
            chat template; any other text, such as `/no_think` for MiMo-VL, is added to the user's turns. The changed
            template is saved with the trained model.
        frames: labels of video frames in NEO's prompts, `seconds` for NEO 1.0 and `numbers` for NEO 1.5; null for those
            of the checkpoint.
        freeze: parts that are not trained: `vision_tower`, `projector`, `language_model`, or patterns of parameter
            names such as `*.visual.blocks.0.*`; for NEO also `patch-embedding`, `pre-buffer`, `hw-projections` and
            `post-llm`.
        pre_buffer: number of NEO's pre-Buffer layers; needed if `freeze` names one of NEO's groups.
        lora: low-rank adapters; None trains all weights.
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
        """Pixel limits and prompt settings, as arguments of `load_processor`."""
        videos = {"min_video_pixels": self.video.min_pixels, "max_video_pixels": self.video.max_pixels}
        return self.image.model_dump() | videos | {"no_think": self.no_think, "frames": self.frames}

    @model_validator(mode="after")
    def _one_origin(self) -> ModelSection:
        if self.path is not None and self.tiny is not None:
            raise ValueError("give either path or tiny; write tiny: null (tiny=null) to train the model at path")
        if self.path is None and self.tiny is None:
            raise ValueError("give path, a checkpoint folder or hub id, or tiny, an architecture")
        return self
