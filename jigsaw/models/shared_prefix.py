"""Log-probabilities of completions with shared prompts: a prompt is computed once per group, without padding.

In: the distinct prompts of a batch, and their completions. Out: the same log-probabilities as with a copy of the prompt
per completion. Each prompt is packed into one sequence with its completions (`jigsaw.models.packed_attention`); the
positions of every completion continue those of the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from jigsaw.models.families import Family, unwrapped
from jigsaw.models.packed_attention import PADDING, Packing, block_mask, dense_mask
from jigsaw.models.prompt_batch import PromptBatch
from jigsaw.models.token_scores import CHUNK, scoring_head

DENSE_LIMIT = 4096
"""Maximum tokens of a packed sequence for a dense mask on a GPU."""


def completion_log_probabilities(
    model: Any,
    processor: Any,
    rows: Sequence[Mapping[str, Any]],
    completions: Sequence[Sequence[Sequence[int]]],
    *,
    shared: bool = True,
    forbidden_tokens: Sequence[int] = (),
) -> list[list[Tensor]]:
    """Log-probabilities of completions of puzzles under a model.

    Args:
        model: a supported vision-language model, possibly wrapped.
        processor: the processor of the same checkpoint.
        rows: puzzle rows with their media.
        completions: for each row, the token ids of its completions, of any number and length.
        shared: compute a prompt once for all of its completions; False computes it once per completion.
        forbidden_tokens: ids that sampling excludes.

    Returns:
        For each row, one float32 tensor per completion with one value per token. They have gradients.

    Raises:
        JigsawError: the architecture is not supported, or a medium was not converted to tokens and pixels.
    """
    device = next(model.parameters()).device
    prompts = PromptBatch.encode(model, processor, rows, device)
    flat = [torch.tensor(tokens, dtype=torch.long, device=device) for group in completions for tokens in group]
    owner = [number for number, group in enumerate(completions) for _ in group]
    if not flat:
        return [[] for _ in rows]
    ids = torch.nn.utils.rnn.pad_sequence(flat, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(tokens) for tokens in flat], batch_first=True)
    scores, _ = log_probabilities(model, prompts, owner, ids, mask, shared=shared, forbidden_tokens=forbidden_tokens)
    each = iter([row[: len(tokens)] for row, tokens in zip(scores, flat, strict=True)])
    return [[next(each) for _ in group] for group in completions]


def log_probabilities(
    model: Any,
    prompts: PromptBatch,
    prompt_of_row: Sequence[int],
    completion_ids: Tensor,
    completion_mask: Tensor,
    *,
    temperature: float = 1.0,
    forbidden_tokens: Sequence[int] = (),
    shared: bool = True,
    blocks: bool | None = None,
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies of completion tokens, one packed sequence per prompt. Collective under ZeRO-3.

    Args:
        model: a causal vision-language model, possibly wrapped.
        prompts: the prompts of the batch.
        prompt_of_row: the prompt of each completion, B numbers.
        completion_ids: `[B, C]`, padded on the right.
        completion_mask: `[B, C]`, 1 on tokens, 0 on padding. Rows of zeros are not computed.
        temperature: divisor of the logits.
        forbidden_tokens: ids that sampling excludes; they are also excluded from the distribution here.
        shared: one sequence per prompt; False computes one sequence per completion, with copies of prompt and media.
        blocks: whether to use a block mask; None decides by length and device.
        chunk: number of logits in memory at a time.

    Returns:
        Two float32 tensors `[B, C]`, 0 on padding: log-probabilities with gradients, and entropies in nats without.
    """
    owners = list(prompt_of_row)
    used = sorted(set(owners)) if shared else owners
    sequence_of_row = [used.index(owner) for owner in owners] if shared else list(range(len(owners)))
    batch = prompts.select(used).with_blank_media(model)
    network = unwrapped(model)
    packed = _packed(network, batch, sequence_of_row, completion_ids, completion_mask)
    count, start = batch.input_ids.shape
    space = packed.ids.shape[1]
    if blocks is None:
        blocks = wants_blocks(completion_ids.device, start + space)
    seen = attention_mask(network, batch.family, packed.packing, blocks=blocks)
    with scoring_head(
        network.get_output_embeddings(),
        packed.predicted_at,
        completion_ids[packed.row, packed.token],
        temperature=temperature,
        forbidden_tokens=forbidden_tokens,
        chunk=chunk,
    ):
        scores = model(
            input_ids=torch.cat([batch.input_ids, packed.ids], dim=1),
            attention_mask=seen,
            position_ids=batch.family.position_ids(packed.positions),
            **batch.media,
            **{
                name: torch.cat([field, field.new_zeros(count, space)], dim=1)
                for name, field in batch.token_fields.items()
            },
            use_cache=False,
            logits_to_keep=torch.arange(start - 1, start + space, device=completion_ids.device),
        ).logits
    of_token = scores.new_zeros(*completion_ids.shape, 2).index_put((packed.row, packed.token), scores)
    return of_token[..., 0], of_token[..., 1].detach()


