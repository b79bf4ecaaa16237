"""Pictures for pages: tiles joined into one picture, and pictures as data URIs.

In: RGB images. Out: an image, or the text that an HTML page or a request carries in place of a file.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from PIL import Image

QUALITY = 85


def mosaic(tiles: Sequence[Image.Image], rows: int, columns: int, *, gap: int = 0) -> Image.Image:
    """Tiles of one size in raster order.

    Args:
        rows, columns: of the grid.
        gap: white pixels between the tiles.
    """
    width, height = tiles[0].size
    size = (columns * (width + gap) - gap, rows * (height + gap) - gap)
    joined = Image.new("RGB", size, "white")
    for place, tile in enumerate(tiles):
        joined.paste(tile, (place % columns * (width + gap), place // columns * (height + gap)))
    return joined


def data_uri(image: Image.Image, *, lossless: bool = False) -> str:
    """A picture as a data URI: PNG, or a JPEG in which tiles do not bleed into their neighbours (4:4:4)."""
    stream = io.BytesIO()
    if lossless:
        image.save(stream, "PNG")
    else:
        image.save(stream, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    return bytes_uri(stream.getvalue(), f"image/{'png' if lossless else 'jpeg'}")


def bytes_uri(data: bytes, kind: str) -> str:
    """The bytes of a file of a media type as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
