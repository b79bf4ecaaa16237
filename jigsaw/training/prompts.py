"""A batch of distinct prompts as tensors: encoded once, counted, and divisible by prompt.

In: rows of a puzzle set. Out: `PromptBatch`. Every medium of a row must be there three times: as a grid, as the patches
of that grid, and as the placeholder tokens that its features will take. Anything else ends in an error that names the
row; nothing is ever trained on half of what a puzzle shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from jigsaw.errors import JigsawError
from jigsaw.models.prompts import processor_inputs
from jigsaw.training.layouts import Layout, layout_of, unwrapped

Tensor = Any  # torch comes without types here
PER_TOKEN = ("mm_token_type_ids", "token_type_ids")


class Kind(NamedTuple):
    """A kind of medium: what it is called, and the model's inputs that carry it."""

    name: str
    pixels: str
    grid: str
    per_medium: tuple[str, ...]


KINDS = (
    Kind("image", "pixel_values", "image_grid_thw", ()),
    Kind("video", "pixel_values_videos", "video_grid_thw", ("second_per_grid_ts",)),
)
_MEDIA_FIELDS = {name for kind in KINDS for name in (kind.pixels, kind.grid, *kind.per_medium)}


@dataclass(frozen=True)
class PromptBatch:
    """N distinct prompts, padded on the left to length P.

    Attributes:
        input_ids, attention_mask: `[N, P]`.
        positions: `[3, N, P]`.
        next_position: from where completions count on, `[N]`.
        media: pixels, grids and what goes with them, as the model takes them; all prompts' media in one row.
        counts: for each kind of media how many each prompt has, N numbers.
        token_fields: fields with one value per token, `[N, P]`.
        layout: of the model.
    """

    input_ids: Tensor
    attention_mask: Tensor
    positions: Tensor
    next_position: Tensor
    media: Mapping[str, Tensor]
    counts: Mapping[str, tuple[int, ...]]
    token_fields: Mapping[str, Tensor]
    layout: Layout

    @classmethod
    def encode(cls, model: Any, processor: Any, rows: Sequence[Mapping[str, Any]], device: Any) -> PromptBatch:
        """Tokenize rows and preprocess their media, once each.

        Args:
            model: possibly wrapped.
            processor: of the same checkpoint.
            rows: puzzle rows with their media.
            device: where the tensors go.

        Raises:
            JigsawError: a medium did not become tokens and pixels.
        """
        model = unwrapped(model)
        layout = layout_of(model)
        fields = dict(processor_inputs(processor, rows).to(device))
        if "second_per_grid_ts" in fields:
            fields["second_per_grid_ts"] = torch.as_tensor(fields["second_per_grid_ts"], device=device)
        input_ids, attention_mask = fields.pop("input_ids"), fields.pop("attention_mask")
        counts = check_media(processor, rows, input_ids, fields)
        positions, next_position = layout.positions(model, input_ids, attention_mask, fields)
        token_fields = {name: fields.pop(name) for name in PER_TOKEN if name in fields}
        return cls(input_ids, attention_mask, positions, next_position, fields, counts, token_fields, layout)

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])

    def token_lists(self) -> list[list[int]]:
        """The prompts' tokens without padding."""
        return [ids[mask.bool()].tolist() for ids, mask in zip(self.input_ids, self.attention_mask, strict=True)]

    def select(self, numbers: Tensor) -> PromptBatch:
        """The prompts of the given numbers `[M]`, in that order and as often, with their media."""
        chosen = numbers.tolist()
        if chosen == list(range(len(self))):
            return self
        media: dict[str, Tensor] = {}
        counts = {name: tuple(numbers[number] for number in chosen) for name, numbers in self.counts.items()}
        for kind in KINDS:
            if not sum(counts[kind.name]):
                continue
            grids = self.media[kind.grid].split(self.counts[kind.name])
            patches = self.media[kind.pixels].split([int(grid.prod(-1).sum()) for grid in grids])
            media[kind.grid] = torch.cat([grids[number] for number in chosen])
            media[kind.pixels] = torch.cat([patches[number] for number in chosen])
            for name in kind.per_medium:
                parts = self.media[name].split(self.counts[kind.name])
                media[name] = torch.cat([parts[number] for number in chosen])
        return PromptBatch(
            self.input_ids[numbers],
            self.attention_mask[numbers],
            self.positions[:, numbers],
            self.next_position[numbers],
            media,
            counts,
            {name: field[numbers] for name, field in self.token_fields.items()},
            self.layout,
        )

    @classmethod
    def join(cls, batches: Sequence[PromptBatch]) -> PromptBatch:
        """Batches of one model, one after the other."""
        if len(batches) == 1:
            return batches[0]
        length = max(batch.input_ids.shape[1] for batch in batches)

        def together(fields: Sequence[Tensor], dim: int = 0) -> Tensor:
            padded = [torch.nn.functional.pad(field, (length - field.shape[-1], 0)) for field in fields]
            return torch.cat(padded, dim=dim)

        media: dict[str, Tensor] = {}
        for name in dict.fromkeys(name for batch in batches for name in batch.media):
            media[name] = torch.cat([batch.media[name] for batch in batches if name in batch.media])
        return cls(
            together([batch.input_ids for batch in batches]),
            together([batch.attention_mask for batch in batches]),
            together([batch.positions for batch in batches], dim=1),
            torch.cat([batch.next_position for batch in batches]),
            media,
            {kind.name: tuple(number for batch in batches for number in batch.counts[kind.name]) for kind in KINDS},
            {name: together([batch.token_fields[name] for batch in batches]) for name in batches[0].token_fields},
            batches[0].layout,
        )

    def in_step(self, model: Any) -> PromptBatch:
        """The batch with a blank medium of each kind that another process has and this one lacks.

        Collective: every process calls it; see `with_missing_kinds`.
        """
        fields = {**self.media, **self.token_fields, "input_ids": self.input_ids, "attention_mask": self.attention_mask}
        fields = with_missing_kinds(model, fields | {"position_ids": self.positions})
        media = {name: value for name, value in fields.items() if name in _MEDIA_FIELDS}
        token_fields = {name: fields[name] for name in self.token_fields}
        ids, mask, positions = (fields[name] for name in ("input_ids", "attention_mask", "position_ids"))
        return replace(
            self, input_ids=ids, attention_mask=mask, positions=positions, media=media, token_fields=token_fields
        )


