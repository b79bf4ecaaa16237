"""Packs the rows of a supervised batch into one sequence without padding, in which no row attends to another.

    [ row 1 | row 2 | ... | row B ]

In: a padded batch of the collator. Out: one sequence with the same loss and gradients. Every row has the same positions
as without packing, and bidirectional attention within images stays within each row. Packing works for every family,
since it only needs positions and masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from jigsaw.models.families import family_of, unwrapped
from jigsaw.models.families.base import PER_TOKEN
from jigsaw.models.packed_attention import Packing
from jigsaw.models.shared_prefix import attention_mask, wants_blocks


def pack_rows(model: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Pack a batch of B rows into one row.

    Args:
        model: the model, possibly wrapped.
        inputs: `input_ids`, `attention_mask`, `labels` and further values per token, `[B, L]` each, and media in the
            order of the rows.

    Returns:
        The same inputs with shape `[1, T]` for the T tokens that are not padding, `position_ids`, and an
        `attention_mask` with the number of each token's row, from 1.
    """
    family, network = family_of(model), unwrapped(model)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    tokens = mask.bool()
    positions, _ = family.positions(network, ids, mask, inputs)
    rows = torch.arange(1, len(ids) + 1, device=ids.device)[:, None].expand_as(ids)
    per_token = {name: inputs[name] for name in ("input_ids", "labels", *PER_TOKEN) if name in inputs}
    changed = {name: value[tokens][None] for name, value in (per_token | {"attention_mask": rows}).items()}
    return dict(inputs) | changed | {"position_ids": family.position_ids(positions[:, tokens][:, None])}


@contextmanager
def separate_rows(model: Any, inputs: dict[str, Any]) -> Iterator[None]:
    """Make forward passes on packed inputs in the block compute each row separately.

    Args:
        model: the model, possibly wrapped.
        inputs: inputs of `pack_rows`, possibly with blank media. Their `attention_mask` is replaced by zeros and ones.
    """
    family, network = family_of(model), unwrapped(model)
    part = inputs["attention_mask"]
    tokens = (part > 0).to(part.dtype)
    inputs["attention_mask"] = tokens
    positions = inputs["position_ids"] if inputs["position_ids"].ndim == 3 else inputs["position_ids"][None]
    fields = {name: inputs[name] for name in PER_TOKEN if name in inputs}
    packing = Packing(
        part.masked_fill(part == 0, -1),
        _together(family.sees_both_ways(network, positions, tokens, fields), part),
        positions[0],
    )
    blocks = wants_blocks(part.device, part.shape[1])
    mask = attention_mask(network, family, packing, blocks=blocks)
    hook = network.register_forward_pre_hook(
        lambda _, args, kwargs: (args, kwargs | {"attention_mask": mask}), with_kwargs=True
    )
    try:
        yield
    finally:
        hook.remove()


def _together(numbers: Tensor | None, part: Tensor) -> Tensor | None:
    """The numbers of bidirectional blocks, made distinct between rows."""
    return None if numbers is None else torch.where(numbers < 0, numbers, numbers + part * (numbers.max() + 1))
