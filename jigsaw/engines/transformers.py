"""Completions drawn with transformers: a prompt is prefilled once and its cache repeated for the group.

In: the distinct prompts of a batch. Out: G completions of each, as if each had been drawn behind its own copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from jigsaw.models.prompt_batch import PromptBatch

Tensor = Any  # torch comes without types here


def sample(
    model: Any,
    prompts: PromptBatch,
    generations: int,
    *,
    logits_processors: Any,
    max_new_tokens: int,
    eos_token_ids: Sequence[int],
    seeds: Sequence[int],
    shared: bool = True,
) -> list[list[int]]:
    """Sample completions.

    Args:
        model: a causal vision-language model of `transformers`.
        prompts: N prompts.
        generations: completions of each, G.
        logits_processors: a `LogitsProcessorList`: suppressed tokens, temperature, truncation.
        max_new_tokens: limit of a completion.
        eos_token_ids: tokens that end one.
        seeds: one per prompt. A completion's randomness depends on its prompt's seed and its own number alone, so that
            the same prompt gets the same completions in any batch and on any rank.
        shared: prefill every prompt once; False prefills it once per completion.

    Returns:
        N x G token lists, the completions of a prompt together; each ends with its end token or at the limit.
    """
    device = prompts.input_ids.device
    copies = 1 if shared else generations
    if not shared:
        prompts = prompts.select([number for number in range(len(prompts)) for _ in range(copies)])
    repeats = generations // copies
    with torch.no_grad():
        output = model(
            input_ids=prompts.input_ids,
            attention_mask=prompts.attention_mask,
            position_ids=prompts.positions,
            **prompts.media,
            **prompts.token_fields,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = output.past_key_values
        if repeats > 1:
            cache.batch_repeat_interleave(repeats)
        logits = output.logits[:, -1].repeat_interleave(repeats, dim=0)
        mask = prompts.attention_mask.repeat_interleave(repeats, dim=0)
        position = prompts.next_position.repeat_interleave(repeats)
        ends = torch.tensor(list(eos_token_ids), device=device)
        done = torch.zeros(len(position), dtype=torch.bool, device=device)
        tokens = prompts.input_ids.repeat_interleave(repeats, dim=0)
        start = tokens.shape[1]
        draws = [
            torch.Generator(device).manual_seed(seed * 1_000_003 + number)
            for seed in seeds
            for number in range(generations)
        ]
        for step in range(max_new_tokens):
            scores = logits_processors(tokens, logits.float())
            # The largest probability over exponential noise is a draw from the distribution (Gumbel's trick).
            noise = torch.stack(
                [torch.empty_like(row).exponential_(generator=draw) for row, draw in zip(scores, draws, strict=True)]
            )
            chosen = (scores.softmax(-1) / noise).argmax(-1, keepdim=True)
            tokens = torch.cat([tokens, chosen], dim=1)
            done = done | torch.isin(chosen[:, 0], ends)
            if done.all() or step + 1 == max_new_tokens:
                break
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            logits = model(
                input_ids=chosen,
                attention_mask=mask,
                position_ids=prompts.family.completion_positions(position[:, None] + step),
                past_key_values=cache,
                use_cache=True,
            ).logits[:, -1]
    return [_until_end(row, set(eos_token_ids)) for row in tokens[:, start:].tolist()]


def shaping(args: Any, forbidden_tokens: Sequence[int], device: Any) -> LogitsProcessorList:
    """What shapes the distribution that is sampled from, in order; forbidden tokens are never in it.

    Args:
        args: with `temperature`, `top_k`, `top_p` and `min_p`.
        forbidden_tokens: ids.
        device: of the logits.
    """
    processors = [SuppressTokensLogitsProcessor(list(forbidden_tokens), device)]
    if args.temperature != 1.0:
        processors.append(TemperatureLogitsWarper(args.temperature))
    if args.top_k:
        processors.append(TopKLogitsWarper(args.top_k))
    if args.top_p < 1.0:
        processors.append(TopPLogitsWarper(args.top_p))
    if args.min_p:
        processors.append(MinPLogitsWarper(args.min_p))
    return LogitsProcessorList(processors)


def _until_end(tokens: list[int], ends: set[int]) -> list[int]:
    for position, token in enumerate(tokens):
        if token in ends:
            return tokens[: position + 1]
    return tokens
