"""NEO's configuration: the three sections of an official `config.json`, with its irregularities corrected.

    neo_chat                image token ids, and below it
      llm_config            a Qwen3 configuration with one more rotary base, for rows and columns
      vision_config         the patch embedding

Irregularities of the official files: lists of one element instead of a number (read and written as a number here), and
rotary bases among the other numbers of a section (written in both places, so that the official code can read them).
"""

from __future__ import annotations

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig, Qwen3Config

ARCHITECTURE = "NEOChatModel"
"""The architecture in official checkpoints, also in those with another model type."""


VARIANTS = {"rope_variant": ("native", "1d"), "image_attention": ("mixed", "causal")}
"""Variants of a new model, the released one first; the others are the paper's ablations."""


def _number(value: Any) -> Any:
    """The element of a list of one element; any other value is returned unchanged."""
    return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value


@strict
class NEOTextConfig(Qwen3Config):  # type: ignore[misc]  # transformers comes without types
    """Configuration of the language model: Qwen3's fields; `num_hidden_layers` includes the pre-Buffer.

    Defaults are those of the 2B model.

    Attributes:
        rope_theta_hw: rotary base of rows and columns; that of T is `rope_parameters["rope_theta"]`.
        max_position_embeddings_hw: maximum rows and columns of the model; not used.
        rope_variant: `native`, an image has one time, with rows and columns; or, for ablations of new models, `1d`, all
            tokens have consecutive positions.
        image_attention: `mixed`, image tokens attend to their complete image; or, for ablations of new models,
            `causal`.
    """

    default_theta = 1e6

    hidden_size: int = 2048
    intermediate_size: int = 6144
    num_hidden_layers: int = 40
    num_attention_heads: int = 16
    num_key_value_heads: int | None = 8
    rope_theta_hw: float = 1e4
    max_position_embeddings_hw: int = 10000
    rope_variant: str = "native"
    image_attention: str = "mixed"

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        kind = (self.rope_parameters or {}).get("rope_type", "default")
        if kind != "default":
            raise ValueError(f"llm_config: NEO has no rotary embedding of type {kind!r}; only 'default' is supported")
        for name, known in VARIANTS.items():
            if getattr(self, name) not in known:
                raise ValueError(f"llm_config: {name} {getattr(self, name)!r} is none of {', '.join(known)}")
        if self.head_dim % 8:
            raise ValueError(f"llm_config: head_dim {self.head_dim} must be a multiple of 8, for rows and columns")

    def to_dict(self) -> dict[str, Any]:
        """As in transformers, with `rope_theta` also where the official code reads it."""
        fields: dict[str, Any] = super().to_dict()
        return fields | {"rope_theta": self.rope_parameters["rope_theta"]}


@strict
class NEOVisionConfig(PreTrainedConfig):  # type: ignore[misc]  # transformers comes without types
    """Configuration of the patch embedding.

    Attributes:
        patch_size: side of a patch in pixels.
        num_channels: channels of a pixel.
        hidden_size: width between the two convolutions, a multiple of 4.
        llm_hidden_size: output width, that of the language model.
        downsample_ratio: tokens per patch along a side; 0.5 merges 2x2 patches.
        rope_theta_vision: rotary base of the embedding.
        max_position_embeddings_vision: not used.
        min_pixels, max_pixels: limits of a resized image.
    """

    model_type = "neo_vision"
    base_config_key = "vision_config"

    patch_size: int = 16
    num_channels: int = 3
    hidden_size: int = 1024
    llm_hidden_size: int | list[int] = 2048
    downsample_ratio: float | list[float] = 0.5
    rope_theta_vision: float = 1e4
    max_position_embeddings_vision: int = 10000
    min_pixels: int = 65536
    max_pixels: int = 4194304

    def __post_init__(self, **kwargs: Any) -> None:
        self.llm_hidden_size = _number(self.llm_hidden_size)
        self.downsample_ratio = _number(self.downsample_ratio)
        super().__post_init__(**kwargs)
        if self.hidden_size % 4:
            raise ValueError(f"vision_config: hidden_size {self.hidden_size} is not a multiple of 4")

    @property
    def merge_size(self) -> int:
        """Patches per token, along a side."""
        return round(1 / self.downsample_ratio)  # type: ignore[operator]  # a number by now


@strict
class NEOChatConfig(PreTrainedConfig):  # type: ignore[misc]  # transformers comes without types
    """Configuration of a NEO.

    Attributes:
        llm_config: configuration of the language model.
        vision_config: configuration of the patch embedding.
        image_token_id: id of `<IMG_CONTEXT>`, the placeholder of a merged patch.
        image_start_token_id: id of `<img>`.
        image_end_token_id: id of `</img>`.
        downsample_ratio: as in `vision_config`; official files have it in both places.
    """

    model_type = "neo_chat"
    sub_configs = {"llm_config": NEOTextConfig, "vision_config": NEOVisionConfig}  # noqa: RUF012  # of the base class
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012  # of the base class

    llm_config: Any = None
    vision_config: Any = None
    image_token_id: int = 151669
    image_start_token_id: int = 151670
    image_end_token_id: int = 151671
    downsample_ratio: float | list[float] = 0.5
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        for name, kind in self.sub_configs.items():
            section = getattr(self, name)
            if section is None or isinstance(section, dict):
                setattr(self, name, kind(**(section or {})))
        self.downsample_ratio = self.vision_config.downsample_ratio
        self.tie_word_embeddings = self.tie_word_embeddings or self.llm_config.tie_word_embeddings
        kwargs.pop("model_type", None)  # the PT checkpoints have another one
        super().__post_init__(**kwargs)
        if self.vision_config.llm_hidden_size != self.llm_config.hidden_size:
            raise ValueError(
                f"vision_config.llm_hidden_size {self.vision_config.llm_hidden_size} is not "
                f"llm_config.hidden_size {self.llm_config.hidden_size}"
            )

    @property
    def hidden_size(self) -> int:
        """Width of the language model, from which the trainer computes DeepSpeed's buffer sizes."""
        width: int = self.llm_config.hidden_size
        return width

    def get_text_config(self, *_: Any, **__: Any) -> NEOTextConfig:
        """The section of the language model, whose name is not standard in transformers."""
        section: NEOTextConfig = self.llm_config
        return section
