"""The colour space of a picture file, from an ICC profile or from the codes of PNG, AVIF and camera files.

In: a picture that Pillow has opened, its EXIF data and its file. Out: the ICC profile of its pixels, or None for sRGB.
The picture is not decoded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from jigsaw.tasks.media import colors, png_chunks
from jigsaw.tasks.media.formats import head_of

_PRIMARIES = {9: colors.BT_2020, 12: colors.DISPLAY_P3}
"""Numbers of ITU-T H.273 whose colours differ visibly from sRGB's -> primaries."""
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}
"""Transfers of ITU-T H.273 other than the curve of sRGB, and those close to it -> exponent."""
_HDR = {16: "PQ", 18: "HLG"}
_ORDINARY_GAMMA = 0.05
"""A PNG whose gamma differs from 2.2 by at most this has the curve of sRGB."""

_INTEROP_INDEX = 1
_JP2_HEADER = 4 * 2**20
"""Bytes of a JPEG 2000 file that are searched for its colour profile."""


class HdrError(ValueError):
    """The picture is HDR, so that its white level depends on the screen."""


def profile_of(image: Image.Image, exif: Image.Exif | None, file: Path | bytes) -> bytes | None:
    """The colour profile of a picture; None for sRGB.

    Raises:
        HdrError: the picture is HDR.
    """
    embedded = image.info.get("icc_profile")
    if image.format == "AVIF" and embedded:
        return bytes(embedded)
    try:
        if (points := _coding_points(image, file)) is not None:
            return _coded_space(*points)
        if embedded:
            return bytes(embedded)
        if image.format == "PNG":
            return _png_space(image.info)
        if image.format == "JPEG2000":
            return _jp2_profile(file)
        if image.format in ("JPEG", "MPO") and exif is not None and _is_adobe_rgb(exif):
            return colors.matrix_profile(colors.ADOBE_RGB, colors.ADOBE_GAMMA)
    except HdrError:
        raise
    except (TypeError, ValueError, ArithmeticError, np.linalg.LinAlgError):
        pass  # invalid primaries
    return None


def _coding_points(image: Image.Image, file: Path | bytes) -> tuple[int, int] | None:
    """Primaries and transfer as numbers of ITU-T H.273: a PNG's cICP chunk, an AVIF's nclx box."""
    if image.format == "PNG":
        return png_chunks.coding_points(head_of(file))
    if image.format != "AVIF":
        return None
    _, marker, codes = head_of(file).partition(b"colrnclx")
    return (int.from_bytes(codes[:2], "big"), int.from_bytes(codes[2:4], "big")) if marker else None


def _coded_space(primaries: int, transfer: int) -> bytes | None:
    if transfer in _HDR:
        raise HdrError(f"an HDR picture ({_HDR[transfer]}); convert it to SDR first")
    if primaries not in _PRIMARIES and transfer not in _GAMMAS:
        return None
    return colors.matrix_profile(_PRIMARIES.get(primaries, colors.SRGB), _GAMMAS.get(transfer))


def _png_space(info: dict[Any, Any]) -> bytes | None:
    """The space of a PNG's gAMA and cHRM chunks, which an sRGB chunk overrides."""
    if "srgb" in info or not ("gamma" in info or "chromaticity" in info):
        return None
    gamma = 1 / info["gamma"] if info.get("gamma") else None
    if gamma is not None and abs(gamma - 2.2) <= _ORDINARY_GAMMA:
        gamma = None
    points = tuple(info.get("chromaticity", colors.SRGB))
    if gamma is None and np.allclose(points, colors.SRGB, atol=0.002):
        return None
    return colors.matrix_profile(points, gamma)


def _jp2_profile(file: Path | bytes) -> bytes | None:
    """The ICC profile of a JPEG 2000 file (its `colr` box with method 2 or 3), which Pillow does not read."""
    head = head_of(file, _JP2_HEADER)
    for method in (b"\2", b"\3"):
        at = head.find(b"colr" + method)
        if at >= 4:
            return head[at + 7 : at - 4 + int.from_bytes(head[at - 4 : at], "big")]
    return None


def _is_adobe_rgb(exif: Image.Exif) -> bool:
    """Whether a camera wrote Adobe RGB: it embeds no profile but sets the interoperability index to R03 (DCF 2.0)."""
    return str(exif.get_ifd(ExifTags.IFD.Interop).get(_INTEROP_INDEX, "")).startswith("R03")
