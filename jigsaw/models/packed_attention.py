"""Attention masks of packed sequences: a prompt once, its completions one behind the other.

    [ prompt | completion 1 | completion 2 | ... | completion G ]

A completion sees its prompt and itself, causally, and no other completion. Long sequences on a GPU take a block mask
(flex attention), of which only the blocks on the way are stored and computed; a dense mask of 41,000 tokens would have
1.7 billion places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.flex_attention import flex_attention_forward
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

BLOCK = 128
"""Places along the side of a block of a block mask."""

BY_MASK = "jigsaw_by_mask"
"""The attention function that block masks need, by its name in transformers."""

PROMPT, PADDING = 0, -1
"""Values of `Packing.part` outside completions."""


@dataclass(frozen=True)
class Packing:
    """What is at each place of N packed sequences of L places.

    Attributes:
        part: `[N, L]`, `PROMPT`, `PADDING`, or the number of the completion from 1.
        together: `[N, L]`: places of one number, 0 or above, see each other in both directions; None: none do.
        positions: `[N, L]`, the position of each place behind its own prompt; needed for a window.
        window: a place sees no other that is this number of positions or more before it; None: it sees all.
    """

    part: Tensor
    together: Tensor | None = None
    positions: Tensor | None = None
    window: int | None = None

    def sees(self, row: Tensor, query: Tensor, key: Tensor) -> Tensor:
        """Whether a query sees a key; places by number, of any shapes that fit each other.

        A place always sees itself, so that rows of padding stay finite.
        """
        part, own = self.part[row, key], self.part[row, query]
        seen = (key <= query) & ((part == PROMPT) | (part == own))
        if self.together is not None:
            block = self.together[row, key]
            seen = seen | ((block >= 0) & (block == self.together[row, query]))
        if self.window is not None and self.positions is not None:
            seen = seen & (self.positions[row, key] > self.positions[row, query] - self.window)
        return (seen & (part != PADDING) & (own != PADDING)) | (query == key)


def dense_mask(packing: Packing) -> Tensor:
    """The attention mask of packed sequences, `[N, 1, L, L]`, True where a query sees a key."""
    count, size = packing.part.shape
    order = torch.arange(size, device=packing.part.device)
    row = torch.arange(count, device=packing.part.device)
    return packing.sees(row[:, None, None, None], order[:, None], order)


def block_mask(packing: Packing) -> BlockMask:
    """`dense_mask` for flex attention: of blocks, which are empty, full or mixed; never dense, on any device.

    PyTorch's own `create_block_mask` makes the dense mask unless it is compiled, and compiled anew for every length.
    """
    count, size = packing.part.shape
    row = torch.arange(count, device=packing.part.device)[:, None, None]
    order = torch.arange(size, device=packing.part.device)
    rest = -size % BLOCK
    # One line of blocks at a time: how many places of each block are seen.
    seen = torch.stack(
        [
            torch.nn.functional.pad(packing.sees(row, queries[:, None], order), (0, rest))
            .unflatten(2, (-1, BLOCK))
            .sum((1, 3))
            for queries in order.split(BLOCK)
        ],
        dim=1,
    )[:, None]
    full = seen == BLOCK * BLOCK

    def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:  # flex attention takes no methods
        return packing.sees(row, query, key)

    return BlockMask.from_kv_blocks(
        *_listed((seen > 0) & ~full), *_listed(full), BLOCK_SIZE=BLOCK, mask_mod=sees, seq_lengths=(size, size)
    )


def _listed(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks are chosen in each line of `[N, 1, Q, K]`, and their numbers, those first."""
    order = chosen.int().argsort(dim=-1, descending=True, stable=True)
    return chosen.sum(-1, dtype=torch.int32), order.to(torch.int32)


def _by_mask(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """Flex attention for block masks, PyTorch's fused attention for everything else."""
    if not isinstance(attention_mask, BlockMask):
        fused: tuple[Tensor, Tensor | None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **kwargs
        )
        return fused
    if query.device.type == "cpu":  # the compiler takes longer than what a CPU is used for here
        scale = kwargs.get("scaling")
        output = flex_attention(query, key, value, block_mask=attention_mask, scale=scale, enable_gqa=True)
        return output.transpose(1, 2), None
    flexed: tuple[Tensor, Tensor | None] = flex_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return flexed


AttentionInterface.register(BY_MASK, _by_mask)
AttentionMaskInterface.register(BY_MASK, sdpa_mask)
