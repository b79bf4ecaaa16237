"""The transformers engine: prefills a prompt once and repeats its cache for the completions of its group.

In: rows, or their encoded prompts. Out: the same completions as if each had its own copy of the prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from transformers import LogitsProcessorList, MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from jigsaw.engines.base import Completions, Row, Sampling
from jigsaw.engines.weights import Policy
from jigsaw.models.prompt_batch import PromptBatch

Tensor = Any  # torch comes without types here


class TransformersEngine:
    """An engine that samples with the model itself; see `jigsaw.engines.Engine`.

    Args:
        model: a vision-language model on its device; None if `sync` provides it.
        processor: the processor of the same checkpoint.
        shared: compute a prompt once for all of its completions; False computes it once per completion.
    """

    def __init__(self, model: Any, processor: Any, *, shared: bool = True) -> None:
        self._model, self._processor, self._shared = model, processor, shared
        self._synced = ExitStack()

    def sync(self, policy: Policy) -> None:
        """Use the model of a policy until `sleep`; under ZeRO-3, its weights are gathered."""
        self.sleep()
        self._model = self._synced.enter_context(policy.ready_to_generate())

    def generate(self, rows: Sequence[Row], sampling: Sampling, prompts: PromptBatch | None = None) -> Completions:
        """See `Engine`."""
        sampling.require_seeds(rows)
        if not rows:
            return Completions([])
        if prompts is None:
            prompts = PromptBatch.encode(self._model, self._processor, rows, next(self._model.parameters()).device)
        with _evaluating(self._model):
            return Completions(sample(self._model, prompts, sampling, shared=self._shared))

    def sleep(self) -> None:
        """Shard the weights again, if `sync` has gathered them."""
        self._synced.close()

    def close(self) -> None:
        """Release the model."""
        self.sleep()
        self._model = None


def sample(model: Any, prompts: PromptBatch, sampling: Sampling, *, shared: bool = True) -> list[list[int]]:
    """Sample completions with a causal vision-language model of transformers.

    Args:
        model: the unwrapped model, in evaluation mode.
        prompts: N prompts.
        sampling: the sampling settings, with G completions per prompt.
        shared: prefill every prompt once; False prefills it once per completion.

    Returns:
        N x G token lists, in order of prompts.
    """
    count = sampling.count
    if not shared:
        prompts = prompts.select([number for number in range(len(prompts)) for _ in range(count)])
    repeats = count if shared else 1
    device = prompts.input_ids.device
    choose = _choice(sampling, device)
    ends = torch.tensor(sampling.end_tokens, dtype=torch.long, device=device)
    with torch.no_grad():  # not inference_mode: tensors that a module caches here are also used in training
        output = model(
            input_ids=prompts.input_ids,
            attention_mask=prompts.attention_mask,
            position_ids=prompts.family.position_ids(prompts.positions),
            **prompts.media,
            **prompts.token_fields,
            use_cache=True,
            logits_to_keep=1,
        )
        cache, logits = output.past_key_values, output.logits[:, -1]
        if repeats > 1:
            cache.batch_repeat_interleave(repeats)
            logits = logits.repeat_interleave(repeats, dim=0)
        length = prompts.input_ids.shape[1]
        mask = torch.nn.functional.pad(prompts.attention_mask, (0, sampling.max_tokens), value=1)
        mask = mask.repeat_interleave(repeats, dim=0)
        position = prompts.next_position.repeat_interleave(repeats)[:, None]
        tokens = torch.empty(len(mask), sampling.max_tokens, dtype=torch.long, device=device)
        ended = torch.zeros(len(mask), dtype=torch.bool, device=device)
        for step in range(sampling.max_tokens):
            chosen = choose(logits, step)
            tokens[:, step] = chosen
            ended |= torch.isin(chosen, ends)
            if step + 1 == sampling.max_tokens or ended.all():
                break
            logits = model(
                input_ids=chosen[:, None],
                attention_mask=mask[:, : length + step + 1],
                position_ids=prompts.family.position_ids(prompts.family.completion_positions(position + step)),
                past_key_values=cache,
                use_cache=True,
            ).logits[:, -1]
    return [_until_end(row, set(sampling.end_tokens)) for row in tokens[:, : step + 1].tolist()]


def _choice(sampling: Sampling, device: Any) -> Any:
    """A function from logits `[B, vocabulary]` and the number of a token to the chosen ids, `[B]`.

    A token is sampled by inverting the distribution function at a uniform random number. One generator per completion
    makes its numbers, all before the first token.
    """
    forbidden = torch.tensor(sampling.forbidden_tokens, dtype=torch.long, device=device)
    truncation = LogitsProcessorList()
    if sampling.top_k:
        truncation.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        truncation.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        truncation.append(MinPLogitsWarper(sampling.min_p))
    uniform = None
    if not sampling.greedy:
        generator = torch.Generator()  # on the CPU: the same numbers on every device
        uniform = torch.stack(
            [
                torch.rand(
                    sampling.max_tokens,
                    dtype=torch.float64,
                    generator=generator.manual_seed(seed * 1_000_003 + number),
                )
                for seed in sampling.seeds
                for number in range(sampling.count)
            ]
        ).to(device)

    def choose(logits: Tensor, step: int) -> Tensor:
        scores = logits.float().index_fill(1, forbidden, -torch.inf)
        if uniform is None:
            return scores.argmax(-1)
        scores = truncation(None, scores / sampling.temperature)
        sums = scores.softmax(-1).cumsum(-1, dtype=torch.float64)
        # Below the total, so that the search ends at a token whose probability is not zero.
        wanted = torch.minimum(uniform[:, step, None] * sums[:, -1:], sums[:, -1:].nextafter(sums.new_zeros(())))
        return torch.searchsorted(sums, wanted, right=True)[:, 0].clamp(max=scores.shape[1] - 1)  # NaN is past the end

    return choose


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Set a model to evaluation mode, without the dropout of adapters, and restore its mode after the block."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _until_end(tokens: list[int], ends: set[int]) -> list[int]:
    for position, token in enumerate(tokens):
        if token in ends:
            return tokens[: position + 1]
    return tokens
