"""Photos from files: the header, and upright RGB pixels. The one place where a picture file is opened.

In: a path or the bytes of a picture, in any mode and orientation. Out: its size, or an 8-bit RGB image as a person
would see it: EXIF orientation applied, transparency over white, the first frame of an animation, 16-bit grey scaled
to 8. Whatever a damaged file makes the decoder raise comes out as `PhotoError`.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")
"""What is opened; a JPEG of several pictures (MPO) is a JPEG. Formats that start other programs (EPS) are left out."""

SCALES = (1, 2, 4, 8)
"""By how much the sides can be divided: a JPEG's while decoding, which is fast, those of others after it."""

MAX_PIXELS = 120_000_000
"""Larger pictures are refused: decoded, one such takes 360 MB."""

REASONS = {
    "unreadable": "the file is missing, damaged, empty or no picture",
    "too_large": f"more than {MAX_PIXELS // 1_000_000} megapixels",
}

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what makes the picture upright."""

_SWAPS_SIDES = (5, 6, 7, 8)


class PhotoError(ValueError):
    """A picture cannot be used; `reason` is a key of `REASONS`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class PhotoHeader:
    """What the head of a picture file says.

    Attributes:
        size: width and height in pixels, upright.
        quick_to_scale: whether decoding at a fraction of the size takes a fraction of the time (JPEG).
    """

    size: tuple[int, int]
    quick_to_scale: bool

    def scaled_size(self, scale: int) -> tuple[int, int]:
        """Width and height in pixels when decoded at `1/scale`, rounded up."""
        return -(-self.size[0] // scale), -(-self.size[1] // scale)


@contextmanager
def _opened(file: Path | bytes) -> Iterator[Image.Image]:
    """An open picture of acceptable size; any failure inside the block becomes a `PhotoError`."""
    try:
        with warnings.catch_warnings():
            # Sizes are judged below; a warning for each odd file of a large folder tells nobody anything.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise PhotoError("too_large", f"{image.width}x{image.height} pixels")
                yield image
    except PhotoError:
        raise
    except Image.DecompressionBombError as error:
        raise PhotoError("too_large", str(error)) from error
    except Exception as error:
        # Decoders raise nearly every type on damaged bytes (SyntaxError, struct.error, IndexError ...).
        raise PhotoError("unreadable", f"{type(error).__name__}: {error}") from error


def _orientation(image: Image.Image) -> int:
    """EXIF orientation out of the header. `Image.getexif` would decode a whole PNG in search of a later chunk."""
    data = image.info.get("exif")
    if not data or image.format == "TIFF":
        return 1  # Pillow turns a TIFF itself
    try:
        exif = Image.Exif()
        exif.load(data)
        return int(exif.get(ExifTags.Base.Orientation, 1))
    except Exception:
        return 1  # damaged EXIF data beside sound pixels: shown as stored


def read_header(file: Path | bytes) -> PhotoHeader:
    """Size and kind of a picture without decoding it.

    Raises:
        PhotoError: the file is no picture, or too large.
    """
    with _opened(file) as image:
        size = image.size[::-1] if _orientation(image) in _SWAPS_SIDES else image.size
        return PhotoHeader(size=size, quick_to_scale=image.format in ("JPEG", "MPO"))


def read_photo(file: Path | bytes, scale: int = 1) -> Image.Image:
    """Upright RGB pixels, the sides divided by `scale` (1, 2, 4 or 8) and rounded up. Deterministic.

    Raises:
        PhotoError: the file is no picture, damaged or too large.
    """
    with _opened(file) as image:
        whole = image.size
        if scale > 1 and min(whole) >= scale:
            image.draft(None, (image.width // scale, image.height // scale))
        turn = _TURNS.get(_orientation(image))
        image.load()
        pixels = _rgb(image)
        if scale > 1 and image.size == whole:
            pixels = pixels.reduce(scale)
        return pixels if turn is None else pixels.transpose(turn)


def _rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of a picture that is loaded, and so no longer needs its file."""
    if image.mode.startswith("I"):
        # Pillow clips 16-bit grey at 255 when it converts; a photo so stored would come out white.
        grey = np.clip(np.asarray(image, dtype=np.int64), 0, 65535) // 257
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        if layer.getchannel("A").getextrema() == (255, 255):
            return layer.convert("RGB")  # nothing shows through: no need to mix
        ground = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
