"""Converts pixels of any colour profile to sRGB, which models and screens expect.

In: the pixels of a picture and its ICC profile, or primaries and gamma. Out: 8-bit sRGB. LittleCMS (PIL.ImageCms)
converts with the perceptual intent; matrix profiles, which cameras and editors write, give the same result for all
intents. Pixels of a profile that equals sRGB are not changed. A profile that is damaged, or for another kind of pixels,
is ignored, as in browsers.
"""

from __future__ import annotations

import io
import struct
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

INTENT = ImageCms.Intent.PERCEPTUAL

SAME = 2
"""A profile whose colours differ from sRGB by at most this (of 255) counts as sRGB."""

_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}
"""Colour space of a profile -> mode of its pixels."""

Chromaticities = tuple[float, float, float, float, float, float, float, float]
"""x and y of white, red, green and blue (CIE 1931), in the order of a PNG's cHRM chunk."""

SRGB: Chromaticities = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
ADOBE_RGB: Chromaticities = (0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
DISPLAY_P3: Chromaticities = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
BT_2020: Chromaticities = (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046)
ADOBE_GAMMA = 563 / 256

_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_CURVE_POINTS = 1024


_Conversion = tuple[str, Any]
"""A conversion to sRGB: the mode of its pixels and a transform, which is None if the pixels are sRGB already."""


def to_srgb(pixels: Image.Image, profile: bytes | None) -> Image.Image:
    """8-bit sRGB of pixels in mode L, RGB, CMYK or LAB with an ICC profile, or without one."""
    conversion = _conversion(profile, pixels.mode) if profile else None
    if conversion is None and pixels.mode == "LAB":
        conversion = _lab()
    mode, transform = conversion or (pixels.mode, None)
    if transform is None:
        return pixels if pixels.mode == "RGB" else pixels.convert("RGB")
    converted: Image.Image | None = ImageCms.applyTransform(
        pixels if pixels.mode == mode else pixels.convert(mode), transform
    )
    assert converted is not None  # None is returned only for changes in place
    # A profile with the time of its creation, so that a stored PNG would differ between two builds.
    converted.info.pop("icc_profile", None)
    return converted


def is_wide(profile: bytes | None) -> bool:
    """Whether `to_srgb` changes RGB pixels of a profile."""
    conversion = _conversion(profile, "RGB") if profile else None
    return conversion is not None and conversion[1] is not None


@lru_cache(maxsize=16)
def _conversion(profile: bytes, mode: str) -> _Conversion | None:
    """The conversion of a profile; None if the profile is damaged or for other pixels."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        described = _MODES.get(opened.profile.xcolor_space.strip())
        if described == "RGB" and mode == "L":
            mode = "RGB"  # grey pixels with an RGB profile are common: red, green and blue are equal
        if described != mode:
            return None
        transform = _transform(opened, mode)
        return mode, None if mode == "RGB" and _is_srgb(transform) else transform
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _transform(profile: Any, mode: str) -> Any:
    return ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB", renderingIntent=INTENT)


@lru_cache(maxsize=1)
def _lab() -> _Conversion:
    """The conversion of Lab pixels, which need no profile, because the space is absolute (white is D50)."""
    return "LAB", _transform(ImageCms.createProfile("LAB"), "LAB")


def _is_srgb(transform: Any) -> bool:
    steps = np.linspace(0, 255, 18).round().astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    converted = np.asarray(ImageCms.applyTransform(Image.fromarray(colours), transform))
    return bool(np.abs(converted.astype(int) - colours).max() <= SAME)


@lru_cache(maxsize=16)
def matrix_profile(points: Chromaticities, gamma: float | None) -> bytes:
    """An ICC profile (version 2) of an RGB space.

    Args:
        points: white point and primaries.
        gamma: exponent from stored numbers to light; None: the curve of sRGB.

    Raises:
        ValueError: the primaries are not valid.
    """
    white, *primaries = (
        np.array([x / y, 1.0, (1 - x - y) / y]) for x, y in zip(points[::2], points[1::2], strict=True)
    )
    columns = np.stack(primaries, axis=1)
    columns = columns * np.linalg.solve(columns, white)
    adapted = np.linalg.inv(_BRADFORD) @ np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white)) @ _BRADFORD @ columns
    curve = _curve(gamma)
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 2) + b"-\0" + bytes(78),
        b"cprt": b"text\0\0\0\0-\0",
        b"wtpt": _xyz(_D50),
        **{name: _xyz(adapted[:, at]) for at, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    begin, table, body = 132 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        table += name + struct.pack(">II", begin + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s", begin + len(body), b"lcms", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + b"".join(map(_fixed, _D50))
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def _curve(gamma: float | None) -> bytes:
    if gamma is not None:
        values = [min(65535, round(gamma * 256))]  # one value is an exponent, in 256ths
    else:
        stored = np.linspace(0, 1, _CURVE_POINTS)
        light = np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)
        values = [int(value) for value in np.round(light * 65535)]
    return b"curv\0\0\0\0" + struct.pack(f">I{len(values)}H", len(values), *values)


def _xyz(values: Any) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, values))


def _fixed(value: float) -> bytes:
    number = round(float(value) * 65536)
    if abs(number) >= 2**31:
        raise ValueError("a primary is out of range")
    return struct.pack(">i", number)
