"""Depth maps from files, in metres.

In: a path or the bytes of a PNG or TIFF (16-bit, 8-bit or float), npy, npz or PFM; what its numbers mean. Out: float32
metres with NaN where nothing was measured. The format is told by the content, not by the name. Disparity becomes depth
by Z = f * B / (d + offset): f and d in pixels, B in metres (rectified stereo; Hartley and Zisserman, section 11.12).
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from jigsaw.tasks.photos import MAX_PIXELS, PhotoError

DepthArray = np.ndarray[Any, np.dtype[np.float32]]

_NUMPY = b"\x93NUMPY"
_ZIP = b"PK\x03\x04"


class DepthError(ValueError):
    """A depth map cannot be used; the message says why."""


@dataclass(frozen=True, kw_only=True)
class DepthMeaning:
    """What the numbers of a depth file stand for.

    Attributes:
        disparity: whether they are disparities in pixels rather than depths.
        unit: metres per stored unit of depth; None: 0.001 for whole numbers, 1 for fractions.
        focal: focal length in pixels of the disparity map's own size.
        baseline: distance of the two cameras in metres.
        offset: pixels added to every disparity (the distance between the principal points).
        key: array of an npz file; None: its only one.
    """

    disparity: bool = False
    unit: float | None = None
    focal: float | None = None
    baseline: float | None = None
    offset: float = 0.0
    key: str | None = None


def read_depth(file: Path | bytes, meaning: DepthMeaning) -> DepthArray:
    """A depth map in metres, shape `(height, width)`; NaN where the file says 0, less, infinite or NaN.

    Raises:
        DepthError: the file is no depth map, is damaged, or disparity comes without focal length and baseline.
    """
    try:
        stored = _stored(file, meaning.key)
    except DepthError:
        raise
    except Exception as error:
        # Damaged files raise whatever the decoder meets.
        raise DepthError(f"{type(error).__name__}: {error}".splitlines()[0]) from error
    if stored.ndim == 3 and 1 in (stored.shape[0], stored.shape[2]):
        stored = stored.squeeze(0 if stored.shape[0] == 1 else 2)
    if stored.ndim != 2 or stored.dtype.kind not in "uif":
        raise DepthError(f"an array of shape {stored.shape} and type {stored.dtype} is no depth map")
    values = stored.astype(np.float64)
    measured = np.isfinite(values) & (values > 0)
    values[~measured] = np.nan
    if meaning.disparity:
        if meaning.focal is None or meaning.baseline is None:
            raise DepthError("disparity needs focal (pixels) and baseline (metres); set them or add a camera.json")
        metres = meaning.focal * meaning.baseline / (values + meaning.offset)
    else:
        unit = meaning.unit if meaning.unit is not None else (0.001 if stored.dtype.kind in "ui" else 1.0)
        metres = values * unit
    result: DepthArray = metres.astype(np.float32)
    return result


def _stored(file: Path | bytes, key: str | None) -> np.ndarray[Any, Any]:
    """The numbers of a file as they are."""
    with io.BytesIO(file) if isinstance(file, bytes) else file.open("rb") as stream:
        head = stream.read(6)
        stream.seek(0)
        if head == _NUMPY:
            return _numpy_array(stream)
        if head.startswith(_ZIP):
            return _zipped_array(stream, key)
        with Image.open(stream, formats=["PNG", "TIFF", "PPM"]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DepthError(f"{image.width}x{image.height} is too large for a depth map")
            if len(image.getbands()) != 1 or image.mode == "P":
                raise DepthError(f"a {image.mode} picture is no depth map; it needs one channel")
            return np.asarray(image)


def _zipped_array(stream: BinaryIO, key: str | None) -> np.ndarray[Any, Any]:
    with zipfile.ZipFile(stream) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        wanted = f"{key}.npy" if key is not None else names[0] if len(names) == 1 else None
        if wanted not in names:
            known = ", ".join(name.removesuffix(".npy") for name in names)
            raise DepthError(f"choose one of the arrays {known} with npz_key" if names else "no array in the npz file")
        with archive.open(wanted) as member:
            return _numpy_array(io.BytesIO(member.read(8 * MAX_PIXELS)))


def _numpy_array(stream: BinaryIO) -> np.ndarray[Any, Any]:
    """An array whose size was looked at before memory is asked for; pickled objects are never read."""
    npy: Any = np.lib.format
    version = npy.read_magic(stream)
    shape, _, _ = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(stream)
    if np.prod(shape, dtype=np.float64) > MAX_PIXELS:
        raise DepthError(f"an array of shape {shape} is too large for a depth map")
    stream.seek(0)
    array: np.ndarray[Any, Any] = npy.read_array(stream, allow_pickle=False)
    return array


def resample_nearest(depth: DepthArray, size: tuple[int, int]) -> DepthArray:
    """The depth map at another width and height; values are picked, never mixed.

    Raises:
        PhotoError: the shapes differ by more than 2%: the map belongs to another picture.
    """
    (width, height), (rows, columns) = size, depth.shape
    if abs(columns / rows / (width / height) - 1) > 0.02:
        raise PhotoError("size_mismatch", f"depth of {columns}x{rows} does not fit a picture of {width}x{height}")
    row = np.minimum(((np.arange(height) + 0.5) * rows / height).astype(int), rows - 1)
    column = np.minimum(((np.arange(width) + 0.5) * columns / width).astype(int), columns - 1)
    picked: DepthArray = depth[row[:, None], column[None, :]]
    return picked


def local_range(depth: DepthArray, reach: int) -> DepthArray:
    """Largest less smallest depth within `reach` pixels of every pixel, in metres; infinite near a missing value.

    >>> local_range(np.array([[1.0, 1.0, 1.5, np.nan, 2.0, 2.0]], dtype=np.float32), 1).tolist()
    [[0.0, 0.5, inf, inf, inf, 0.0]]
    """
    missing = np.isnan(depth)
    low = _slide(np.where(missing, -np.inf, depth), reach, np.minimum)
    high = _slide(np.where(missing, np.inf, depth), reach, np.maximum)
    spread: DepthArray = (high - low).astype(np.float32)
    return spread


def _slide(values: DepthArray, reach: int, combine: Any) -> DepthArray:
    """Minimum or maximum over a square window, one axis after the other; the border repeats."""
    for axis in (0, 1):
        widths = [(reach, reach) if each == axis else (0, 0) for each in (0, 1)]
        windows = np.lib.stride_tricks.sliding_window_view(
            np.pad(values, widths, mode="edge"), 2 * reach + 1, axis=axis
        )
        values = combine.reduce(windows, axis=-1)
    return values


def false_colors(depth: DepthArray, near: float, far: float) -> Image.Image:
    """A depth map for people: `near` metres red, `far` metres blue, the same steps of hue between; missing black."""
    share = np.clip((np.nan_to_num(depth, nan=far) - near) / max(far - near, 1e-6), 0, 1)
    hue = (share * 170).astype(np.uint8)  # of 255: red to blue
    bright = np.where(np.isfinite(depth), 220, 0).astype(np.uint8)
    planes = np.stack([hue, np.full_like(hue, 200), bright], axis=-1)
    return Image.fromarray(planes, mode="HSV").convert("RGB")
