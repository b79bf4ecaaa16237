"""A batch of distinct prompts as tensors, encoded once, checked for complete media, and divisible by prompt.

In: rows of a puzzle set. Out: a `PromptBatch`. Every medium of a row must have a grid, the patches of that grid, and
the placeholder tokens for its features. Otherwise an error names the row, so that no model is trained on incomplete
puzzles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from jigsaw.errors import JigsawError
from jigsaw.models.families import Family, Medium, family_of, family_of_processor, unwrapped
from jigsaw.models.families.base import PER_TOKEN
from jigsaw.models.prompts import expand_media, processor_inputs


@dataclass(frozen=True)
class PromptBatch:
    """N distinct prompts, padded on the left to length P.

    Attributes:
        input_ids, attention_mask: `[N, P]`.
        positions: `[A, N, P]`, positions on A axes.
        next_position: position of the first completion token of each prompt, `[N]`.
        lengths: tokens of each prompt, N numbers.
        media: model inputs of the media, such as pixels and grids, concatenated over all prompts.
        shares: for each of these inputs, the number of its rows that belong to each prompt, N numbers.
        token_fields: further inputs with one value per token, `[N, P]`.
        family: family of the model.
    """

    input_ids: Tensor
    attention_mask: Tensor
    positions: Tensor
    next_position: Tensor
    lengths: tuple[int, ...]
    media: Mapping[str, Tensor]
    shares: Mapping[str, tuple[int, ...]]
    token_fields: Mapping[str, Tensor]
    family: Family

    @classmethod
    def encode(cls, model: Any, processor: Any, rows: Sequence[Mapping[str, Any]], device: Any) -> PromptBatch:
        """Tokenize rows and preprocess their media.

        Args:
            model: the model, possibly wrapped.
            processor: the processor of the same checkpoint.
            rows: puzzle rows with their media.
            device: device of the tensors.

        Raises:
            JigsawError: a medium was not converted to tokens and pixels.
        """
        network, family = unwrapped(model), family_of(model)
        rows = [expand_media(processor, row) for row in rows]
        fields = dict(processor_inputs(processor, rows).to(device))
        for name in (name for medium in family.media for name in medium.per_medium if name in fields):
            fields[name] = torch.as_tensor(fields[name], device=device)
        input_ids, attention_mask = fields.pop("input_ids"), fields.pop("attention_mask")
        shares = check_media(processor, rows, input_ids, fields)
        positions, next_position = family.positions(network, input_ids, attention_mask, fields)
        token_fields = {name: fields.pop(name) for name in PER_TOKEN if name in fields}
        lengths = tuple(attention_mask.sum(1).tolist())
        return cls(input_ids, attention_mask, positions, next_position, lengths, fields, shares, token_fields, family)

    def __len__(self) -> int:
        return len(self.lengths)

    def token_lists(self) -> list[list[int]]:
        """The prompts' tokens without padding."""
        return [ids[mask.bool()].tolist() for ids, mask in zip(self.input_ids, self.attention_mask, strict=True)]

    def select(self, numbers: Sequence[int]) -> PromptBatch:
        """The prompts with these numbers, in this order (also repeated), with their media, padded to the longest."""
        chosen = list(numbers)
        if chosen == list(range(len(self))):
            return self
        media: dict[str, Tensor] = {}
        for name, share in self.shares.items():
            if any(share[number] for number in chosen):
                parts = self.media[name].split(share)
                media[name] = self.family.concatenate(name, [parts[number] for number in chosen])
        shares = {name: tuple(share[number] for number in chosen) for name, share in self.shares.items()}
        lengths = tuple(self.lengths[number] for number in chosen)
        start = self.input_ids.shape[1] - max(lengths)
        return PromptBatch(
            self.input_ids[chosen, start:],
            self.attention_mask[chosen, start:],
            self.positions[:, chosen, start:],
            self.next_position[chosen],
            lengths,
            media,
            shares,
            {name: field[chosen, start:] for name, field in self.token_fields.items()},
            self.family,
        )

    @classmethod
    def join(cls, batches: Sequence[PromptBatch]) -> PromptBatch:
        """Concatenate batches of one model."""
        if len(batches) == 1:
            return batches[0]
        length = max(batch.input_ids.shape[1] for batch in batches)

        def together(fields: Sequence[Tensor], dim: int = 0) -> Tensor:
            padded = [torch.nn.functional.pad(field, (length - field.shape[-1], 0)) for field in fields]
            return torch.cat(padded, dim=dim)

        media: dict[str, Tensor] = {}
        for name in dict.fromkeys(name for batch in batches for name in batch.media):
            parts = [batch.media[name] for batch in batches if name in batch.media]
            media[name] = batches[0].family.concatenate(name, parts)
        names = dict.fromkeys(name for batch in batches for name in batch.shares)
        return cls(
            together([batch.input_ids for batch in batches]),
            together([batch.attention_mask for batch in batches]),
            together([batch.positions for batch in batches], dim=1),
            torch.cat([batch.next_position for batch in batches]),
            tuple(length for batch in batches for length in batch.lengths),
            media,
            {name: tuple(n for one in batches for n in one.shares.get(name, (0,) * len(one))) for name in names},
            {name: together([batch.token_fields[name] for batch in batches]) for name in batches[0].token_fields},
            batches[0].family,
        )

    def with_blank_media(self, model: Any) -> PromptBatch:
        """The batch with a blank medium of each kind that only other processes have (`add_blank_media`). Collective."""
        fields = {**self.media, **self.token_fields, "input_ids": self.input_ids, "attention_mask": self.attention_mask}
        fields = add_blank_media(model, fields | {"position_ids": self.positions})
        carriers = _carriers(self.family)
        media = {name: value for name, value in fields.items() if name in carriers}
        token_fields = {name: fields[name] for name in self.token_fields}
        ids, mask, positions = (fields[name] for name in ("input_ids", "attention_mask", "position_ids"))
        return replace(
            self, input_ids=ids, attention_mask=mask, positions=positions, media=media, token_fields=token_fields
        )


