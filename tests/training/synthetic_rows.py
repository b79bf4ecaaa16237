"""Synthetic rows with random images and clips, and random completions of different lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from jigsaw.tasks import Clip


def synthetic_clip(seed: int, frames: int = 4, size: tuple[int, int] = (56, 28), fps: float = 2.0) -> Clip:
    """Returns a clip with random frames; `size` is width and height."""
    pixels = np.random.default_rng(seed).integers(0, 256, (frames, size[1], size[0], 3), dtype=np.uint8)
    return Clip(frames=pixels, times=np.arange(frames) / fps, fps=fps)


def synthetic_row(name: str, *media: Any) -> dict[str, Any]:
    """Returns a row with images and clips in the given order."""
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


def synthetic_image(seed: int, size: tuple[int, int] = (56, 28)) -> Image.Image:
    return Image.fromarray(synthetic_clip(seed, frames=1, size=size).frames[0])


ROWS = {
    "image": [
        synthetic_row("i0", synthetic_image(0), synthetic_image(1)),
        synthetic_row("i1", synthetic_image(2, (84, 56)), synthetic_image(3), synthetic_image(4)),
    ],
    "video": [
        synthetic_row("v0", synthetic_clip(5, frames=6, fps=2.7), synthetic_clip(6, frames=6, fps=2.7)),
        synthetic_row(
            "v1",
            synthetic_clip(7, frames=3),
            synthetic_clip(8, size=(28, 56)),
            synthetic_clip(9, frames=20, size=(28, 28)),
        ),
    ],
    "mixed": [
        synthetic_row("m0", synthetic_image(10), synthetic_clip(11), synthetic_image(12)),
        synthetic_row("m1", synthetic_clip(13, fps=5.0)),
        synthetic_row("m2", synthetic_image(14)),
    ],
}
"""Rows with prompts of different lengths: with images, with clips of several lengths and frame rates, and with both."""


LENGTHS = (5, 1, 3, 7, 2, 7)


def completions(rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the ids and the mask of random completions of different lengths, padded on the right."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([LENGTHS[row % len(LENGTHS)] for row in range(rows)])
    ids = torch.randint(0, 200, (rows, int(lengths.max())), generator=generator)
    mask = (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()
    return ids * mask, mask
