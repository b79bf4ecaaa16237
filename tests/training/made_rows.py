"""Rows of every kind of medium, and completions of unequal lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from jigsaw.tasks import Clip


def made_clip(seed: int, frames: int = 4, size: tuple[int, int] = (56, 28), fps: float = 2.0) -> Clip:
    """Random frames, `size` being width and height."""
    pixels = np.random.default_rng(seed).integers(0, 256, (frames, size[1], size[0], 3), dtype=np.uint8)
    return Clip(frames=pixels, times=np.arange(frames) / fps, fps=fps)


def made_row(name: str, *media: Any) -> dict[str, Any]:
    """A row with images and clips in the given order."""
    content: list[dict[str, str]] = []
    for number, medium in enumerate(media):
        content.append({"type": "text", "text": f"Piece {number + 1}:"})
        content.append({"type": "video" if isinstance(medium, Clip) else "image"})
    content.append({"type": "text", "text": "List the pieces."})
    return {
        "id": name,
        "task": "made",
        "num_pieces": max(len(media), 2),
        "prompt": [{"role": "user", "content": content}],
        "images": [medium for medium in media if not isinstance(medium, Clip)],
        "videos": [medium for medium in media if isinstance(medium, Clip)],
        "answer": [1, 2],
        "answer_style": "direct",
        "classes": None,
    }


def made_image(seed: int, size: tuple[int, int] = (56, 28)) -> Image.Image:
    return Image.fromarray(made_clip(seed, frames=1, size=size).frames[0])


ROWS = {
    "image": [
        made_row("i0", made_image(0), made_image(1)),
        made_row("i1", made_image(2, (84, 56)), made_image(3), made_image(4)),
    ],
    "video": [
        made_row("v0", made_clip(5, frames=6, fps=2.7), made_clip(6, frames=6, fps=2.7)),
        made_row("v1", made_clip(7, frames=3), made_clip(8, size=(28, 56)), made_clip(9, frames=20, size=(28, 28))),
    ],
    "mixed": [
        made_row("m0", made_image(10), made_clip(11), made_image(12)),
        made_row("m1", made_clip(13, fps=5.0)),
        made_row("m2", made_image(14)),
    ],
}
"""Prompts of unequal length, with images, with clips of several lengths and rates, and with both."""


LENGTHS = (5, 1, 3, 7, 2, 7)


def completions(rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random completion tokens of unequal lengths, padded on the right."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([LENGTHS[row % len(LENGTHS)] for row in range(rows)])
    ids = torch.randint(0, 200, (rows, int(lengths.max())), generator=generator)
    mask = (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()
    return ids * mask, mask
