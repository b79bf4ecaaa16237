"""The interface of a model family: positions, masks, media and parameter names of an architecture.

A family has no state. Shapes: N prompts of P tokens, padded on the left; positions have A axes, 3 for M-RoPE and 1 for
models that count tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from jigsaw.errors import JigsawError

if TYPE_CHECKING:
    from torch import Tensor

    from jigsaw.models.neo.video import Labels
    from jigsaw.models.packed_attention import Packing
    from jigsaw.models.tiny import TinySizes

Row = Mapping[str, Any]

BoxUnit = Literal["pixels", "thousandths"]

PER_TOKEN = ("mm_token_type_ids", "token_type_ids")
"""Model inputs with one value per token, in addition to token ids and mask."""


class Medium(NamedTuple):
    """A kind of medium, and its model inputs.

    Attributes:
        name: `image` or `video`.
        pixels: the input with the pixels, one row per patch, tile or image.
        grid: the input with one row (time, height, width in patches) per medium, or None.
        per_medium: further inputs, each with one row per medium.
    """

    name: Literal["image", "video"]
    pixels: str
    grid: str | None = None
    per_medium: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """All model inputs for media of this kind."""
        return (self.pixels, *([self.grid] if self.grid else []), *self.per_medium)


class Extent(NamedTuple):
    """The size of one prompt's media of one kind in the inputs of a model.

    Attributes:
        tokens: number of placeholder tokens.
        rows: model input -> number of rows.
    """

    tokens: int
    rows: Mapping[str, int]


class Blank(NamedTuple):
    """A blank medium.

    Attributes:
        inputs: its model inputs.
        tokens: number of placeholder tokens for its features.
    """

    inputs: Mapping[str, Tensor]
    tokens: int


def runs(inside: Tensor) -> Tensor:
    """The numbers `[N, P]`, from 0, of the runs of True values; -1 on False values."""
    import torch

    begins = inside & ~torch.nn.functional.pad(inside, (1, 0))[:, :-1]
    return torch.where(inside, begins.cumsum(1) - 1, -1)


def video_metadata(clip: Any) -> dict[str, Any]:
    """The metadata of a `tasks.Clip` for transformers and vLLM: all of its frames, at its frame rate."""
    count = len(clip.frames)
    return {
        "fps": clip.fps,
        "duration": count / clip.fps,
        "total_num_frames": count,
        "frames_indices": list(range(count)),
        "video_backend": "jigsaw",
    }


IMAGE = Medium("image", "pixel_values", "image_grid_thw")
VIDEO = Medium("video", "pixel_values_videos", "video_grid_thw")


class Family(ABC):
    """The interface of a model family.

    Attributes:
        title: name of the models in tables.
        model_type: `model_type` in `config.json`.
        processor: class name of the processor.
        media: the kinds of media that the model takes.
        parts: parts of the model that `model.freeze` may name, as patterns of parameter names. A parameter belongs to
            the first part that matches.
        box_unit: unit in which the model writes the corners of boxes, for grounding benchmarks.
        nested_images: whether the processor takes one list of images per prompt instead of one list for all.
        tiny_tokens: special tokens of a tiny model's tokenizer in addition to Qwen's, by the names of the tokenizer's
            attributes that the processor reads.
    """

    title: ClassVar[str]
    model_type: ClassVar[str]
    processor: ClassVar[str]
    media: ClassVar[tuple[Medium, ...]] = (IMAGE, VIDEO)
    parts: ClassVar[Mapping[str, tuple[str, ...]]]
    box_unit: ClassVar[BoxUnit]
    nested_images: ClassVar[bool] = False
    tiny_tokens: ClassVar[Mapping[str, str]] = {}

    def prepare(self, model: Any) -> None:  # noqa: B027  # most models need nothing
        """Patch a loaded model if the library has a bug for it."""

    @abstractmethod
    def positions(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, fields: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Positions of prompts, `[A, N, P]`, and the position of the first completion token of each, `[N]`.

        Args:
            model: the unwrapped model.
            input_ids, attention_mask: `[N, P]`.
            fields: the processor's other outputs.
        """

    @abstractmethod
    def completion_positions(self, numbers: Tensor) -> Tensor:
        """Positions `[A, ...]` of completion tokens with the numbers `[...]`, which continue those of the prompt."""

    def position_ids(self, positions: Tensor) -> Tensor:
        """Positions `[A, ...]` in the shape of the model's `position_ids`."""
        return positions

    def sees_both_ways(
        self, model: Any, positions: Tensor, attention_mask: Tensor, token_fields: Mapping[str, Tensor]
    ) -> Tensor | None:
        """Numbers `[N, P]`: prompt tokens with the same number, 0 or above, attend to each other in both directions.

        None if attention is causal for all tokens.

        Args:
            model: the unwrapped model.
            positions: `[A, N, P]`.
            attention_mask: `[N, P]`.
            token_fields: further inputs with one value per token, `[N, P]`.
        """
        return None

    def masks(self, model: Any, packing: Packing, build: Callable[[Packing], Any]) -> Any:
        """The attention mask of packed sequences for the model: one for all layers, or one per kind of layer.

        Args:
            model: the unwrapped model.
            packing: structure of the packed sequences.
            build: builds a mask from a packing.
        """
        return build(packing)

    def take_block_masks(self, model: Any) -> None:  # noqa: B027  # some models need nothing
        """Prepare an unwrapped model permanently for block masks of flex attention."""

    def expand_media(self, row: Row, processor: Any) -> Row:
        """The row with media in the form that the model takes: for models without videos, frames as images."""
        return row

    def encode(
        self, processor: Any, text: Sequence[str], images: Sequence[Sequence[Any]], clips: Sequence[Sequence[Any]]
    ) -> Any:
        """Prompts as model inputs, padded on the left.

        Clips keep their frame rate and the frames that the task chose; they are not sampled again.

        Args:
            processor: the processor of the model.
            text: text of each prompt from the chat template, including all special tokens.
            images, clips: media of each prompt.
        """
        media: dict[str, Any] = {}
        if any(images):
            nested = [list(of_prompt) for of_prompt in images]
            media["images"] = nested if self.nested_images else [image for of_prompt in nested for image in of_prompt]
        if any(clips):
            flat = [clip for of_prompt in clips for clip in of_prompt]
            media |= {"videos": [clip.frames for clip in flat], "do_sample_frames": False}
            media["video_metadata"] = [video_metadata(clip) for clip in flat]
        options = {"padding": True, "padding_side": "left", "return_tensors": "pt", "add_special_tokens": False}
        return processor(text=list(text), **options, **media)

    def extents(
        self, processor: Any, medium: Medium, media: Sequence[Sequence[Any]], fields: Mapping[str, Any]
    ) -> list[Extent]:
        """The sizes of each prompt's media in the model inputs, from the grids that the processor made.

        Args:
            processor: the processor that made the inputs.
            medium: the kind of media.
            media: the media of that kind in each prompt.
            fields: the model inputs.

        Raises:
            JigsawError: a medium has no grid.
        """
        grid, numbers = fields.get(str(medium.grid)), [len(of_prompt) for of_prompt in media]
        arrived = 0 if grid is None else len(grid)
        if sum(numbers) != arrived:
            raise JigsawError(
                f"there are {sum(numbers)} {medium.name}s and {arrived} reached the model: the processor dropped some"
            )
        merge = processor.image_processor.merge_size**2
        patches = [0] * len(numbers) if grid is None else [int(part.prod(-1).sum()) for part in grid.split(numbers)]
        return [
            Extent(count // merge, {medium.pixels: count, **dict.fromkeys(medium.inputs[1:], number)})
            for count, number in zip(patches, numbers, strict=True)
        ]

    def concatenate(self, name: str, parts: Sequence[Tensor]) -> Tensor:
        """Concatenate several tensors of one media input.

        Args:
            name: name of the input.
            parts: one tensor or more; a single tensor need not be copied.
        """
        import torch

        return parts[0] if len(parts) == 1 else torch.cat(list(parts))

    def placeholder_id(self, processor: Any, medium: Medium) -> int | None:
        """The placeholder token of a medium, from the processor."""
        token: int | None = getattr(processor, f"{medium.name}_token_id", None)
        return token

    def vision_token_ids(self, processor: Any) -> list[int]:
        """Ids of the tokens that represent media, in ascending order; they must never be sampled."""
        vocabulary = processor.tokenizer.get_vocab()
        own = [getattr(processor, name, None) for name in ("image_token_id", "video_token_id")]
        named = [vocabulary[token] for token in self._vision_tokens() if token in vocabulary]
        return sorted({*named, *(token for token in own if token is not None)})

    def _vision_tokens(self) -> Sequence[str]:
        return ()

    def media_token_id(self, medium: Medium, config: Any) -> int:
        """The placeholder token of a medium, from the model's configuration."""
        token: int = getattr(config, f"{medium.name}_token_id")
        return token

    @abstractmethod
    def blank_medium(self, medium: Medium, config: Any, device: Any) -> Blank | None:
        """A blank medium with few tokens; None if the model itself handles prompts without media.

        Under ZeRO-3 every use of the vision tower is a collective operation. So a process without media of a kind that
        another process has runs the tower on a blank medium.
        """

    def prepare_processor(self, processor: Any) -> None:  # noqa: B027  # most processors need nothing
        """Set options of a loaded processor that the library leaves open."""

    def write(self, processor: Any, turns: Sequence[Mapping[str, Any]], *, opens_answer: bool) -> str:
        """A conversation as the chat template writes it, in the form that the processor needs.

        Args:
            processor: the processor of the model.
            turns: the turns, with placeholders for media.
            opens_answer: whether to open the assistant's turn at the end.
        """
        return str(processor.apply_chat_template(list(turns), add_generation_prompt=opens_answer, tokenize=False))

    def pixel_unit(self, processor: Any) -> int:
        """Side of the square that becomes one token of a prompt, in pixels."""
        images = processor.image_processor
        return int(images.patch_size * images.merge_size)

    def largest_image(self, processor: Any) -> int:
        """Tokens of the largest image that a processor makes."""
        return int(processor.image_processor.size["longest_edge"]) // self.pixel_unit(processor) ** 2

    def limit_pixels(self, processor: Any, kind: Literal["image", "video"], low: int | None, high: int | None) -> None:
        """Set the minimum and maximum pixels of a medium after resizing; None keeps the checkpoint's limit.

        For videos, Qwen2-VL and Qwen2.5-VL limit each frame, and Qwen3-VL the sum of all frames.

        Raises:
            JigsawError: the minimum is above the maximum, or the model takes no such medium.
        """
        if low is None and high is None:
            return
        if kind not in {medium.name for medium in self.media}:
            raise JigsawError(
                f"model.{kind}: {self.model_type} takes the frames of a clip as images; limit them in model.image"
            )
        size = getattr(processor, f"{kind}_processor").size
        low, high = low or size["shortest_edge"], high or size["longest_edge"]
        if low > high:
            raise JigsawError(f"model.{kind}: min_pixels {low} is over max_pixels {high}")
        size["shortest_edge"], size["longest_edge"] = low, high

    def label_frames(self, processor: Any, labels: Labels) -> None:
        """Set the labels of video frames in prompts.

        Raises:
            JigsawError: the family has only one form of videos.
        """
        raise JigsawError(f"model.frames: {self.model_type} has only one form of videos; leave it out")

    def tiny(self, sizes: TinySizes, tokenizer: Any) -> tuple[Any, Any]:
        """A model from random weights and its processor.

        Args:
            sizes: the sizes.
            tokenizer: a tokenizer of `jigsaw.models.tiny.build_tokenizer`.
        """
        raise JigsawError(f"model.tiny: there is no tiny {self.model_type}")

    def parameters_of(self, part: str, names: Sequence[str], pre_buffer: int | None) -> set[str] | None:
        """The parameters of a named part of the model; None if the family has no part of that name.

        Args:
            part: an entry of `model.freeze`.
            names: names of all parameters.
            pre_buffer: `model.pre_buffer` of the recipe.
        """
        if part not in self.parts:
            return None
        return {name for name in names if self._part(name) == part}

    def _part(self, name: str) -> str | None:
        matches = (part for part, patterns in self.parts.items() if any(fnmatchcase(name, one) for one in patterns))
        return next(matches, None)
