"""The vision tower of Qwen2.5-VL on six clips of twelve frames: forward and backward pass, and its time."""

from __future__ import annotations

from typing import Any

import torch

from gpu_check.check import GB, Check, Verdict
from gpu_check.models import config_of, model_of

FRAMES, GRID = 36, (16, 32)
"""Pairs of frames, and patches of each."""


def tower(check: Check) -> Verdict:
    """Compare transformers' loop over windows with the attention that training uses."""
    size, dtype = ("tiny", torch.float32) if check.small else ("3b", torch.bfloat16)
    model = model_of(check, config_of(size, layers=None if check.small else 1), dtype).train()
    ours, found, outputs = model.model.visual.config._attn_implementation, {}, {}
    frames, (rows, columns) = (2, (4, 8)) if check.small else (FRAMES, GRID)
    pixels = torch.randn(frames * rows * columns, 1176, device=check.device, dtype=dtype)
    grid = torch.tensor([[1, rows, columns]] * frames, device=check.device)
    for kind in dict.fromkeys(("sdpa", ours)):
        model.model.visual.config._attn_implementation = kind
        for _ in range(2):  # the first one warms up
            model.zero_grad(set_to_none=True)
            with check.span() as span:
                output = _features(model.model.visual(pixels, grid_thw=grid))
                output.float().square().mean().backward()
        found[kind], outputs[kind] = span.seconds, output.detach().float()
        check.add(**{f"{kind}/seconds": span.seconds, f"{kind}/peak_gb": span.peak / GB})
    if ours == "sdpa":
        return Verdict("pass", f"{found['sdpa']:.2g} s; training uses transformers' loop over windows")
    apart = float((outputs[ours] - outputs["sdpa"]).norm() / outputs["sdpa"].norm())
    check.add(difference=apart)
    if apart > 0.02:
        return Verdict("fail", f"the features differ by {apart:.2g} of their norm")
    if not check.small and found[ours] > found["sdpa"]:
        return Verdict("slow", f"{found[ours]:.2g} s, and {found['sdpa']:.2g} s with transformers' loop")
    return Verdict("pass", f"{found[ours]:.2g} s, and {found['sdpa']:.2g} s with transformers' loop")


def _features(output: Any) -> Any:
    """The features in the tower's output."""
    return getattr(output, "pooler_output", None) if hasattr(output, "pooler_output") else output
