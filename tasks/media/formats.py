"""File formats recognised by the first bytes of a file, regardless of its name.

In: the first `HEAD_BYTES` bytes of a file. Out: a `Format`, or None if no signature matches. The signatures are from
the specifications of the formats; a matching file may still be damaged.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, NamedTuple

from jigsaw.tasks.media.video_signatures import video_container

HEAD_BYTES = 4096
"""Bytes of a file that `format_of` needs."""

FormatKind = Literal["image", "video", "depth", "archive", "table", "other"]


class MediaError(ValueError):
    """A file of a source cannot be used; `reason` is a key of the task's `REASONS`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Format(NamedTuple):
    """A file format: its name for messages, and the kind of content."""

    name: str
    kind: FormatKind


_SIGNATURES: tuple[tuple[int, bytes, str, FormatKind], ...] = (
    (0, b"\xff\xd8\xff", "JPEG", "image"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG", "image"),
    (0, b"GIF87a", "GIF", "image"),
    (0, b"GIF89a", "GIF", "image"),
    (8, b"CR\x02\x00", "camera raw (CR2)", "other"),  # a TIFF that begins with a preview
    (0, b"II*\x00", "TIFF", "image"),
    (0, b"MM\x00*", "TIFF", "image"),
    (0, b"II+\x00", "TIFF", "image"),
    (0, b"MM\x00+", "TIFF", "image"),
    (0, b"\xff\x0a", "JPEG XL", "image"),
    (0, b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEG XL", "image"),
    (0, b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG 2000", "image"),
    (0, b"\xff\x4f\xff\x51\x00", "JPEG 2000", "image"),
    (0, b"v/1\x01", "OpenEXR", "depth"),
    (0, b"\x93NUMPY", "npy", "depth"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5", "depth"),
    (0, b"MATLAB 5.0 MAT-file", "MATLAB", "depth"),
    (257, b"ustar", "tar", "archive"),
    (0, b"PK\x03\x04", "zip", "archive"),
    (0, b"PK\x05\x06", "zip", "archive"),
    (0, b"Rar!\x1a\x07", "RAR", "archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z", "archive"),
    (0, b"\x1f\x8b", "gzip", "archive"),
    (0, b"\x28\xb5\x2f\xfd", "Zstandard", "archive"),
    (0, b"\xfd7zXZ\x00", "xz", "archive"),
    (0, b"BZh", "bzip2", "archive"),
    (0, b"PAR1", "Parquet", "table"),
    (0, b"ARROW1\x00\x00", "Arrow", "table"),
    (0, b"8BPS", "Photoshop", "other"),
    (0, b"gimp xcf", "GIMP", "other"),
    (0, b"qoif", "QOI", "other"),
    (0, b"DDS ", "DDS", "other"),
    (0, b"II\xbc", "JPEG XR", "other"),
    (0, b"#?RADIANCE", "Radiance HDR", "other"),
    (0, b"FUJIFILMCCD-RAW", "camera raw (RAF)", "other"),
    (0, b"IIRO", "camera raw (ORF)", "other"),
    (0, b"IIRS", "camera raw (ORF)", "other"),
    (0, b"IIU\x00", "camera raw (RW2)", "other"),
    (0, b"FOVb", "camera raw (X3F)", "other"),
    (0, b"SIMPLE  =", "FITS", "other"),
    (128, b"DICM", "DICOM", "other"),
    (0, b"%PDF", "PDF", "other"),
    (0, b"%!PS", "PostScript", "other"),
    (0, b"version https://git-lfs", "Git LFS pointer (fetch the file itself with `git lfs pull`)", "other"),
)
"""Offset, bytes, name, kind; the first match counts."""

_BRANDS: dict[bytes, Format] = {
    **dict.fromkeys((b"avif", b"avis"), Format("AVIF", "image")),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm"), Format("HEIC", "image")),
    **dict.fromkeys((b"mif1", b"msf1", b"mif2", b"avci"), Format("HEIC", "image")),
    b"crx ": Format("camera raw (CR3)", "other"),
    **dict.fromkeys((b"M4A ", b"M4B ", b"M4P "), Format("MPEG-4 sound", "other")),
}
"""Brands of the ISO base media format that are not videos."""

_GENERIC_BRANDS = (b"mif1", b"msf1", b"mif2")

_TEXTS = {
    b"<!doctype html": "HTML page",
    b"<html": "HTML page",
    b"<svg": "SVG drawing",
    b"<?xml": "XML file",
    b"{": "JSON file",
}


def format_of(head: bytes) -> Format | None:
    """The format of a file that begins with these bytes.

    >>> format_of(b"\\x89PNG\\r\\n\\x1a\\n...").name, format_of(b"\\0\\0\\0\\x18ftypheic\\0\\0\\0\\0mif1heic").name
    ('PNG', 'HEIC')
    >>> format_of(b"some words") is None
    True
    """
    for offset, signature, name, kind in _SIGNATURES:
        if head.startswith(signature, offset):
            return Format(name, kind)
    if head[4:8] == b"ftyp" and (recognised := _by_brand(head)) is not None:
        return recognised
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return Format("WebP", "image")
    if head[:1] == b"P" and head[1:2] in b"1234567Ff" and head[2:3] in (b"\n", b" ", b"\r", b"\t"):
        return Format("PFM", "depth") if head[1:2] in b"Ff" else Format("PPM", "image")
    if head.startswith(b"BM") and head[6:10] == bytes(4) and head[15:18] == bytes(3):
        return Format("BMP", "image")
    if (container := video_container(head)) is not None:
        return Format(f"video ({container})", "video")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:20].lower()
    return next((Format(name, "other") for begin, name in _TEXTS.items() if text.startswith(begin)), None)


def other_content(head: bytes, kind: FormatKind, noun: str) -> str | None:
    """What is wrong with a file that should be of a kind, by its first bytes; None if they are of that kind.

    >>> other_content(b"<!DOCTYPE html><title>404</title>", "image", "picture")
    'not a picture: the content has the format HTML page'
    """
    recognised = format_of(head)
    if not head:
        return "the file is empty"
    if recognised is None:
        return f"the content has no known {noun} format"
    return None if recognised.kind == kind else f"not a {noun}: the content has the format {recognised.name}"


def described(error: Exception) -> str:
    """The first line of a library's error, without addresses and paths, so that it is the same on every machine."""
    if isinstance(error, OSError) or hasattr(error, "strerror"):
        return str(getattr(error, "strerror", None) or error).partition("\n")[0]
    return f"{type(error).__name__}: {re.sub(r' at 0x[0-9a-f]+', '', str(error).partition(chr(10))[0])}"


def _by_brand(head: bytes) -> Format | None:
    """The format of an ISO base media file that is not a video, by its major brand or, if generic, a compatible one."""
    length = min(max(16, int.from_bytes(head[:4], "big")), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, length - 3, 4))]
    if brands[0] in _GENERIC_BRANDS:
        brands = [*brands[1:], brands[0]]
    elif brands[0] not in _BRANDS:
        return None
    return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), None)


def head_of(file: Path | bytes, length: int = HEAD_BYTES) -> bytes:
    """The first bytes of a file, by default for `format_of`. Raises OSError where it cannot be read."""
    if isinstance(file, bytes):
        return file[:length]
    with file.open("rb") as stream:
        return stream.read(length)
