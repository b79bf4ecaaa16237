"""Attention of Qwen's vision towers, with one call for all windows, or images, of the same length.

transformers (5.17) calls its attention function once per window, except for flash attention: six clips of twelve frames
have 288 windows in each of 28 layers, and the backward pass needs as many calls. Here a layer makes one call per
distinct length, at most four for images of one size. No mask is needed, so fused kernels can be used.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

WINDOWS = "jigsaw_flash_windows"
"""The name in transformers. It contains `flash` because transformers only then passes the boundaries of the windows."""


def window_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Attention within windows.

    Args:
        module: the attention layer; unused.
        query, key, value: `[1, heads, patches, width]`, the windows concatenated.
        attention_mask: unused.
        kwargs: `cu_seq_lens_q`, the boundaries of the W windows, `[W + 1]`; `scaling`; `dropout`.

    Returns:
        `[1, patches, heads, width]`.
    """
    boundaries = tuple(kwargs["cu_seq_lens_q"].tolist())
    options = {"scale": kwargs["scaling"], "dropout_p": kwargs.get("dropout", 0.0)}
    groups, back = _grouped(boundaries, query.device)
    outputs = []
    for length, places in groups:
        windows = [
            (part[0] if places is None else part[0, :, places]).unflatten(1, (-1, length)).transpose(0, 1)
            for part in (query, key, value)
        ]
        outputs.append(scaled_dot_product_attention(*windows, **options).transpose(1, 2).flatten(0, 1))
    output = outputs[0] if back is None else torch.cat(outputs)[back]
    return output[None], None


@lru_cache(maxsize=16)
def _grouped(boundaries: tuple[int, ...], device: Any) -> tuple[list[tuple[int, Tensor | None]], Tensor | None]:
    """For each window length, the patches in such windows; and the inverse order. None means the original order."""
    by_length: dict[int, list[int]] = {}
    for start, end in pairwise(boundaries):
        if end > start:
            by_length.setdefault(end - start, []).extend(range(start, end))
    if len(by_length) == 1:
        return [(length, None) for length in by_length], None
    with torch.inference_mode(mode=False):  # cached tensors are also used in passes with gradients
        places = [torch.tensor(numbers, device=device) for numbers in by_length.values()]
        return list(zip(by_length, places, strict=True)), torch.cat(places).argsort()


AttentionInterface.register(WINDOWS, window_attention)
