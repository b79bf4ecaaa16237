"""Log-probabilities and entropies of tokens, without keeping all logits in memory.

In: a forward pass of a model, and the tokens to score with their places. Out: two numbers per token instead of its
logits. The model's head computes them in chunks, which are recomputed in the backward pass: the logits of 32,000
completion tokens over a vocabulary of 152,000 would take 20 GB. Because the head module itself runs, its hooks still
work: ZeRO-3's gathering, data parallelism, autocast.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK = 2**27
"""Number of logits in memory at a time: 512 MB in float32."""


@contextmanager
def scoring_head(
    head: Any,
    places: Tensor,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    forbidden_tokens: Sequence[int] = (),
    chunk: int = CHUNK,
) -> Iterator[None]:
    """Make a model's head return `[M, 2]` in the block: log-probability and entropy of M tokens.

    The entropy is in nats and has no gradient.

    Args:
        head: the model's output embedding, a linear layer.
        places: `[M]`, the indices in the flattened hidden states `[rows * length]` at which the tokens are predicted.
        targets: `[M]`, the tokens.
        temperature: divisor of the logits.
        forbidden_tokens: ids that are excluded from the distribution.
        chunk: number of logits in memory at a time.
    """
    project = head.forward
    forbidden = torch.tensor(list(forbidden_tokens), dtype=torch.long, device=targets.device)

    def score(hidden: Tensor, wanted: Tensor) -> Tensor:
        logits = project(hidden).float() / temperature
        if len(forbidden):
            logits = logits.index_fill(1, forbidden, torch.finfo(logits.dtype).min / 2)
        total = logits.logsumexp(-1)
        with torch.no_grad():
            entropy = total - (logits.softmax(-1) * logits).sum(-1)
        return torch.stack([logits.gather(-1, wanted[:, None])[:, 0] - total, entropy], dim=-1)

    def forward(hidden: Tensor) -> Tensor:
        chosen = hidden.flatten(0, 1)[places]
        size = max(1, chunk // head.out_features)
        if len(chosen) <= size:
            return score(chosen, targets)
        pairs = zip(chosen.split(size), targets.split(size), strict=True)
        return torch.cat([checkpoint(score, *pair, use_reentrant=False) for pair in pairs])

    before = vars(head).get("forward")  # another library, such as accelerate, may have set it
    head.forward = forward
    try:
        yield
    finally:
        del head.forward
        if before is not None:
            head.forward = before
