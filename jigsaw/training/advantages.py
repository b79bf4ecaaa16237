"""Advantages of completions from their rewards, and the correction for an engine that is not the trainer.

In: tensors of rewards and log-probabilities. Out: tensors. Pure functions; the formulas are those of TRL (1.16), whose
settings `scale_rewards`, `multi_objective_aggregation` and `vllm_importance_sampling_mode` have the same meaning here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from trl.trainer.utils import nanstd

SMALLEST = 1e-4
"""Added to standard deviations before they divide."""


@dataclass(frozen=True)
class Advantages:
    """What follows from the rewards of a generation batch.

    Attributes:
        values: `[B]`, 0 where no reward has a value.
        rewards: `[B]`, weighted sums; NaN where no reward has a value.
        equal: share of completions in groups without variance, 0 to 1.
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
        scores: `[B, R]`, one column per reward, NaN where it has no value; groups together, on all processes.
        weights: `[R]`.
        generations: completions of a group, G.
        scale: what the differences are divided by: the standard deviation of the group, of the batch, or nothing.
        aggregation: whether rewards are added before or after each is normalised within its group (GDPO).
    """
    nothing = scores.isnan().all(1)
    rewards = (scores * weights).nansum(1).masked_fill(nothing, torch.nan)
    if aggregation == "normalize_then_sum":
        grouped = scores.view(-1, generations, scores.shape[1])
        normal = (grouped - grouped.nanmean(1, keepdim=True)) / (nanstd(grouped, 1, keepdim=True) + SMALLEST)
        total = (normal.view_as(scores) * weights).nansum(1).masked_fill(nothing, torch.nan)
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
    """The ratio of the trainer's to the engine's probabilities, bounded as the settings say.

    Args:
        old: `[B, C]`, log-probabilities under the trainer.
        sampled: `[B, C]`, under the engine; NaN where it gave none, which counts as no difference.
        mask: `[B, C]`, 1 on tokens that count.
        args: `GRPOConfig`, for `vllm_importance_sampling_mode` and its bounds.

    Returns:
        `[B, C]` for the modes of tokens, `[B, 1]` for those of sequences.
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
