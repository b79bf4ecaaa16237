"""Attention masks of packed sequences, each a prompt followed by its completions.

    [ prompt | completion 1 | completion 2 | ... | completion G ]

A completion attends causally to its prompt and to itself, but to no other completion. Long sequences on a GPU use a
block mask (flex attention), of which only the visible blocks are stored and computed; a dense mask of 41,000 tokens
would have 1.7 billion entries.
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
"""Side of a block in a block mask, in tokens."""

BY_MASK = "jigsaw_by_mask"
"""The name in transformers of the attention function that block masks need."""

PROMPT, PADDING = 0, -1
"""Values of `Packing.part` outside completions."""


@dataclass(frozen=True)
class Packing:
    """The structure of N packed sequences of L tokens.

    Attributes:
        part: `[N, L]`, `PROMPT`, `PADDING`, or the number of the completion from 1.
        together: `[N, L]`: tokens with the same number, 0 or above, attend to each other in both directions; None if
            attention is causal.
        positions: `[N, L]`, the position of each token in its own prompt and completion; needed for a window.
        window: tokens do not attend to tokens that are this number of positions or more before them; None for no limit.
    """

    part: Tensor
    together: Tensor | None = None
    positions: Tensor | None = None
    window: int | None = None

    def sees(self, row: Tensor, query: Tensor, key: Tensor) -> Tensor:
        """Whether a query attends to a key; both are token numbers, of shapes that broadcast.

        A token always attends to itself, so that rows of padding stay finite.
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
    """The attention mask of packed sequences, `[N, 1, L, L]`, True where a query attends to a key."""
    count, size = packing.part.shape
    order = torch.arange(size, device=packing.part.device)
    row = torch.arange(count, device=packing.part.device)
    return packing.sees(row[:, None, None, None], order[:, None], order)


def block_mask(packing: Packing) -> BlockMask:
    """`dense_mask` as a block mask of empty, full and mixed blocks for flex attention, never dense on any device.

    PyTorch's `create_block_mask` computes the dense mask unless it is compiled, and is compiled again for every length.
    """
    count, size = packing.part.shape
    row = torch.arange(count, device=packing.part.device)[:, None, None]
    order = torch.arange(size, device=packing.part.device)
    rest = -size % BLOCK
    # One row of blocks at a time: the number of visible entries of each block.
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

    def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:  # flex attention does not take methods
        return packing.sees(row, query, key)

    return BlockMask.from_kv_blocks(
        *_listed((seen > 0) & ~full), *_listed(full), BLOCK_SIZE=BLOCK, mask_mod=sees, seq_lengths=(size, size)
    )


def _listed(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """The number of chosen blocks in each row of `[N, 1, Q, K]`, and all block numbers, the chosen ones first."""
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
    if query.device.type == "cpu":  # compiling takes longer than the computation on a CPU
        scale = kwargs.get("scaling")
        output = flex_attention(query, key, value, block_mask=attention_mask, scale=scale, enable_gqa=True)
        return output.transpose(1, 2), None
    flexed: tuple[Tensor, Tensor | None] = flex_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return flexed


AttentionInterface.register(BY_MASK, _by_mask)
AttentionMaskInterface.register(BY_MASK, sdpa_mask)
