"""The interface of a model family: what an architecture does with positions, masks, media and parameter names.

A family holds no state. Shapes: N prompts of P tokens, padded on the left.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from jigsaw.errors import JigsawError

if TYPE_CHECKING:
    from torch import Tensor

    from jigsaw.models.tiny import TinySizes

Row = Mapping[str, Any]

BoxUnit = Literal["pixels", "thousandths"]

PER_TOKEN = ("mm_token_type_ids", "token_type_ids")
"""Model inputs with one value per token, beside token ids and mask."""


class Medium(NamedTuple):
    """A kind of medium, and the model inputs that carry it.

    Attributes:
        name: `image` or `video`.
        pixels: the input with one row per patch.
        grid: the input with one row (time, height, width in patches) per medium.
        per_medium: further inputs with one value per medium.
    """

    name: Literal["image", "video"]
    pixels: str
    grid: str
    per_medium: tuple[str, ...] = ()


IMAGE = Medium("image", "pixel_values", "image_grid_thw")
VIDEO = Medium("video", "pixel_values_videos", "video_grid_thw")


class Family(ABC):
    """What differs between architectures.

    Attributes:
        model_type: as in `config.json`.
        processor: class name of the processor.
        media: the kinds of media that the model takes.
        parts: parts of the model that `model.freeze` may name, as patterns of parameter names. A parameter belongs to
            the first part that matches.
        box_unit: unit in which the model writes the corners of boxes, for grounding benchmarks.
    """

    model_type: ClassVar[str]
    processor: ClassVar[str]
    media: ClassVar[tuple[Medium, ...]] = (IMAGE, VIDEO)
    parts: ClassVar[Mapping[str, tuple[str, ...]]]
    box_unit: ClassVar[BoxUnit]

    def prepare(self, model: Any) -> None:  # noqa: B027  # most models need nothing
        """Change a model that was just loaded where the library is wrong about it."""

    @abstractmethod
    def positions(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, fields: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Positions of prompts, `[3, N, P]`, and the position of the first completion token of each, `[N]`.

        Args:
            model: not wrapped.
            input_ids, attention_mask: `[N, P]`.
            fields: what the processor made beside them.
        """

    @abstractmethod
    def completion_positions(self, numbers: Tensor) -> Tensor:
        """Positions `[3, ...]` of completion tokens that have the numbers `[...]`, counted on from the prompt."""

    def sees_both_ways(self, positions: Tensor, attention_mask: Tensor) -> Tensor | None:
        """Numbers `[N, P]`: prompt tokens with the same number, 0 or above, see each other in both directions.

        None where attention is causal throughout.
        """
        return None

    def take_block_masks(self, model: Any) -> None:  # noqa: B027  # models that go by the mask need nothing
        """Prepare a model, not wrapped, for block masks of flex attention, from now on."""

    def expanded(self, row: Row) -> Row:
        """The row with its media as the model takes them: a model without videos gets their frames as images."""
        return row

    def vision_token_ids(self, processor: Any) -> list[int]:
        """Ids of the tokens that stand for media, in ascending order; they must never be sampled."""
        vocabulary = processor.tokenizer.get_vocab()
        own = [getattr(processor, name, None) for name in ("image_token_id", "video_token_id")]
        named = [vocabulary[token] for token in self._vision_tokens() if token in vocabulary]
        return sorted({*named, *(token for token in own if token is not None)})

    def _vision_tokens(self) -> Sequence[str]:
        return ()

    def media_token_id(self, medium: Medium, config: Any) -> int:
        """The token that stands for a part of a medium, from the model's configuration."""
        token: int = getattr(config, f"{medium.name}_token_id")
        return token

    @abstractmethod
    def blank_medium(self, medium: Medium, config: Any, device: Any) -> dict[str, Tensor] | None:
        """The inputs of a blank medium that becomes one token; None if the model itself stays in step without media.

        Under ZeRO-3 every use of the vision tower is a collective operation, so a process whose prompts have no medium
        of a kind that another process has runs the tower on a blank one.
        """

    def prepare_processor(self, processor: Any) -> None:  # noqa: B027  # most processors need nothing
        """Change a processor that was just loaded where the library leaves something open."""

    def chat_text(self, text: str) -> str:
        """A conversation as the chat template wrote it, in the form that the processor must be given."""
        return text

    def pixel_unit(self, processor: Any) -> int:
        """Pixels along the side of the square that becomes one token of a prompt."""
        images = processor.image_processor
        return int(images.patch_size * images.merge_size)

    def limit_pixels(self, processor: Any, kind: Literal["image", "video"], low: int | None, high: int | None) -> None:
        """Set the least and the most pixels of a medium after resizing; None keeps the checkpoint's own.

        Of a video, Qwen2-VL and Qwen2.5-VL limit each frame, and Qwen3-VL the sum of all frames.

        Raises:
            JigsawError: the least is above the most, or the model takes no such medium.
        """
        if low is None and high is None:
            return
        if kind not in {medium.name for medium in self.media}:
            raise JigsawError(
                f"model.{kind}: {self.model_type} is given the frames of a clip as images; limit them in model.image"
            )
        size = getattr(processor, f"{kind}_processor").size
        low, high = low or size["shortest_edge"], high or size["longest_edge"]
        if low > high:
            raise JigsawError(f"model.{kind}: min_pixels {low} is over max_pixels {high}")
        size["shortest_edge"], size["longest_edge"] = low, high

    def tiny(self, sizes: TinySizes, tokenizer: Any) -> tuple[Any, Any]:
        """A model from random weights and its processor.

        Args:
            sizes: the numbers.
            tokenizer: of `jigsaw.models.tiny.build_tokenizer`.
        """
        raise JigsawError(f"model.tiny: there is no tiny {self.model_type}")

    def parameters_of(self, part: str, names: Sequence[str], pre_buffer: int | None) -> set[str] | None:
        """The parameters of a named part of the model; None if the family has no part of that name.

        Args:
            part: an entry of `model.freeze`.
            names: of all parameters.
            pre_buffer: `model.pre_buffer`.
        """
        if part not in self.parts:
            return None
        return {name for name in names if self._part(name) == part}

    def _part(self, name: str) -> str | None:
        matches = (part for part, patterns in self.parts.items() if any(fnmatchcase(name, one) for one in patterns))
        return next(matches, None)
