"""M-RoPE positions (time, height, width) for Qwen2-VL and Qwen2.5-VL, correct for videos of any frame rate.

In: token kinds, grids, seconds per temporal patch. Out: positions `[3, B, L]`. transformers 5.17 begins the text after
a clip before the clip has ended, and for Qwen2.5-VL it truncates seconds to an integer, so that all patches of a clip
above two frames per second have the same time. Its releases before 5.0, with which the checkpoints were trained, and
vLLM do neither. `rope_index` is the rule of those releases; `jigsaw.compat.use_rope_index` restores it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

IMAGE, VIDEO = 1, 2
"""Kinds of tokens, as processors number them; 0 is text."""


def rope_index(
    backbone: Any,
    input_ids: Tensor,
    mm_token_type_ids: Tensor,
    image_grid_thw: Tensor | None = None,
    video_grid_thw: Tensor | None = None,
    second_per_grid_ts: Any = None,
    attention_mask: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Positions of prompts, with the signature and result of `get_rope_index` of both models.

    Each text token increases all three axes by one. In a medium that begins at position s, the token of temporal patch
    t, row y and column x has the position (s + floor(t * seconds * tokens_per_second), s + y, s + x); `seconds` is
    1 / tokens_per_second for an image and for a video of Qwen2-VL. The next token follows the largest of these
    positions.

    Args:
        backbone: a `Qwen2VLModel` or `Qwen2_5_VLModel`.
        input_ids: `[B, L]`.
        mm_token_type_ids: `[B, L]`, 0 for text, 1 for image tokens, 2 for video tokens.
        image_grid_thw, video_grid_thw: `[media, 3]`, in prompt order.
        second_per_grid_ts: seconds between temporal patches, one per video; None for Qwen2-VL.
        attention_mask: `[B, L]`, 0 on padding.

    Returns:
        Positions `[3, B, L]`, 0 on padding; and for each row its next position minus its number of tokens, `[B, 1]`.
    """
    vision = backbone.config.vision_config
    media: dict[int, Iterator[Tensor]] = {
        IMAGE: _grids(image_grid_thw, vision, None),
        VIDEO: _grids(video_grid_thw, vision, second_per_grid_ts),
    }
    positions = torch.zeros(3, *input_ids.shape, dtype=torch.long)
    deltas = []
    kinds = mm_token_type_ids.cpu()
    tokens = torch.ones_like(kinds, dtype=torch.bool) if attention_mask is None else attention_mask.cpu().bool()
    for row in range(len(kinds)):
        begin, parts = 0, []
        for kind, run in groupby(kinds[row][tokens[row]].tolist()):
            length = len(list(run))
            while length > 0:
                part = next(media[kind]) if kind else torch.arange(length).expand(3, -1)
                parts.append(part + begin)
                begin = int(parts[-1].max()) + 1
                length -= part.shape[1]
        if parts:
            positions[:, row, tokens[row]] = torch.cat(parts, dim=1)
        deltas.append(begin - int(tokens[row].sum()))
    device = input_ids.device
    return positions.to(device), torch.tensor(deltas, device=device)[:, None]


def _grids(grids: Tensor | None, vision: Any, seconds: Any) -> Iterator[Tensor]:
    """The positions of each medium relative to its begin, `[3, tokens]`."""
    merge = vision.spatial_merge_size
    for number, (time, height, width) in enumerate([] if grids is None else grids.tolist()):
        pace = 1.0 if seconds is None else float(seconds[number]) * vision.tokens_per_second
        moments = (torch.arange(time, dtype=torch.float64) * pace).long()
        axes = torch.meshgrid(moments, torch.arange(height // merge), torch.arange(width // merge), indexing="ij")
        yield torch.stack(axes).flatten(1)
