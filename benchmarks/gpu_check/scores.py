"""Difference of log-probabilities between a bfloat16 head and a float32 head on the same hidden states."""

from __future__ import annotations

import torch

from gpu_check.check import Check, Verdict
from jigsaw.models.token_scores import scoring_head

WARNED, STOPPED = 0.025, 0.1
"""Mean differences above which a run warns and stops: a quarter of `rollout.max_logp_difference`, and its value."""

SPREAD = 4.0
"""Standard deviation of the logits, as in a trained model."""


def precision(check: Check) -> Verdict:
    """Score random tokens with both heads."""
    rows, hidden, vocabulary = (64, 128, 1_000) if check.small else (4_096, 3_584, 152_064)
    weights = torch.randn(vocabulary, hidden, device=check.device) * SPREAD / hidden**0.5
    states = torch.randn(1, rows, hidden, device=check.device)
    places, targets = torch.arange(rows, device=check.device), torch.randint(vocabulary, (rows,), device=check.device)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        head = torch.nn.Linear(hidden, vocabulary, bias=False, device="meta")
        head.weight = torch.nn.Parameter(weights.to(torch.bfloat16).to(dtype), requires_grad=False)
        with scoring_head(head, places, targets), torch.no_grad():
            found.append(head(states.to(torch.bfloat16).to(dtype))[:, 0])
    apart = (found[0] - found[1]).abs()
    mean, most = float(apart.mean()), float(apart.max())
    check.add(mean_difference=mean, largest_difference=most)
    if mean > STOPPED:
        return Verdict("fail", f"mean difference {mean:.3g}: runs would stop at rollout.max_logp_difference={STOPPED}")
    if mean > WARNED:
        return Verdict("fail", f"mean difference {mean:.3g}: every run would warn")
    return Verdict("pass", f"mean difference {mean:.2g}, runs warn at {WARNED}")