def _carriers(family: Family) -> set[str]:
    """The model inputs that carry media."""
    return {name for medium in family.media for name in medium.inputs}


def add_blank_media(model: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A model's inputs with a blank medium of each kind that only other processes have. Collective.

    Under ZeRO-3 every use of the vision tower is a collective operation, so processes whose prompts have different
    kinds of media would wait for each other forever. The blank medium is in padding columns on the left, to which no
    token attends. With one process the inputs are not changed.

    Args:
        model: the model, possibly wrapped.
        inputs: fields with one value per token, `[N, L]` or `position_ids` `[A, N, L]`, and media.
    """
    inputs, network, family = dict(inputs), unwrapped(model), family_of(model)
    device = inputs["input_ids"].device
    carriers = _carriers(family)
    for medium in _media_elsewhere(family, inputs, device):
        blank = family.blank_medium(medium, network.config, device)
        if blank is None:
            continue
        if "position_ids" not in inputs:
            ids, mask = inputs["input_ids"], inputs["attention_mask"]
            inputs["position_ids"] = family.position_ids(family.positions(network, ids, mask, inputs)[0])
        for name, value in inputs.items():
            if name not in carriers and torch.is_tensor(value) and value.dim() >= 2:
                inputs[name] = torch.nn.functional.pad(value, (blank.tokens, 0), value=-100 if name == "labels" else 0)
        inputs["input_ids"][0, : blank.tokens] = family.media_token_id(medium, network.config)
        inputs |= blank.inputs
    return inputs


def _media_elsewhere(family: Family, inputs: Mapping[str, Tensor], device: Any) -> list[Medium]:
    """The kinds of media that only other processes have; none with one process. Collective."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return []
    here = torch.tensor([medium.pixels in inputs for medium in family.media], device=device)
    anywhere = here.int()
    dist.all_reduce(anywhere, op=dist.ReduceOp.MAX)
    kinds = zip(family.media, anywhere.tolist(), here.tolist(), strict=True)
    return [medium for medium, some, own in kinds if some and not own]


def check_media(
    processor: Any, rows: Sequence[Mapping[str, Any]], input_ids: Tensor, fields: Mapping[str, Tensor]
) -> dict[str, tuple[int, ...]]:
    """Check that the inputs have all media, and return the number of rows of each input that belong to each prompt.

    Args:
        processor: the processor that made the inputs.
        rows: rows with their media and placeholders.
        input_ids: `[N, P]`.
        fields: the processor's other outputs.

    Returns:
        N numbers for each input with media.

    Raises:
        JigsawError: pixels, another input or a token is missing.
    """
    rows = [expand_media(processor, row) for row in rows]
    family = family_of_processor(processor)
    shares: dict[str, list[int]] = {}
    for medium in family.media:
        media = [list(row.get(f"{medium.name}s") or ()) for row in rows]
        extents = family.extents(processor, medium, media, fields)
        token = family.placeholder_id(processor, medium)
        held = [0] * len(rows) if token is None else (input_ids == token).sum(-1).tolist()
        for row, tokens, extent in zip(rows, held, extents, strict=True):
            if tokens != extent.tokens:
                raise JigsawError(
                    f"puzzle {row.get('id')}: the prompt has {tokens} {medium.name} tokens and its {medium.name}s "
                    f"need {extent.tokens}: the prompt was truncated, or a medium was dropped"
                )
        for name in medium.inputs:
            share = [extent.rows.get(name, 0) for extent in extents]
            arrived = len(fields[name]) if name in fields else 0
            if name == medium.pixels and arrived != sum(share):
                raise JigsawError(f"{medium.name} patches are missing: {arrived} of {sum(share)}")
            if arrived and arrived != sum(share):
                raise JigsawError(f"{name} has {arrived} rows for {sum(share)}: the processor dropped some")
            if arrived:
                shares[name] = share
    return {name: tuple(share) for name, share in shares.items()}
