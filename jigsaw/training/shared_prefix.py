"""A prompt is paid for once: the completions of a group share its place in the loss pass.

In: the distinct prompts of a batch, and completions of them. Out: the completions' log-probabilities, as if each had
been run behind a copy of its prompt. One sequence is packed per prompt,

    [ prompt | completion 1 | completion 2 | ... | completion G ]

with a mask under which a completion sees its prompt and itself, causally, and no other completion; the positions of
every completion count on from the prompt's. Long sequences on a GPU take a block mask (flex attention), of which only
the blocks on the way are stored and computed; a dense mask of 41,000 tokens would have 1.7 billion places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.flex_attention import flex_attention_forward
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from jigsaw.training.layouts import unwrapped
from jigsaw.training.prompts import PromptBatch
from jigsaw.training.token_scores import CHUNK, scoring_head

Tensor = Any  # torch comes without types here
DENSE_LIMIT = 4096
"""Tokens of a packed sequence up to which a GPU gets a dense mask."""

BLOCK = 128
"""Places along the side of a block of a block mask."""

BY_MASK = "jigsaw_by_mask"
"""The attention function that block masks need, by its name in transformers."""


def log_probabilities(
    model: Any,
    prompts: PromptBatch,
    prompt_of_row: Tensor,
    completion_ids: Tensor,
    completion_mask: Tensor,
    *,
    temperature: float = 1.0,
    forbidden_tokens: Sequence[int] = (),
    shared: bool = True,
    blocks: bool | None = None,
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies of completion tokens, one packed sequence per prompt.

    Args:
        model: a causal vision-language model, possibly wrapped.
        prompts: the prompts of the batch.
        prompt_of_row: which prompt a completion belongs to, `[B]`.
        completion_ids: `[B, C]`, padded on the right.
        completion_mask: `[B, C]`, 1 on tokens, 0 on padding.
        temperature: that the logits are divided by.
        forbidden_tokens: ids that sampling leaves out, and that the distribution here has none of either.
        shared: one sequence per prompt; False runs one per completion, behind a copy of prompt and media.
        blocks: whether to use a block mask; None decides by length and device.
        chunk: logits that are held at a time.

    Returns:
        Two tensors `[B, C]`: log-probabilities with gradients, entropies in nats without. On padding they are 0.
    """
    rows, width = completion_ids.shape
    if shared:
        used, group, slot, slots = _slots(prompt_of_row)
    else:
        used, group = prompt_of_row, torch.arange(rows, device=prompt_of_row.device)
        slot, slots = torch.zeros_like(group), 1
    batch = prompts.select(used).in_step(model)
    count, start = batch.input_ids.shape
    ids = batch.input_ids.new_zeros(count, slots, width)
    visible = batch.attention_mask.new_zeros(count, slots, width)
    ids[group, slot], visible[group, slot] = completion_ids, completion_mask.to(visible.dtype)

    numbers = batch.next_position[:, None] + torch.arange(width, device=ids.device)
    numbers = numbers[:, None].expand(-1, slots, -1).flatten(1)
    if blocks is None:
        blocks = ids.device.type != "cpu" and start + slots * width > DENSE_LIMIT
    together = batch.layout.blocks(batch.positions, batch.attention_mask)
    network = unwrapped(model)
    if blocks:
        _attend_by_mask(network)
        mask: Any = block_mask(batch.attention_mask, visible, together)
    else:
        mask = packed_mask(batch.attention_mask, visible, together)
        if "eager" in _implementations(network):
            dtype = next(network.parameters()).dtype
            mask = torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)

    # The token at (slot, 0) is predicted at the prompt's end, (slot, t) at (slot, t - 1).
    where = torch.arange(slots * width, device=ids.device).view(slots, width)
    where[:, 0] = 0
    tokens = visible.bool()
    row = torch.arange(count, device=ids.device)[:, None, None] * (1 + slots * width)
    with scoring_head(
        network.get_output_embeddings(),
        (row + where)[tokens],
        ids[tokens],
        temperature=temperature,
        forbidden_tokens=forbidden_tokens,
        chunk=chunk,
    ):
        scores = model(
            input_ids=torch.cat([batch.input_ids, ids.flatten(1)], dim=1),
            attention_mask=mask,
            position_ids=torch.cat([batch.positions, batch.layout.continued(numbers)], dim=2),
            **batch.media,
            **{
                name: torch.cat([field, field.new_zeros(count, slots * width)], dim=1)
                for name, field in batch.token_fields.items()
            },
            use_cache=False,
            logits_to_keep=torch.arange(start - 1, start + slots * width, device=ids.device),
        ).logits
    found = scores.new_zeros(*ids.shape, 2).index_put(tokens.nonzero(as_tuple=True), scores)[group, slot]
    return found[..., 0], found[..., 1].detach()


