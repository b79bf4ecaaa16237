"""Chunks of PNG files that Pillow refuses or ignores.

In: the bytes of a PNG, or its first bytes. Out: the same picture without its texts, and the colour profile separately;
the colour space of a cICP chunk.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_PROFILE = 16 * 2**20
"""A colour profile with more bytes when unpacked is dropped, because it may be a decompression bomb."""

_TEXTS = (b"tEXt", b"zTXt", b"iTXt")


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of every chunk; the content is `data[start + 8 : end - 4]`."""
    at = len(SIGNATURE)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, at, at + 12 + length
        at += 12 + length


def without_texts(data: bytes) -> tuple[bytes, bytes | None]:
    """The picture without text chunks and colour profile, and the profile.

    Pillow unpacks at most a megabyte of either and otherwise refuses the picture (PngImagePlugin.MAX_TEXT_CHUNK). That
    limit protects the process and is not changed; texts are not needed, and `MAX_PROFILE` limits profiles.
    """
    kept = [SIGNATURE]
    profile = None
    for kind, start, end in chunks(data):
        if kind == b"iCCP":
            profile = _unpacked(data[start + 8 : end - 4])
        elif kind not in _TEXTS:
            kept.append(data[start:end])
    return b"".join(kept), profile


def _unpacked(content: bytes) -> bytes | None:
    _, _, packed = content.partition(b"\0")
    try:
        unpacker = zlib.decompressobj()
        profile = unpacker.decompress(packed[1:], MAX_PROFILE)
    except zlib.error:
        return None
    return profile if unpacker.eof else None


def coding_points(head: bytes) -> tuple[int, int] | None:
    """Colour primaries and transfer of a cICP chunk (numbers of ITU-T H.273), or None if there is none."""
    for kind, start, end in chunks(head):
        if kind == b"cICP" and end <= len(head):
            return head[start + 8], head[start + 9]
        if kind == b"IDAT":
            break
    return None
