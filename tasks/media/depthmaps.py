"""Reads depth maps from files, in metres or as relative depth, with the orientation of their picture.

In: a path or the bytes of a PNG or TIFF (16-bit, 8-bit or float), npy, npz, PFM or EXR; the meaning of its numbers; the
orientation of the picture. Out: float32 metres with NaN where nothing was measured. The format is recognised by the
content, not by the name. Disparity is converted by Z = f * B / (d + offset), with f and d in pixels and B in metres
(rectified stereo; Hartley and Zisserman, section 11.12). Relative depth, which networks estimate, has no unit and is
scaled from 0 (nearest) to 1.
"""

from __future__ import annotations

import importlib
import io
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from jigsaw.tasks.media.formats import MediaError, format_of, head_of
from jigsaw.tasks.media.photos import MAX_PIXELS, PhotoError, PhotoHeader

DepthArray = np.ndarray[Any, np.dtype[np.float32]]

_NUMPY = b"\x93NUMPY"
_ZIP = b"PK\x03\x04"
_EXR = b"v/1\x01"
_EXR_DEPTH = ("Z", "depth", "Depth", "depth.Z", "Depth.Z", "Y", "V")
"""Names of depth channels in EXR files, the most likely first."""

DepthKind = Literal["depth", "disparity", "relative", "inverse"]
DepthOrientation = Literal["auto", "photo", "upright"]
SAME_SHAPE = 0.02
"""Largest relative difference of two equal aspect ratios."""


class DepthError(MediaError):
    """A depth map cannot be used."""

    def __init__(self, detail: str) -> None:
        super().__init__("bad_depth", detail)


@dataclass(frozen=True, kw_only=True)
class DepthMeaning:
    """The meaning of the numbers in a depth file.

    Attributes:
        kind: `depth`; `disparity` in pixels; `relative`, without a unit, larger is farther; `inverse`, without a unit,
            larger is nearer.
        unit: metres per stored unit of depth; None: 0.001 for whole numbers, 1 for fractions.
        focal: focal length in pixels of the disparity map's own size.
        baseline: distance of the two cameras in metres.
        offset: pixels added to every disparity (the distance between the principal points).
        key: array of an npz file; None: its only one.
    """

    kind: DepthKind = "depth"
    unit: float | None = None
    focal: float | None = None
    baseline: float | None = None
    offset: float = 0.0
    key: str | None = None


def read_depth(
    file: Path | bytes, meaning: DepthMeaning, picture: PhotoHeader | None = None, rule: DepthOrientation = "auto"
) -> DepthArray:
    """An upright depth map in metres, shape `(height, width)`; NaN where the file has 0, less, infinity or NaN.

    Relative depth is scaled from 0 at the nearest value to 1 at the farthest; negative numbers are valid there.

    Args:
        file: path or bytes of the map.
        meaning: the meaning of its numbers.
        picture: header of the map's picture; None if the picture has no EXIF orientation.
        rule: `photo`: the depth map is turned like the picture; `upright`: it is not turned; `auto`: by its own EXIF
            orientation or, if it has none, by its shape.

    Raises:
        DepthError: the file is not a depth map, is damaged, or is a disparity map without focal length and baseline.
        PhotoError: it is unknown whether the map is turned like the picture (`orientation`).
    """
    try:
        stored, has_orientation = _stored(file, meaning.key)
    except DepthError:
        raise
    except Exception as error:
        # Decoders raise many types of errors on damaged files.
        raise DepthError(f"{type(error).__name__}: {error}".splitlines()[0]) from error
    if stored.ndim == 3 and 1 in (stored.shape[0], stored.shape[2]):
        stored = stored.squeeze(0 if stored.shape[0] == 1 else 2)
    if stored.ndim != 2 or stored.dtype.kind not in "uif":
        raise DepthError(f"an array of shape {stored.shape} and type {stored.dtype} is not a depth map")
    if picture is not None and not has_orientation:
        stored = _turned(stored, _turn(stored.shape, picture, rule))
    values = stored.astype(np.float64)
    if meaning.kind in ("relative", "inverse"):
        return _relative(values, meaning.kind)
    measured = np.isfinite(values) & (values > 0)
    values[~measured] = np.nan
    if meaning.kind == "disparity":
        if meaning.focal is None or meaning.baseline is None:
            raise DepthError("disparity needs focal (pixels) and baseline (metres); set them or add a camera.json")
        metres = meaning.focal * meaning.baseline / (values + meaning.offset)
    else:
        unit = meaning.unit if meaning.unit is not None else (0.001 if stored.dtype.kind in "ui" else 1.0)
        metres = values * unit
    return metres.astype(np.float32)


