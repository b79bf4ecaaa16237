"""Reads photos from files: the header, and upright sRGB pixels. All picture files are opened here.

In: a path or the bytes of a picture, in any mode and orientation. Out: its size, or an 8-bit sRGB image: EXIF
orientation applied, colour profiles converted, transparency over white, the first frame of an animation, 16-bit numbers
scaled to 8. A `PhotoError` names the cause if a picture cannot be shown as intended or its file is damaged.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any, TypeVar

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from jigsaw.tasks.media import colors, png_chunks
from jigsaw.tasks.media.formats import MediaError, described, format_of, head_of, other_content
from jigsaw.tasks.media.profiles import HdrError, profile_of

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000")
"""Pillow's formats that are opened; MPO is a JPEG. Formats that start other programs (EPS) are left out."""

PLUGINS = {"HEIC": ("pillow_heif", "HEIF", "pillow-heif"), "JPEG XL": ("pillow_jxl", "JXL", "pillow-jxl-plugin")}
"""Formats that need another package: name -> its module, Pillow's name of the format, package to install."""

SCALES = (1, 2, 4, 8)
"""Divisors of the sides: for a JPEG during decoding, which is fast, for other formats after it."""

MAX_PIXELS = 120_000_000
"""Larger pictures are refused; one of this size takes 360 MB decoded."""

DARK = 64
"""16-bit pictures whose brightest value is below this (of 256) are refused: they may have 10, 12 or 14 bits."""

