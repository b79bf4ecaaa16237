"""The loss pass with shared prompts: seconds and memory compared with the estimate, and a step under autocast."""

from __future__ import annotations

from typing import Any

import torch

from gpu_check.check import GB, Check, Verdict
from gpu_check.models import config_of, model_of, prompt_of, shape_for, size_that_fits
from jigsaw.config.stages import GrpoSection
from jigsaw.launch.machines import MACHINES
from jigsaw.launch.memory import activations_of
from jigsaw.launch.workload import Step, Workload
from jigsaw.models.prompt_batch import PromptBatch
from jigsaw.models.shared_prefix import log_probabilities

COMPLETIONS = 8
PROMPTS = {"tiles": (9, (12, 16), 700), "clips": (36, (16, 32), 4_900)}
"""Images, patches of each, and tokens of the prompt: nine tiles, and six clips of twelve frames."""

SMALL_PROMPTS = {"tiles": (2, (4, 4), 40)}
LIMIT, SMALL_LIMIT = 2048, 24
LENGTHS = (40, 90, 140, 200, 270, 360, 500, 800)
"""Tokens of typical completions: 300 on average, most of them shorter."""


def packed(check: Check) -> Verdict:
    """Forward and backward pass of a large model: completions at the limit, and of typical lengths."""
    size, layers = size_that_fits(check, bytes_of=4)
    model = model_of(check, config_of(size, layers=layers), torch.float32 if check.small else torch.bfloat16).train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    shape = shape_for(model.config)
    check.add(model=size, layers=shape.layers, parameters=shape.parameters)
    limit, prompts = (SMALL_LIMIT, SMALL_PROMPTS) if check.small else (LIMIT, PROMPTS)
    typical = [max(1, length * limit // LIMIT) for length in LENGTHS]
    rate, over = 0.0, []
    for name, (images, grid, tokens) in prompts.items():
        prompt = prompt_of(check, model, images, grid, tokens)
        for kind, lengths in (("typical", typical), ("longest", [limit] * COMPLETIONS)):
            computed = 2 * 2 * shape.parameters + _activations(shape, prompt, lengths)
            seconds, peak, finite = _pass(check, model, prompt, lengths)
            if not finite:
                return Verdict("fail", f"{name}, {kind}: the gradients are not finite")
            work = 8 * shape.text * (tokens + sum(lengths)) + 8 * shape.vision * 4 * sum(prompt.lengths)
            rate = max(rate, work / seconds)
            check.add(
                **{
                    f"{name}/{kind}/seconds": seconds,
                    f"{name}/{kind}/tokens_per_second": (tokens + sum(lengths)) / seconds,
                    f"{name}/{kind}/tflops": work / seconds / 1e12,
                    f"{name}/{kind}/peak_gb": peak / GB,
                    f"{name}/{kind}/computed_gb": computed / GB,
                }
            )
            if not check.small and peak > 1.1 * computed:
                over.append(f"{peak / GB:.0f} GB for {name}, {kind}, where {computed / GB:.0f} were computed")
    if check.small:
        return Verdict("pass", "in a small shape")
    if over:
        return Verdict("fail", f"takes more memory than computed: {'; '.join(over)}")
    return _judged(rate)


def _pass(check: Check, model: Any, prompt: PromptBatch, lengths: list[int]) -> tuple[float, float, bool]:
    """Seconds and peak memory of the second pass (the first one compiles), and whether its gradients are finite."""
    ids = torch.randint(100, 10_000, (len(lengths), max(lengths)), device=check.device)
    mask = (
        torch.arange(max(lengths), device=check.device) < torch.tensor(lengths, device=check.device)[:, None]
    ).long()
    for _ in range(2):
        model.zero_grad(set_to_none=True)
        with check.span() as span:
            scores, _ = log_probabilities(model, prompt, [0] * len(lengths), ids, mask)
            (-scores.sum() / mask.sum()).backward()
    norms = torch.stack([one.grad.float().norm() for one in model.parameters() if one.grad is not None])
    return span.seconds, span.peak, bool(norms.isfinite().all() and (norms > 0).any())


def _activations(shape: Any, prompt: PromptBatch, lengths: list[int]) -> float:
    """The estimate of docs/gpu.md for such a micro-batch."""
    tokens, visual = sum(prompt.lengths), sum(int(grid.prod()) for grid in prompt.media["image_grid_thw"]) / 4
    work = Workload(tokens, visual, sum(lengths) / len(lengths), None)
    step = Step(1, len(lengths), tokens + sum(lengths), visual, 1, tokens + sum(lengths), 0)
    return sum(activations_of(GrpoSection(), shape, work, step).values())


def _judged(rate: float) -> Verdict:
    """Compare a rate with the one that estimates assume, for a known GPU."""
    name = torch.cuda.get_device_name(0)
    known = next((one.gpu for one in MACHINES if one.gpu.model in name), None)
    told = f"{rate / 1e12:.0f} TFLOP/s"
    if known is None:
        return Verdict("pass", f"{told}; nothing is computed for {name}")
    if rate < 0.7 * known.compute:
        return Verdict("slow", f"{told}, where {known.compute / 1e12:.0f} were computed with")
    return Verdict("pass", f"{told}; computed with {known.compute / 1e12:.0f}")


def autocast_step(check: Check) -> Verdict:
    """One optimizer step with float32 weights under autocast, as in training with `distributed.zero: 0`."""
    size, layers = size_that_fits(check, bytes_of=18)
    size, layers = ("3b", layers) if size == "7b" else (size, layers)
    model = model_of(check, config_of(size, layers=layers), torch.float32).train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    shape = shape_for(model.config)
    check.add(model=size, layers=shape.layers, parameters=shape.parameters)
    images, grid, tokens = SMALL_PROMPTS["tiles"] if check.small else PROMPTS["tiles"]
    prompt = prompt_of(check, model, images, grid, tokens)
    lengths = [SMALL_LIMIT] * 4 if check.small else [(8_000 - tokens) // COMPLETIONS] * COMPLETIONS
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=not check.small)
    before = {name: one.detach()[..., :8].clone() for name, one in model.named_parameters()}
    ids = torch.randint(100, 10_000, (len(lengths), max(lengths)), device=check.device)
    with check.span() as span:
        with torch.autocast(check.device, torch.bfloat16):
            scores, _ = log_probabilities(model, prompt, [0] * len(lengths), ids, torch.ones_like(ids))
        (-scores.mean()).backward()
        optimizer.step()
    check.add(seconds=span.seconds, peak_gb=span.peak / GB, computed_gb=18 * shape.parameters / GB)
    wrong = [name for name, one in model.named_parameters() if not one.isfinite().all()]
    still = [name for name, one in model.named_parameters() if torch.equal(one.detach()[..., :8], before[name])]
    if wrong or len(still) > len(before) // 20:
        return Verdict(
            "fail", f"{len(wrong)} parameters are not finite and {len(still)} did not move, of {len(before)}"
        )
    return Verdict("pass", f"loss {-float(scores.detach().mean()):.3g}, all parameters finite")