def packed_mask(prompt_mask: Tensor, completion_mask: Tensor, together: Tensor | None = None) -> Tensor:
    """The attention mask of packed sequences.

    Args:
        prompt_mask: `[N, P]`, 1 on tokens.
        completion_mask: `[N, G, C]`, 1 on tokens.
        together: `[N, P]`, prompt tokens of one number, 0 or above, see each other both ways; None: none do.

    Returns:
        `[N, 1, P + G*C, P + G*C]`, True where a query sees a key. A query always sees itself, so that rows of padding
        stay finite.
    """
    tables = _Tables(prompt_mask, completion_mask, together)
    size = tables.token.shape[1]
    order = torch.arange(size, device=prompt_mask.device)
    row = torch.arange(len(prompt_mask), device=prompt_mask.device)
    return tables.sees(row[:, None, None, None], order[:, None], order)


def block_mask(prompt_mask: Tensor, completion_mask: Tensor, together: Tensor | None = None) -> BlockMask:
    """`packed_mask` for flex attention: of blocks, which are empty, full or mixed; never dense, on any device.

    PyTorch's own `create_block_mask` makes the dense mask unless it is compiled, and compiled anew for every length.
    """
    tables = _Tables(prompt_mask, completion_mask, together)
    count, size = tables.token.shape
    row = torch.arange(count, device=prompt_mask.device)[:, None, None]
    order = torch.arange(size, device=prompt_mask.device)
    rest = -size % BLOCK
    # One line of blocks at a time: how many places of each block are seen.
    seen = torch.stack(
        [
            torch.nn.functional.pad(tables.sees(row, queries[:, None], order), (0, rest))
            .unflatten(2, (-1, BLOCK))
            .sum((1, 3))
            for queries in order.split(BLOCK)
        ],
        dim=1,
    )[:, None]
    full = seen == BLOCK * BLOCK

    def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:  # flex attention takes no methods
        return tables.sees(row, query, key)

    return BlockMask.from_kv_blocks(
        *_listed((seen > 0) & ~full), *_listed(full), BLOCK_SIZE=BLOCK, mask_mod=sees, seq_lengths=(size, size)
    )


def _listed(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks are chosen in each line of `[N, 1, Q, K]`, and their numbers, those first."""
    order = chosen.int().argsort(dim=-1, descending=True, stable=True)
    return chosen.sum(-1, dtype=torch.int32), order.to(torch.int32)


class _Tables:
    """What a mask is made of, one number per place of a packed sequence.

    Attributes:
        stretch: `[L]`, 0 in the prompt, then the number of the completion from 1.
        token: `[N, L]`, False on padding.
        together: `[N, L]`, -1 on places that see what is before them alone; None where all do.
    """

    def __init__(self, prompt_mask: Tensor, completion_mask: Tensor, together: Tensor | None) -> None:
        _, slots, width = completion_mask.shape
        length, device = prompt_mask.shape[1], prompt_mask.device
        own = torch.arange(1, slots + 1, device=device).repeat_interleave(width)
        self.stretch = torch.cat([own.new_zeros(length), own])
        self.token = torch.cat([prompt_mask, completion_mask.flatten(1)], dim=1).bool()
        self.together = None if together is None else torch.nn.functional.pad(together, (0, slots * width), value=-1)

    def sees(self, row: Tensor, query: Tensor, key: Tensor) -> Tensor:
        """Whether a query sees a key; places by number, of any shapes that fit each other."""
        seen = (key <= query) & ((self.stretch[key] == 0) | (self.stretch[key] == self.stretch[query]))
        if self.together is not None:
            block = self.together[row, key]
            seen = seen | ((block >= 0) & (block == self.together[row, query]))
        return (seen & self.token[row, key]) | (query == key)


def _by_mask(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """Flex attention for block masks, PyTorch's fused attention for everything else."""
    if not isinstance(attention_mask, BlockMask):
        found: tuple[Tensor, Tensor | None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **kwargs
        )
        return found
    if query.device.type == "cpu":  # the compiler takes longer than what a CPU is used for here
        scale = kwargs.get("scaling")
        output = flex_attention(query, key, value, block_mask=attention_mask, scale=scale, enable_gqa=True)
        return output.transpose(1, 2), None
    flexed: tuple[Tensor, Tensor | None] = flex_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return flexed


AttentionInterface.register(BY_MASK, _by_mask)
AttentionMaskInterface.register(BY_MASK, sdpa_mask)


def _attend_by_mask(model: Any) -> None:
    """Have the decoder take block masks, from now on: checkpointed layers run again after the forward pass."""
    config = model.config.get_text_config()
    if not hasattr(model, "images_per_row"):  # NEO goes by the mask itself
        config._attn_implementation = BY_MASK


def _implementations(model: Any) -> set[str]:
    return {str(model.config.get_text_config()._attn_implementation), str(model.config._attn_implementation)}


def _slots(prompt_of_row: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
    """Prompts in use, and for every row its prompt's number among them and its own number within the prompt."""
    used, group = torch.unique(prompt_of_row, return_inverse=True)
    taken: dict[int, int] = {}
    slot = []
    for number in group.tolist():
        slot.append(taken.get(number, 0))
        taken[number] = slot[-1] + 1
    return used, group, torch.tensor(slot, device=group.device), max(taken.values())
