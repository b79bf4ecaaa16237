"""Features of the pixels of a piece, such as brightness. None of them depends on the content of the picture.

In: pixels, uint8; a piece has shape `(T, height, width, 3)`, with T = 1 for a photo. Out: one or a few numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def light(piece: Pixels) -> float:
    """Mean brightness."""
    return float(piece.mean())


def blue(piece: Pixels) -> float:
    """Mean of blue minus mean of red."""
    return float(piece[..., 2].mean() - piece[..., 0].mean())


def detail(piece: Pixels) -> float:
    """Mean difference of neighbouring pixels of the first frame."""
    small = piece[0].astype(np.float64).mean(axis=2)
    return float(np.abs(np.diff(small, axis=0)).mean() + np.abs(np.diff(small, axis=1)).mean())


def side_light(piece: Pixels) -> float:
    """Mean brightness of the left half minus that of the right half."""
    half = piece.shape[2] // 2
    return float(piece[:, :, :half].mean() - piece[:, :, -half:].mean())


def top_light(piece: Pixels) -> float:
    """Mean brightness of the upper half minus that of the lower half."""
    half = piece.shape[1] // 2
    return float(piece[:, :half].mean() - piece[:, -half:].mean())


def size(piece: Pixels) -> float:
    """Number of values in the array of the piece."""
    return float(np.prod(piece.shape))


def motion(piece: Pixels) -> float:
    """Mean difference of neighbouring frames."""
    return float(np.abs(np.diff(piece.astype(np.float64), axis=0)).mean()) if len(piece) > 1 else 0.0


def block_phase(piece: Pixels, axis: int) -> int:
    """Offset of the 8-pixel grid of JPEG or a video codec in a piece: 0 to 7, or 8 if no offset is clear.

    Args:
        piece: `(T, height, width, 3)`.
        axis: 0 for rows, 1 for columns.
    """
    grey = piece.mean(axis=(0, 3))
    # Higher differences remove the gradients of the picture and keep the steps at block borders.
    jumps = np.abs(np.diff(grey, n=3, axis=axis)).mean(axis=1 - axis)
    if len(jumps) < 24:
        return 8
    means = np.array([jumps[phase::8].mean() for phase in range(8)])
    best = int(means.argmax())
    return best if means[best] > 1.15 * np.median(means) else 8


def border(pixels: Pixels, side: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The first row or column at the upper, right, lower or left border (side 0 to 3); shape `(16, 3)`."""
    lines = (pixels[0], pixels[:, -1], pixels[-1], pixels[:, 0])
    line = Image.fromarray(np.ascontiguousarray(lines[side])[None]).resize((16, 1), Image.Resampling.BOX)
    values: np.ndarray[Any, np.dtype[np.float64]] = np.asarray(line, dtype=np.float64)[0]
    return values


def ring(picture: Pixels, point: tuple[float, float], radius: int) -> Pixels:
    """The pixels around the disc of a point, which hides the pixels under it; shape `(N, 3)`."""
    down, across = np.ogrid[: picture.shape[0], : picture.shape[1]]
    apart = (down - point[1]) ** 2 + (across - point[0]) ** 2
    around: Pixels = picture[(apart > (radius + 1) ** 2) & (apart < (2 * radius + 2) ** 2)]
    return around if len(around) else picture.reshape(-1, 3)