def wants_blocks(device: Any, length: int) -> bool:
    """Whether packed sequences of this length get a block mask instead of a dense one."""
    return bool(device.type != "cpu" and length > DENSE_LIMIT)


def attention_mask(network: Any, family: Family, packing: Packing, *, blocks: bool) -> Any:
    """The attention mask of packed sequences as a model takes it.

    Args:
        network: the unwrapped model.
        family: family of the model.
        packing: structure of the sequences.
        blocks: whether to use block masks.
    """
    if blocks:
        family.take_block_masks(network)
    eager = "eager" in _implementations(network)
    dtype = next(network.parameters()).dtype

    def build(packing: Packing) -> Any:
        if blocks:
            return block_mask(packing)
        mask = dense_mask(packing)
        return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min) if eager else mask

    return family.masks(network, packing, build)


@dataclass(frozen=True)
class _Packed:
    """Completions packed after their prompts: N sequences with up to S completion tokens each, M tokens in all.

    Attributes:
        ids: completion tokens, `[N, S]`.
        positions: positions of prompts and completions, `[A, N, P + S]`.
        packing: structure of prompts and completions.
        row, token: `[M]` each: the completion of a token, and the token's number in it.
        predicted_at: `[M]`, where a token is predicted, in the flattened `[N, 1 + S]` outputs from the prompt's last
            token on.
    """

    ids: Tensor
    positions: Tensor
    packing: Packing
    row: Tensor
    token: Tensor
    predicted_at: Tensor


def _packed(network: Any, prompts: PromptBatch, sequence_of_row: Sequence[int], ids: Tensor, mask: Tensor) -> _Packed:
    """Concatenate the completions of each prompt, without their padding."""
    begins, numbers_in_sequence = [], []
    filled, taken = [0] * len(prompts), [0] * len(prompts)
    for owner, length in zip(sequence_of_row, mask.sum(1).tolist(), strict=True):
        begins.append(filled[owner])
        filled[owner] += length
        taken[owner] += 1
        numbers_in_sequence.append(taken[owner])
    space, count, device = max(filled), len(prompts), ids.device
    sequence, begin, number = (
        torch.tensor(one, dtype=torch.long, device=device) for one in (sequence_of_row, begins, numbers_in_sequence)
    )
    row, token = mask.nonzero(as_tuple=True)
    of_token, place = sequence[row], begin[row] + token
    flat = prompts.input_ids.new_zeros(count, space).index_put((of_token, place), ids[row, token])
    numbers = torch.zeros_like(flat).index_put((of_token, place), prompts.next_position[of_token] + token)
    positions = torch.cat([prompts.positions, prompts.family.completion_positions(numbers)], dim=2)
    part = torch.full_like(flat, PADDING).index_put((of_token, place), number[row])
    together = prompts.family.sees_both_ways(network, prompts.positions, prompts.attention_mask, prompts.token_fields)
    packing = Packing(
        # -1 (`PADDING`) on a prompt's padding, 0 (`PROMPT`) on its tokens
        torch.cat([prompts.attention_mask.to(part.dtype) - 1, part], dim=1),
        None if together is None else torch.nn.functional.pad(together, (0, space), value=-1),
        positions[0],
    )
    predicted_at = of_token * (1 + space) + torch.where(token == 0, torch.zeros_like(place), place)
    return _Packed(flat, positions, packing, row, token, predicted_at)


def _implementations(model: Any) -> set[str]:
    return {str(model.config.get_text_config()._attn_implementation), str(model.config._attn_implementation)}