def _relative(values: np.ndarray[Any, Any], kind: str) -> DepthArray:
    """0 at the nearest and 1 at the farthest of the values that are finite and not 0, NaN elsewhere."""
    values[~np.isfinite(values) | (values == 0)] = np.nan
    if np.isnan(values).all():
        return values.astype(np.float32)
    low, high = np.nanmin(values), np.nanmax(values)
    share = (values - low) / max(high - low, np.finfo(np.float64).tiny)
    result: DepthArray = (share if kind == "relative" else 1 - share).astype(np.float32)
    return result


def _turn(shape: tuple[int, ...], picture: PhotoHeader, rule: DepthOrientation) -> int:
    """The EXIF orientation of a depth map with that shape.

    Raises:
        PhotoError: it cannot be determined.
    """
    orientation = picture.orientation
    if orientation == 1 or rule == "upright":
        return 1
    if rule == "photo":
        return orientation
    (rows, columns), (width, height) = shape, picture.size
    upright, lying = same_shape((columns, rows), (width, height)), same_shape((columns, rows), (height, width))
    if orientation >= 5 and upright != lying:
        return 1 if upright else orientation
    if orientation >= 5 and not upright:
        return 1  # another shape, which is reported later
    detail = f"the EXIF orientation {orientation} turns the picture, but the depth map has no orientation"
    remedy = "set depth_orientation=photo to turn the map like the picture, or upright not to turn it"
    raise PhotoError("orientation", f"{detail}; {remedy}")


def _turned(stored: np.ndarray[Any, Any], orientation: int) -> np.ndarray[Any, Any]:
    """An array turned upright from that EXIF orientation."""
    turned = np.rot90(stored, {3: 2, 4: 2, 5: -1, 6: -1, 7: 1, 8: 1}.get(orientation, 0))
    return np.fliplr(turned) if orientation in (2, 4, 5, 7) else turned


