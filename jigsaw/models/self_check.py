"""The self-check at the start of a GRPO run: compares shared prompts with the model's own forward pass.

In: a group of completions. Out: nothing, or an error that stops the run. A bug in the positions or masks of an
architecture, a library or a device changes log-probabilities without any error, so every run checks them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from jigsaw.errors import JigsawError
from jigsaw.models.families import unwrapped
from jigsaw.models.families.base import PER_TOKEN
from jigsaw.models.prompt_batch import PromptBatch, add_blank_media
from jigsaw.models.prompts import processor_inputs
from jigsaw.models.shared_prefix import log_probabilities

ROUNDING = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
"""Maximum mean difference of a token's log-probability, in nats, that rounding causes."""


def check_shared_prompt(
    model: Any,
    processor: Any,
    row: Mapping[str, Any],
    prompt: PromptBatch,
    completions: Sequence[Sequence[int]],
    *,
    shared: bool = True,
    dtype: Any = torch.float32,
) -> float:
    """Compare the log-probabilities of a group with those of single sequences without padding. Collective.

    Args:
        model: the model, possibly wrapped.
        processor: the processor of the same checkpoint.
        row: the puzzle, with its media.
        prompt: the encoded puzzle.
        completions: token ids of each completion.
        shared: whether the loss pass shares the prompt.
        dtype: data type of the computation, which determines the size of rounding errors.

    Returns:
        The mean difference per token, in nats.

    Raises:
        JigsawError: the difference is larger than rounding.
    """
    device = prompt.input_ids.device
    flat = [torch.tensor(list(tokens), dtype=torch.long, device=device) for tokens in completions]
    ids = torch.nn.utils.rnn.pad_sequence(flat, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(tokens) for tokens in flat], batch_first=True)
    training = model.training
    model.eval()  # dropout of adapters would differ
    try:
        with torch.no_grad():
            ours, _ = log_probabilities(model, prompt, [0] * len(flat), ids, mask, shared=shared)
            own = torch.cat([sequence_log_probabilities(model, processor, row, tokens) for tokens in flat])
    finally:
        model.train(training)
    packed = ours[mask.bool()]
    apart = (packed - own).abs()
    mean = float(apart.mean()) if len(apart) else 0.0
    if not mean <= ROUNDING[dtype]:  # NaN too
        worst = int(apart.nan_to_num(nan=torch.inf).argmax())
        values = f"{float(packed[worst]):.4f}, of the single sequence {float(own[worst]):.4f}"
        raise JigsawError(
            f"puzzle {row.get('id')}: with a shared prompt the log-probability of a token is {values}; "
            f"the mean difference is {mean:.2g}, and rounding causes at most {ROUNDING[dtype]:g}. "
            f"{type(unwrapped(model)).__name__} is computed wrongly on this device or by this version of transformers; "
            "sampling.self_check=false disables this check"
        )
    return mean


def sequence_log_probabilities(model: Any, processor: Any, row: Mapping[str, Any], tokens: Tensor) -> Tensor:
    """Log-probabilities of a completion after its prompt, by the model's own forward pass.

    This is the reference for all other computations: one sequence without padding, the model's own positions and masks.

    Args:
        model: the model, possibly wrapped.
        processor: the processor of the same checkpoint.
        row: the puzzle, with its media.
        tokens: tokens of the completion, `[T]`.

    Returns:
        `[T]` in float32.
    """
    prompt = dict(processor_inputs(processor, [row]).to(tokens.device))
    inputs = {name: value for name, value in prompt.items() if name not in ("input_ids", "attention_mask")}
    inputs["input_ids"] = torch.cat([prompt["input_ids"], tokens[None]], dim=1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    for name in PER_TOKEN:
        if name in inputs:
            inputs[name] = torch.nn.functional.pad(inputs[name], (0, len(tokens)))
    inputs = add_blank_media(model, inputs)
    scores = model(**inputs, use_cache=False, logits_to_keep=len(tokens) + 1).logits[0, :-1].float().log_softmax(-1)
    of_tokens: Tensor = scores.gather(-1, tokens[:, None])[:, 0]
    return of_tokens
