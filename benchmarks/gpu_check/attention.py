"""Compares flex attention with the masks of packed sequences and dense attention: values, gradients, time, graphs."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch._dynamo.utils import counters
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from gpu_check.check import Check, Verdict
from jigsaw.models.packed_attention import BY_MASK, Packing, block_mask, dense_mask

HEADS = {"qwen-7b": (28, 4, 128, 128), "qwen-3b": (16, 2, 128, 128), "neo": (16, 8, 256, 128)}
"""Query heads, key-value heads, widths of keys and of values."""

SMALL_HEADS = {"qwen": (6, 2, 16, 16), "neo": (4, 2, 32, 16)}
LENGTHS, SMALL_LENGTHS = (3_000, 17_000, 21_000, 3_000), (150, 260, 150)
MOST_DIFFERENCE = 0.02
"""Norm of the difference divided by the norm, in bfloat16."""


def packing(length: int, device: str) -> Packing:
    """A prompt of a quarter of the tokens, and eight completions of unequal length after it."""
    prompt, share = length // 4, (length - length // 4) // 36
    ends = [prompt + share * number * (number + 1) // 2 for number in range(1, 8)]
    part = torch.zeros(1, length, dtype=torch.long, device=device)
    for number, (start, end) in enumerate(pairwise([prompt, *ends, length])):
        part[0, start:end] = number + 1
    return Packing(part)


def run(check: Check) -> Verdict:
    """Compare both for every kind of heads and every length; the last length is a repetition."""
    heads, lengths = (SMALL_HEADS, SMALL_LENGTHS) if check.small else (HEADS, LENGTHS)
    worst, slower, again = 0.0, [], []
    for name, kind in heads.items():
        found = [_compare(check, length, *kind) for length in lengths]
        for length, one in zip(lengths[:-1], found, strict=False):
            check.add(**{f"{name}/{length}/{key}": value for key, value in one.items()})
        worst = max(worst, *(one["difference"] for one in found))
        longest = found[lengths.index(max(lengths))]
        if not check.small and longest["flex_ms"] > longest["dense_ms"]:
            slower.append(name)
        if found[-1]["graphs"] > found[-2]["graphs"] or found[-1]["graphs"] - found[0]["graphs"] > 2:
            again.append(name)
    check.add(worst_difference=worst)
    if worst > MOST_DIFFERENCE:
        return Verdict("fail", f"flex and dense attention differ by {worst:.2g} of their norm")
    if again:
        return Verdict("slow", f"compiled anew for a length that was seen, or for every length: {', '.join(again)}")
    if slower:
        return Verdict("slow", f"slower than dense attention on {max(lengths):,} tokens: {', '.join(slower)}")
    return Verdict("pass", f"differ by at most {worst:.1g} of their norm")


def _compare(check: Check, length: int, heads: int, pairs: int, width: int, value_width: int) -> dict[str, Any]:
    """Largest relative difference of output and gradients, milliseconds of both, and graphs compiled so far."""
    dtype = torch.float32 if check.small else torch.bfloat16
    shapes = [(heads, width), (pairs, width), (pairs, value_width)]
    inputs = [torch.randn(1, many, length, wide, device=check.device, dtype=dtype) for many, wide in shapes]
    cotangent = torch.randn(1, length, heads, value_width, device=check.device, dtype=dtype)
    packed = packing(length, check.device)
    blocks, dense, scale = block_mask(packed), dense_mask(packed), width**-0.5
    module = torch.nn.Module().train()
    module.num_key_value_groups = heads // pairs

    def flex(query: Any, key: Any, value: Any) -> Any:
        return ALL_ATTENTION_FUNCTIONS[BY_MASK](module, query, key, value, blocks, scaling=scale)[0]

    def plain(query: Any, key: Any, value: Any) -> Any:
        key, value = (part.repeat_interleave(heads // pairs, dim=1) for part in (key, value))
        return scaled_dot_product_attention(query, key, value, attn_mask=dense, scale=scale).transpose(1, 2)

    differences, times = [], {}
    results = {}
    for name, way in (("flex", flex), ("dense", plain)):
        for _ in range(1 if check.small else 3):  # the first compiles
            leaves = [part.clone().requires_grad_(not check.small) for part in inputs]
            with check.span() as span:
                output = way(*leaves)
                if not check.small:  # flex attention has no backward on a CPU
                    output.backward(cotangent)
            times[name] = 1000 * span.seconds
        results[name] = [output.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]
    for one, other in zip(results["flex"], results["dense"], strict=True):
        differences.append(float((one.float() - other.float()).norm() / other.float().norm()))
    return {
        "difference": max(differences),
        "flex_ms": times["flex"],
        "dense_ms": times["dense"],
        "graphs": int(counters["stats"]["unique_graphs"]),
    }