def same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes have the same aspect ratio."""
    return abs(one[0] / one[1] / (other[0] / other[1]) - 1) <= SAME_SHAPE


def _stored(file: Path | bytes, key: str | None) -> tuple[np.ndarray[Any, Any], bool]:
    """The numbers of a file, and whether it has an orientation; if so, the numbers are already upright."""
    if head_of(file).startswith(_EXR):
        return _exr_channel(file, key), False
    with io.BytesIO(file) if isinstance(file, bytes) else file.open("rb") as stream:
        head = stream.read(6)
        stream.seek(0)
        if head == _NUMPY:
            return _numpy_array(stream), False
        if head.startswith(_ZIP):
            return _zipped_array(stream, key), False
        try:
            with Image.open(stream, formats=["PNG", "TIFF", "PPM"]) as image:
                return _picture_array(image)
        except UnidentifiedImageError as error:
            raise DepthError(_not_read(file)) from error


def _picture_array(image: Image.Image) -> tuple[np.ndarray[Any, Any], bool]:
    if image.width * image.height > MAX_PIXELS:
        raise DepthError(f"{image.width}x{image.height} is too large for a depth map")
    if len(image.getbands()) != 1 or image.mode == "P":
        raise DepthError(f"a {image.mode} picture is not a depth map, which has one channel")
    orientation = image.getexif().get(ExifTags.Base.Orientation)
    stored = np.asarray(image)
    if orientation is None or image.format == "TIFF":  # Pillow turns a TIFF itself
        return stored, orientation is not None
    return _turned(stored, int(orientation)), True


def _not_read(file: Path | bytes) -> str:
    """The message for a file that is not a depth map."""
    content = format_of(head_of(file))
    if content is None:
        return "the content has no known depth format (png, tiff, npy, npz, pfm, exr)"
    if content.name in ("JPEG", "WebP"):
        return (
            f"{content.name} is not a depth format, since its compression changes the numbers; store PNG, TIFF or npy"
        )
    return f"{content.name} is not a depth format; store png, tiff, npy, npz, pfm or exr"


def _exr_channel(file: Path | bytes, key: str | None) -> np.ndarray[Any, Any]:
    """A channel of an OpenEXR file."""
    try:
        openexr = importlib.import_module("OpenEXR")
    except ImportError as error:
        raise DepthError("OpenEXR files need the package OpenEXR; install it, or store npy") from error
    with tempfile.NamedTemporaryFile(suffix=".exr") as copy:
        if isinstance(file, bytes):
            copy.write(file)
            copy.flush()
        with openexr.File(copy.name if isinstance(file, bytes) else str(file), separate_channels=True) as opened:
            channels = {name: np.array(channel.pixels) for name, channel in opened.channels().items()}
    names = [key] if key is not None else [*channels] if len(channels) == 1 else [*_EXR_DEPTH]
    channel = next((channels[name] for name in names if name in channels), None)
    if channel is None:
        raise DepthError(f"choose one of the channels {', '.join(channels)} with npz_key")
    return channel


def _zipped_array(stream: BinaryIO, key: str | None) -> np.ndarray[Any, Any]:
    with zipfile.ZipFile(stream) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        wanted = f"{key}.npy" if key is not None else names[0] if len(names) == 1 else None
        if wanted not in names:
            listed = ", ".join(name.removesuffix(".npy") for name in names)
            raise DepthError(f"choose one of the arrays {listed} with npz_key" if names else "no array in the npz file")
        with archive.open(wanted) as member:
            return _numpy_array(io.BytesIO(member.read(8 * MAX_PIXELS)))


def _numpy_array(stream: BinaryIO) -> np.ndarray[Any, Any]:
    """An array, whose size is checked before memory is allocated; pickled objects are never read."""
    npy: Any = np.lib.format
    version = npy.read_magic(stream)
    shape, _, _ = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(stream)
    if np.prod(shape, dtype=np.float64) > MAX_PIXELS:
        raise DepthError(f"an array of shape {shape} is too large for a depth map")
    stream.seek(0)
    array: np.ndarray[Any, Any] = npy.read_array(stream, allow_pickle=False)
    return array


def resample_nearest(depth: DepthArray, size: tuple[int, int]) -> DepthArray:
    """The depth map at another width and height, by nearest-neighbour sampling.

    Raises:
        PhotoError: the aspect ratios differ by more than 2%, so that the map belongs to another picture.
    """
    (width, height), (rows, columns) = size, depth.shape
    if not same_shape((columns, rows), (width, height)):
        raise PhotoError("size_mismatch", f"depth of {columns}x{rows} does not fit a picture of {width}x{height}")
    row = np.minimum(((np.arange(height) + 0.5) * rows / height).astype(int), rows - 1)
    column = np.minimum(((np.arange(width) + 0.5) * columns / width).astype(int), columns - 1)
    picked: DepthArray = depth[row[:, None], column[None, :]]
    return picked


def local_range(depth: DepthArray, reach: int) -> DepthArray:
    """Largest minus smallest depth within `reach` pixels of every pixel, in metres; infinite near a missing value.

    >>> local_range(np.array([[1.0, 1.0, 1.5, np.nan, 2.0, 2.0]], dtype=np.float32), 1).tolist()
    [[0.0, 0.5, inf, inf, inf, 0.0]]
    """
    from scipy.ndimage import maximum_filter, minimum_filter

    missing, window = np.isnan(depth), 2 * reach + 1
    low = minimum_filter(np.where(missing, -np.inf, depth), window, mode="nearest")
    high = maximum_filter(np.where(missing, np.inf, depth), window, mode="nearest")
    spread: DepthArray = (high - low).astype(np.float32)
    return spread


def false_colors(depth: DepthArray, near: float, far: float) -> Image.Image:
    """A depth map in false colours, with linear hue from `near` metres (red) to `far` metres (blue); missing: black."""
    share = np.clip((np.nan_to_num(depth, nan=far) - near) / max(far - near, 1e-6), 0, 1)
    hue = (share * 170).astype(np.uint8)  # of 255: red to blue
    bright = np.where(np.isfinite(depth), 220, 0).astype(np.uint8)
    planes = np.stack([hue, np.full_like(hue, 200), bright], axis=-1)
    return Image.fromarray(planes, mode="HSV").convert("RGB")
