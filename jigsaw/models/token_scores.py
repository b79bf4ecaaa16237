"""Log-probabilities and entropies of tokens without the logits of all of them at once.

In: a forward pass of a model, and which token is looked for where. Out: two numbers per token in place of its logits.
The model's head itself computes them, in chunks that are computed again in the backward pass: 32,000 completion tokens
over a vocabulary of 152,000 would be 20 GB of logits. Because it is the head module that runs, what hangs on it works
as before: parameters that ZeRO-3 gathers, data parallelism, autocast.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK = 2**27
"""Logits that are held at a time: 512 MB in float32."""


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
    """Meanwhile a model's head gives `[M, 2]`, log-probability and entropy (in nats, without gradient) of M tokens.

    Args:
        head: the model's output embedding, a linear layer.
        places: `[M]`, where in the flattened hidden states `[rows * length]` a token is predicted.
        targets: `[M]`, the tokens.
        temperature: that logits are divided by.
        forbidden_tokens: ids of which the distribution has none.
        chunk: logits that are held at a time.
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

    before = vars(head).get("forward")  # what others have put there, such as accelerate
    head.forward = forward
    try:
        yield
    finally:
        del head.forward
        if before is not None:
            head.forward = before
