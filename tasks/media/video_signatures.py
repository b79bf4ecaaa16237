"""Video containers recognised by the first bytes of a file, for files without a known suffix.

In: the first `HEAD_BYTES` bytes of a file. Out: the container's name, or None. The containers are those that
`jigsaw.tasks.media.videos` opens. Whether the file has a video stream is checked later, when it is opened.
"""

from __future__ import annotations

HEAD_BYTES = 4096
"""Bytes of a file that `video_container` needs; small files may have fewer."""

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".qt", ".f4v", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".divx", ".flv", ".wmv", ".asf"),
    *(".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".vob", ".ts", ".mts", ".m2t", ".m2ts", ".ogv"),
)
"""Suffixes of video files, in lower case. Other files are recognised by their bytes."""

_PREFIXES = {
    b"\x1aE\xdf\xa3": "matroska",
    b"0&\xb2u\x8ef\xcf\x11\xa6\xd9\x00\xaa\x00b\xcel": "asf",
    b"FLV\x01": "flv",
    b"\x00\x00\x01\xba": "mpeg",
    b"\x00\x00\x01\xb3": "mpegvideo",
}
_RIFF_FORMS = {b"AVI ": "avi", b"AVIX": "avi", b"CDXA": "mpeg"}
_QUICKTIME_BOXES = (b"moov", b"mdat", b"wide", b"pnot")
_BRANDS_WITHOUT_VIDEO = (
    *(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"mif2", b"msf1", b"avif", b"avis", b"avci"),
    *(b"jp2 ", b"jpx ", b"jpm ", b"jxl ", b"crx ", b"M4A ", b"M4B ", b"M4P ", b"F4A ", b"F4B ", b"aax "),
)
"""ISO base media brands of pictures and of sound."""
_OGG_VIDEO = (b"\x80theora", b"OVP80", b"BBCD\x00", b"\x01video\x00")
_TS_PACKETS = ((188, 0), (192, 4), (204, 0))
"""Length of a transport stream's packets and position of the sync byte: plain, M2TS, with error correction."""
_TS_SYNC = 0x47
_TS_LEAST = 5


def video_container(head: bytes) -> str | None:
    """The container of a file: `mp4`, `matroska`, `avi`, `mpeg`, `mpegts`, ...; None if it is not recognised.

    >>> video_container(b"\\x00\\x00\\x00\\x18ftypisom")
    'mp4'
    >>> video_container(b"\\x00\\x00\\x00\\x18ftypheic") is None
    True
    """
    for prefix, name in _PREFIXES.items():
        if head.startswith(prefix):
            return name
    if head.startswith(b"RIFF"):
        return _RIFF_FORMS.get(head[8:12])
    if head.startswith(b"OggS"):
        return "ogg" if any(mark in head for mark in _OGG_VIDEO) else None
    if head[4:8] == b"ftyp":
        return None if head[8:12] in _BRANDS_WITHOUT_VIDEO else "mp4"
    if head[4:8] in _QUICKTIME_BOXES or (head[4:8] in (b"free", b"skip") and _next_box(head) in _QUICKTIME_BOXES):
        return "mp4"
    return "mpegts" if _is_transport_stream(head) else None


def _next_box(head: bytes) -> bytes:
    """The type of the second box of an ISO base media file."""
    size = int.from_bytes(head[:4], "big")
    return head[size + 4 : size + 8]


def _is_transport_stream(head: bytes) -> bool:
    """Whether there are sync bytes at the distance of a packet, from any position within the first packet on."""
    for length, sync in _TS_PACKETS:
        if len(head) >= length * _TS_LEAST:
            for start in (sync, *range(length)):
                places = range(start, len(head) - 3, length)
                if len(places) >= _TS_LEAST and all(_is_packet(head, place) for place in places):
                    return True
    return False


def _is_packet(head: bytes, place: int) -> bool:
    """Whether there is a sync byte and a header with a valid adaptation field control."""
    return head[place] == _TS_SYNC and head[place + 3] & 0x30 != 0