PHOTO_REASONS = {
    "unreadable": "the file cannot be read as a picture: it is missing, damaged, empty or of another format",
    "too_large": f"the picture has more than {MAX_PIXELS // 1_000_000} megapixels",
    "unknown_range": "black and white are unknown: the values are HDR, or do not use the range of their type",
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
"""EXIF orientation -> transpose that makes the picture upright. `ImageOps.exif_transpose` needs the decoded picture,
but the size is needed before decoding."""

_SWAPS_SIDES = (5, 6, 7, 8)
_REDUCIBLE = ("RGB", "RGBA")
"""8-bit modes in which averages of numbers are colours."""
_SUBFILE_TYPE, _DNG_VERSION = 254, 50706
_REDUCED = 1
"""Bit of a TIFF's NewSubfileType for a preview of another picture in the file."""

_Result = TypeVar("_Result")


class PhotoError(MediaError):
    """A picture cannot be used; `reason` is a key of `PHOTO_REASONS`."""


class _LongTexts(Exception):
    """Pillow refuses a PNG because its texts or its colour profile are too large."""


@dataclass(frozen=True)
class PhotoHeader:
    """The header of a picture file.

    Attributes:
        size: width and height in pixels, upright.
        quick_to_scale: whether decoding at a reduced size takes less time (JPEG).
        orientation: EXIF orientation of the stored pixels, 1 to 8.
        converted: whether colours are converted to sRGB, which takes a third of the decoding time; always False if
            `quick_to_scale`.
    """

    size: tuple[int, int]
    quick_to_scale: bool
    orientation: int = 1
    converted: bool = False

    def scaled_size(self, scale: int) -> tuple[int, int]:
        """Width and height in pixels when decoded at `1/scale`, rounded up."""
        return -(-self.size[0] // scale), -(-self.size[1] // scale)


def shrunk(size: tuple[int, int], longest: int) -> tuple[tuple[int, int], int]:
    """Size of a picture whose longest side is reduced to `longest`, and the scale at which it is decoded."""
    shrink = min(1.0, longest / max(size))
    shown = (max(1, round(size[0] * shrink)), max(1, round(size[1] * shrink)))
    return shown, max(s for s in SCALES if s == 1 or (size[0] // s >= shown[0] and size[1] // s >= shown[1]))


def read_header(file: Path | bytes) -> PhotoHeader:
    """The header of a picture, without decoding it.

    Raises:
        PhotoError: the file is not a picture, or too large.
    """

    def header(image: Image.Image) -> PhotoHeader:
        exif = _exif(image)
        orientation = _orientation(image, exif)
        size = image.size[::-1] if orientation in _SWAPS_SIDES and image.format != "TIFF" else image.size
        quick = image.format in ("JPEG", "MPO")
        converted = not quick and image.mode in _REDUCIBLE and colors.is_wide(profile_of(image, exif, file))
        return PhotoHeader(size, quick, orientation, converted)

    return _using(file, header)


def read_photo(file: Path | bytes, scale: int = 1, *, glance: bool = False) -> Image.Image:
    """Upright sRGB pixels, the sides divided by `scale` (1, 2, 4 or 8) and rounded up. Deterministic.

    Args:
        file: path or bytes of the picture.
        scale: divisor of the sides.
        glance: convert colours after the reduction instead of before it, as always for a JPEG. It is faster, for pixels
            that are only compared.

    Raises:
        PhotoError: the file is not a picture, damaged or too large, or the range of its numbers is unknown.
    """

    def pixels(image: Image.Image) -> Image.Image:
        stored_size, exif = image.size, _exif(image)
        if scale > 1 and min(stored_size) >= scale:
            image.draft(None, (image.width // scale, image.height // scale))
        turn = None if image.format == "TIFF" else _TURNS.get(_orientation(image, exif))  # Pillow turns a TIFF itself
        profile = profile_of(image, exif, file)
        bits = _stored_bits(image)
        image.load()
        early = glance and scale > 1 and bits == 8 and image.mode in _REDUCIBLE and image.size == stored_size
        shown = _srgb(image.reduce(scale) if early else image, profile, bits)
        if scale > 1 and not early and image.size == stored_size:
            shown = shown.reduce(scale)
        return shown if turn is None else shown.transpose(turn)

    return _using(file, pixels)


def _using(file: Path | bytes, use: Callable[[Image.Image], _Result]) -> _Result:
    """The result of `use` on the open picture."""
    try:
        with _opened(file) as image:
            return use(image)
    except _LongTexts:
        data, profile = png_chunks.without_texts(file if isinstance(file, bytes) else file.read_bytes())
    with _opened(data) as image:
        if profile is not None:
            image.info["icc_profile"] = profile
        return use(image)


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Ignore warnings in the main thread: a warning for each unusual file of a large folder is of no use.

    Warning filters belong to the process, and concurrent changes by threads would persist, so other threads skip this.
    """
    if current_thread() is not main_thread():
        yield
        return
    with warnings.catch_warnings(action="ignore"):
        yield


@contextmanager
def _opened(file: Path | bytes) -> Iterator[Image.Image]:
    """An open picture of acceptable size; any failure inside the block becomes a `PhotoError`."""
    try:
        with _no_warnings(), _open(file) as image:
            if image.width * image.height > MAX_PIXELS:
                raise PhotoError(
                    "too_large", f"the picture is {image.width}x{image.height} pixels; at most {MAX_PIXELS:,} are read"
                )
            _refuse_preview(image)
            yield image
    except (PhotoError, _LongTexts):
        raise
    except HdrError as error:
        raise PhotoError("unknown_range", str(error)) from error
    except Image.DecompressionBombError as error:
        raise PhotoError("too_large", str(error)) from error
    except Exception as error:
        if "MAX_TEXT" in str(error):
            raise _LongTexts from error
        # Decoders raise nearly every type on damaged bytes (SyntaxError, struct.error, IndexError ...).
        raise PhotoError("unreadable", described(error)) from error


def _open(file: Path | bytes) -> Image.Image:
    stream = io.BytesIO(file) if isinstance(file, bytes) else file
    try:
        return Image.open(stream, formats=FORMATS)
    except UnidentifiedImageError as error:
        name, detail = _unidentified(file)
        if name in PLUGINS and importlib.util.find_spec(PLUGINS[name][0]) is not None:
            return _with_plugin(file, name)
        raise PhotoError("unreadable", detail) from error


def _unidentified(file: Path | bytes) -> tuple[str, str]:
    """The name of the format of a file that Pillow does not open, and a message."""
    head = head_of(file)
    recognised = format_of(head)
    name = "" if recognised is None else recognised.name
    if name in PLUGINS:
        return name, f"{name} is not read by this Pillow; convert it or install {PLUGINS[name][2]}"
    damaged = f"the {name} file is damaged, or of a variant that this Pillow does not read"
    return name, other_content(head, "image", "picture") or damaged


def _with_plugin(file: Path | bytes, name: str) -> Image.Image:
    module, format_name, _ = PLUGINS[name]
    plugin = importlib.import_module(module)
    if name == "HEIC":
        plugin.register_heif_opener(thumbnails=False)
    try:
        return Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=[format_name])
    except UnidentifiedImageError as error:
        detail = f"the {name} file is damaged, or of a variant that {module} does not read"
        raise PhotoError("unreadable", detail) from error


def _refuse_preview(image: Image.Image) -> None:
    """Refuse camera raw files: TIFF files whose first picture is a thumbnail that could be mistaken for the photo."""
    if image.format == "TIFF" and (_tag(image, _DNG_VERSION) or (_tag(image, _SUBFILE_TYPE) or 0) & _REDUCED):
        raise PhotoError(
            "unreadable", "a camera raw file, a TIFF that begins with a preview; develop it to JPEG or TIFF"
        )


def _exif(image: Image.Image) -> Image.Exif | None:
    """EXIF data from the header. `Image.getexif` would decode the whole PNG to find a later chunk."""
    data = image.info.get("exif")
    try:
        if image.format == "TIFF":
            return image.getexif()
        if not data:
            return None
        exif = Image.Exif()
        exif.load(data)
        return exif
    except Exception:
        return None  # damaged EXIF data with valid pixels: the picture is not turned


def _orientation(image: Image.Image, exif: Image.Exif | None) -> int:
    if exif is None or image.format == "HEIF":
        return 1  # libheif turns a picture itself
    try:
        orientation = int(exif.get(ExifTags.Base.Orientation, 1))
    except Exception:
        return 1
    return orientation if orientation in _TURNS else 1


def _stored_bits(image: Image.Image) -> int:
    """Bits per number in the file: 16 if Pillow has reduced 16-bit colours to 8 bits, else 8."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0].args if tiles else ""
    return 16 if ";16" in str(arguments) else 8


def _srgb(image: Image.Image, profile: bytes | None, bits: int) -> Image.Image:
    """8-bit sRGB of a loaded picture."""
    if image.mode.startswith("I") or image.mode == "F":
        image = _grey(image)
    elif bits == 16 and image.mode in ("RGB", "RGBA", "RGBX", "LA"):
        _require_range(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        if layer.getchannel("A").getextrema() != (255, 255):
            opaque = image.convert("L") if image.mode == "LA" else layer.convert("RGB")
            mixed = colors.to_srgb(opaque, profile).convert("RGBA")
            mixed.putalpha(layer.getchannel("A"))
            return Image.alpha_composite(Image.new("RGBA", mixed.size, "white"), mixed).convert("RGB")
        image = layer if image.mode == "P" else image  # fully opaque
    if image.mode in ("1", "LA"):
        image = image.convert("L")
    return colors.to_srgb(image if image.mode in ("L", "RGB", "CMYK", "LAB") else image.convert("RGB"), profile)


def _require_range(image: Image.Image) -> None:
    """Refuse 16-bit colours, of which Pillow has kept the upper 8 bits, if all are in the darkest quarter."""
    extrema: Any = image.getextrema()
    brightest = max(high for _, high in (extrema[:1] if image.mode == "LA" else extrema[:3]))
    if brightest < DARK:
        _refuse_range(f"the 16-bit numbers stay below {256 * (brightest + 1)}")


def _grey(image: Image.Image) -> Image.Image:
    """8-bit grey of one channel of 16-bit numbers up to 65535, or fractions from 0 to 1."""
    values = np.asarray(image, dtype=np.float64 if image.mode == "F" else np.int64)
    low, high = values.min(), values.max()
    if image.mode == "F":
        if not (low >= 0 and high <= 1):  # also where one of them is NaN
            _refuse_range(f"fractions from {low:g} to {high:g}, not from 0 to 1")
        grey = np.round(values * 255)
    else:
        # Pillow has already scaled a PGM by the maximum in its header.
        if low < 0 or high > 65535:
            _refuse_range(f"whole numbers from {low} to {high}, not from 0 to 65535")
        white = 4095 if _tag(image, ExifTags.Base.BitsPerSample) == (12,) else 65535
        if 0 < high < 256 * DARK and image.format != "PPM" and white == 65535:
            _refuse_range(f"the {'16' if image.mode.startswith('I;16') else '32'}-bit numbers stay below {high + 1}")
        grey = values * 255 // white
    if image.format == "TIFF" and _tag(image, ExifTags.Base.PhotometricInterpretation) == 0:
        grey = 255 - grey  # white is zero; Pillow inverts only 8-bit numbers
    return Image.fromarray(grey.astype(np.uint8))


def _refuse_range(what: str) -> None:
    remedy = "black and white are unknown: scale them to the full range of 8 or 16 bits"
    raise PhotoError("unknown_range", f"{what}, so that {remedy}")


def _tag(image: Image.Image, number: int) -> Any:
    return getattr(image, "tag_v2", {}).get(number)