def with_missing_kinds(model: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A model's inputs with a blank medium of each kind that another process's inputs have and these lack.

    Under ZeRO-3 every use of the vision tower is a collective operation: processes whose prompts show different kinds
    of media would wait for each other for ever. The blank stands in a column of padding on the left, where no token
    sees it. Collective: every process calls it. Where one process trains alone the inputs stay as they are.

    Args:
        model: possibly wrapped.
        inputs: fields of one value per token, `[N, L]` or `position_ids` `[3, N, L]`, and media.
    """
    inputs, network = dict(inputs), unwrapped(model)
    lacking = _kinds_elsewhere(inputs, inputs["input_ids"].device)
    if not lacking or hasattr(network, "images_per_row"):  # NEO sees to it itself
        return inputs
    if "position_ids" not in inputs:
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        inputs["position_ids"] = layout_of(network).positions(network, ids, mask, inputs)[0]
    for kind in lacking:
        for name, value in inputs.items():
            if name not in _MEDIA_FIELDS and torch.is_tensor(value) and value.dim() >= 2:
                inputs[name] = torch.nn.functional.pad(value, (1, 0), value=-100 if name == "labels" else 0)
        inputs["input_ids"][0, 0] = getattr(network.config, f"{kind.name}_token_id")
        inputs |= _blank_medium(kind, network.config, inputs["input_ids"].device)
    return inputs


def _kinds_elsewhere(media: Mapping[str, Tensor], device: Any) -> list[Kind]:
    """The kinds of media that some process has and this one lacks; none where one process trains alone.

    Collective: every process calls it.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return []
    here = torch.tensor([kind.grid in media for kind in KINDS], device=device)
    anywhere = here.int()
    dist.all_reduce(anywhere, op=dist.ReduceOp.MAX)
    return [kind for kind, some, own in zip(KINDS, anywhere.tolist(), here.tolist(), strict=True) if some and not own]


def _blank_medium(kind: Kind, config: Any, device: Any) -> dict[str, Tensor]:
    """The inputs of a grey medium that becomes one token.

    Args:
        kind: what it is.
        config: of a Qwen2.5-VL.
        device: where the tensors go.
    """
    vision = config.vision_config
    side = vision.spatial_merge_size
    width = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    blank: dict[str, Tensor] = {
        kind.pixels: torch.zeros(side**2, width, device=device),
        kind.grid: torch.tensor([[1, side, side]], device=device),
    }
    return blank | {name: torch.ones(1, device=device) for name in kind.per_medium}


def check_media(
    processor: Any, rows: Sequence[Mapping[str, Any]], input_ids: Tensor, fields: Mapping[str, Tensor]
) -> dict[str, tuple[int, ...]]:
    """How many media of each kind each prompt has, after looking for them as grids, patches and tokens.

    Args:
        processor: that made the inputs.
        rows: with their media.
        input_ids: `[N, P]`.
        fields: what the processor made beside them.

    Raises:
        JigsawError: one of the three is missing.
    """
    shown = {kind.name: [len(row.get(f"{kind.name}s") or ()) for row in rows] for kind in KINDS}
    if getattr(processor, "video_processor", None) is None:  # a video is written as images, each begun by a token
        frames = [sum(len(clip.frames) for clip in row.get("videos") or ()) for row in rows]
        shown = {"image": [a + b for a, b in zip(shown["image"], frames, strict=True)], "video": [0] * len(rows)}
        begun = (input_ids == processor.image_start_token_id).sum(-1).tolist()
        if begun != shown["image"]:
            raise JigsawError(f"{shown['image']} images and frames were given, and {begun} reached the prompts")
    merge = processor.image_processor.merge_size**2
    for kind in KINDS:
        given, grid = shown[kind.name], fields.get(kind.grid)
        arrived = 0 if grid is None else len(grid)
        if sum(given) != arrived:
            raise JigsawError(
                f"{sum(given)} {kind.name}s were given and {arrived} reached the model: the processor dropped some"
            )
        token = getattr(processor, f"{kind.name}_token_id", None)
        held = [0] * len(rows) if token is None else (input_ids == token).sum(-1).tolist()
        parts = [[]] * len(rows) if grid is None else grid.prod(-1).split(given)
        needed = [int(sum(part)) // merge for part in parts]
        for row, tokens, features in zip(rows, held, needed, strict=True):
            if tokens != features:
                raise JigsawError(
                    f"puzzle {row.get('id')}: the prompt holds {tokens} {kind.name} tokens and its {kind.name}s make "
                    f"{features}: a prompt was cut, or a medium was dropped"
                )
        if grid is not None and len(fields[kind.pixels]) != int(grid.prod(-1).sum()):
            raise JigsawError(f"{kind.name} patches are missing: {len(fields[kind.pixels])} for grids {grid.tolist()}")
    return {name: tuple(numbers) for name, numbers in shown.items()}
