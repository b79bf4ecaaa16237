"""Pictures for HTML pages and requests: mosaics of tiles, thumbnails, strips of frames, data URIs.

In: RGB images. Out: an image, or a data URI that stands for a file in an HTML page or a request.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

QUALITY = 85
STRIP_FRAMES, STRIP_GAP = 3, 3
"""Frames of a clip strip, and white pixels between them."""


@dataclass(frozen=True)
class Thumbnail:
    """A picture as a data URI, with its size in pixels."""

    uri: str
    width: int
    height: int


def mosaic(tiles: Sequence[Image.Image], rows: int, columns: int, *, gap: int = 0) -> Image.Image:
    """A picture of tiles of one size, in raster order.

    Args:
        rows, columns: size of the grid.
        gap: white pixels between the tiles.
    """
    width, height = tiles[0].size
    size = (columns * (width + gap) - gap, rows * (height + gap) - gap)
    joined = Image.new("RGB", size, "white")
    for place, tile in enumerate(tiles):
        joined.paste(tile, (place % columns * (width + gap), place // columns * (height + gap)))
    return joined


def data_uri(image: Image.Image, *, lossless: bool = False) -> str:
    """A picture as a data URI: PNG, or JPEG without chroma subsampling, so that colours of tiles do not mix."""
    stream = io.BytesIO()
    if lossless:
        image.save(stream, "PNG")
    else:
        image.save(stream, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    return bytes_uri(stream.getvalue(), f"image/{'png' if lossless else 'jpeg'}")


def thumbnail(image: Image.Image, side: int) -> Thumbnail:
    """An image with at most `side` pixels on its longer side; it is never enlarged."""
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return Thumbnail(data_uri(small), small.width, small.height)


def clip_strip(frames: Any, side: int) -> Thumbnail:
    """The first, middle and last frame of a clip side by side, with a gap between them.

    Args:
        frames: uint8, `(N, height, width, 3)`.
        side: maximum pixels of the strip's longer side.
    """
    count = len(frames)
    chosen = sorted({round(i * (count - 1) / max(1, STRIP_FRAMES - 1)) for i in range(STRIP_FRAMES)})
    height, width = frames.shape[1:3]
    scale = min(1.0, (side - STRIP_GAP * (len(chosen) - 1)) / (len(chosen) * width), side / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = [Image.fromarray(frames[number]).resize(size, Image.Resampling.LANCZOS) for number in chosen]
    strip = mosaic(small, 1, len(small), gap=STRIP_GAP)
    return Thumbnail(data_uri(strip), *strip.size)


def bytes_uri(data: bytes, kind: str) -> str:
    """The bytes of a file as a data URI, with its media type."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
