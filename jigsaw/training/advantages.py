"""Computes the advantages of completions, and the importance sampling correction between engine and trainer.

In: tensors of rewards and log-probabilities. Out: tensors. Pure functions with the formulas of TRL (1.16); its settings
`scale_rewards`, `multi_objective_aggregation` and `vllm_importance_sampling_mode` have the same meaning here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from trl.trainer.utils import nanstd

SMALLEST = 1e-4
"""Added to standard deviations before a division."""


@dataclass(frozen=True)
class Advantages:
    """The advantages of a generation batch.

    Attributes:
        values: `[B]`, the advantages; 0 if no reward has a value.
        rewards: `[B]`, weighted sums of the rewards; NaN if no reward has a value.
        equal: share of completions in zero-variance groups, 0 to 1.
    """

    values: Tensor
    rewards: Tensor
    equal: float


def advantages_of(
    scores: Tensor,
    weights: Tensor,
    generations: int,
    *,
    scale: Literal["group", "batch", "none"],
    aggregation: Literal["sum_then_normalize", "normalize_then_sum"],
) -> Advantages:
    """Advantages relative to the mean of the group (GRPO, arXiv 2402.03300, section 4.1).

    Args:
        scores: `[B, R]`, one column per reward, NaN if it has no value; in order of groups, on all processes.
        weights: `[R]`, weights of the rewards.
        generations: completions of a group, G.
        scale: divisor of the differences: the standard deviation of the group, of the batch, or none.
        aggregation: whether rewards are added before or after they are normalised within their group (GDPO).
    """
    missing = scores.isnan().all(1)
    rewards = (scores * weights).nansum(1).masked_fill(missing, torch.nan)
    if aggregation == "normalize_then_sum":
        grouped = scores.view(-1, generations, scores.shape[1])
        normal = (grouped - grouped.nanmean(1, keepdim=True)) / (nanstd(grouped, 1, keepdim=True) + SMALLEST)
        total = (normal.view_as(scores) * weights).nansum(1).masked_fill(missing, torch.nan)
        spread = nanstd(total).expand_as(total)
        values = (total - total.nanmean()) / (spread + SMALLEST)
    else:
        grouped = rewards.view(-1, generations)
        means = grouped.nanmean(1).repeat_interleave(generations)
        spread = nanstd(grouped, 1).repeat_interleave(generations)
        if scale == "batch":
            spread = nanstd(rewards).expand_as(rewards)
        values = rewards - means
        if scale != "none":
            values = values / (spread + SMALLEST)
    equal = torch.isclose(spread, torch.zeros_like(spread)).float().mean().item()
    return Advantages(values.nan_to_num(nan=0.0), rewards, equal)


def importance_ratio(old: Tensor, sampled: Tensor, mask: Tensor, args: Any) -> Tensor:
    """The ratio of the trainer's to the engine's probabilities, truncated or masked as configured.

    Args:
        old: `[B, C]`, log-probabilities of the trainer.
        sampled: `[B, C]`, log-probabilities of the engine; NaN if it has none, which counts as no difference.
        mask: `[B, C]`, 1 on tokens that count.
        args: `GRPOConfig`, for `vllm_importance_sampling_mode` and its bounds.

    Returns:
        `[B, C]` for the token modes, `[B, 1]` for the sequence modes.
    """
    difference = ((old - sampled) * mask).nan_to_num(nan=0.0)
    level, kind = args.vllm_importance_sampling_mode.split("_")
    if level == "sequence":
        difference = difference.sum(-1, keepdim=True)
    ratio = difference.exp()
    low, high = args.vllm_importance_sampling_clip_min, args.vllm_importance_sampling_clip_max
    if kind == "truncate":
        return ratio.clamp(min=low, max=high)
    outside = torch.zeros_like(ratio, dtype=torch.bool)
    if low is not None:
        outside |= ratio < low
    if high is not None:
        outside |= ratio > high
    return ratio.masked_fill(outside, 0.0)
