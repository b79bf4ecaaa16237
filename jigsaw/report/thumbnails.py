"""Small pictures that a page carries inside itself: mosaics of tiles, single images, frames of a clip.

In: RGB images, or a `tasks.Clip`. Out: a `Thumbnail`, a JPEG as a data URI. Pictures are shrunk to what is asked for
and never enlarged: the page shows the pixels that the model saw, or fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from jigsaw.pictures import data_uri
from jigsaw.pictures import mosaic as joined

CLIP_FRAMES = 3
FRAME_GAP = 3
"""Pixels between the frames of a clip, so that nobody takes three frames for one wide picture."""


@dataclass(frozen=True)
class Thumbnail:
    """A picture as a data URI, with its size in pixels."""

    uri: str
    width: int
    height: int


def mosaic(tiles: Sequence[Image.Image], order: Sequence[int], grid: tuple[int, int], side: int) -> Thumbnail:
    """Tiles laid out in raster order.

    Args:
        tiles: images, one per shown index.
        order: for each place the 0-based position in `tiles` of what goes there.
        grid: rows and columns.
        side: most pixels of the longer side.
    """
    rows, columns = grid
    width, height = tiles[0].size
    scale = min(1.0, side / max(columns * width, rows * height))
    cell = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = [tiles[piece].convert("RGB").resize(cell, Image.Resampling.LANCZOS) for piece in order]
    return _encode(joined(small, rows, columns))


def single(image: Image.Image, side: int) -> Thumbnail:
    """One image, its longer side at most `side` pixels."""
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return _encode(small)


def clip_strip(clip: Any, side: int) -> Thumbnail:
    """First, middle and last frame of a `tasks.Clip` side by side.

    Args:
        clip: with `frames`, uint8 RGB of shape `(T, height, width, 3)`.
        side: most pixels of the longer side of the whole.
    """
    count = len(clip.frames)
    chosen = sorted({round(i * (count - 1) / max(1, CLIP_FRAMES - 1)) for i in range(CLIP_FRAMES)})
    height, width = clip.frames.shape[1:3]
    scale = min(1.0, (side - FRAME_GAP * (len(chosen) - 1)) / (len(chosen) * width), side / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    frames = [Image.fromarray(clip.frames[number]).resize(size, Image.Resampling.LANCZOS) for number in chosen]
    return _encode(joined(frames, 1, len(frames), gap=FRAME_GAP))


def _encode(image: Image.Image) -> Thumbnail:
    return Thumbnail(data_uri(image), image.width, image.height)
