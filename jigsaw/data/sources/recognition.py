"""Recognition of sources in a folder or an archive, by suffix or by first bytes.

In: a name, and a function that reads the first bytes. Out: whether the file is a source, a `Problem`, or neither. Files
that are neither are counted, so that nothing is skipped silently. Hidden files and common companions of media (texts,
tables, sound) are recognised by their names and not opened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from jigsaw.tasks.media.formats import format_of
from jigsaw.tasks.media.video_signatures import VIDEO_SUFFIXES

MediaKind = Literal["image", "video"]

SUFFIXES: dict[str, tuple[str, ...]] = {
    "image": (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".gif"),
        *(".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".avif", ".heic", ".heif", ".jxl", ".jp2"),
    ),
    "video": VIDEO_SUFFIXES,
}
"""Suffixes of sources, in lower case. A file with such a suffix that cannot be read is a reject."""

ARCHIVES = (".zip", ".7z", ".rar")
"""Suffixes of archives that are not read. They are rejects, so that the user sees that their content is missing."""

_COMPANIONS = (
    *(".txt", ".json", ".jsonl", ".xml", ".csv", ".tsv", ".md", ".rst", ".html", ".htm", ".yaml", ".yml", ".toml"),
    *(".ini", ".cfg", ".log", ".lst", ".list", ".py", ".ipynb", ".js", ".css", ".sh", ".pdf", ".doc", ".docx"),
    *(".xls", ".xlsx", ".srt", ".vtt", ".ass", ".npy", ".npz", ".pt", ".pth", ".safetensors", ".pkl", ".h5"),
    *(".hdf5", ".mat", ".exr", ".pfm", ".wav", ".mp3", ".flac", ".m4a", ".aac", ".gz", ".xz", ".bz2", ".zst"),
    *(".db", ".sqlite", ".lmdb", ".mdb", ".xmp", ".thm", ".aae", ".svg", ".psd", ".arrow", ".idx", ".index"),
)
_KNOWN = (*_COMPANIONS, *(suffix for suffixes in SUFFIXES.values() for suffix in suffixes))
_LONGEST_SUFFIX = 9

Skipped = Counter[str]
"""Numbers of skipped files by suffix, `hidden` or kind."""


@dataclass(frozen=True)
class Problem:
    """A file or folder among the sources that cannot be used.

    Attributes:
        path: relative path, in which undecodable bytes are escapes.
        reason: a key of `jigsaw.data.REASONS` or of the task's `REASONS`.
        detail: what is wrong.
    """

    path: str
    reason: str
    detail: str


def recognise(path: str, kind: MediaKind, head: Callable[[], bytes], skipped: Skipped) -> str | Problem | None:
    """The path of a source, or the problem of an archive that is not read; else None, and the file is counted.

    Args:
        path: relative POSIX path.
        kind: kind of the sources.
        head: reads the first bytes; called only if the suffix is not known. May raise OSError.
        skipped: counts skipped files.
    """
    name = path.lower()
    if name.endswith(SUFFIXES[kind]):
        return path
    if name.endswith(ARCHIVES):
        return Problem(path, "unreadable", f"{PurePosixPath(name).suffix} archives are not read; unpack it")
    if not name.endswith(_KNOWN):
        try:
            found = format_of(head())
        except OSError:
            skipped["unreadable"] += 1
            return None
        if found is not None and found.kind == kind:
            return path
        if found is not None and found.name in ("tar", "Parquet"):
            detail = f"the content has the format {found.name}; rename the file to *.{found.name.lower()}"
            return Problem(path, "unreadable", detail)
    skipped[skip_key(path)] += 1
    return None


def skip_key(path: str) -> str:
    """The key under which a skipped file is counted: its suffix, if it looks like one.

    >>> skip_key("a/b.TXT"), skip_key("a/README"), skip_key("rgb/1305031102.1753")
    ('.txt', 'no suffix', 'no suffix')
    """
    suffix = PurePosixPath(path).suffix.lower()
    known = 1 < len(suffix) <= _LONGEST_SUFFIX and suffix[1:].isalnum() and not suffix[1:].isdigit()
    return suffix if known and suffix.isascii() else "no suffix"


def skipped_line(skipped: Skipped | dict[str, int]) -> str:
    """The skipped files in one line, the most frequent first; empty if there are none.

    >>> skipped_line({".txt": 3, "hidden": 1})
    '4 other files were skipped: 3 .txt, 1 hidden'
    """
    if not skipped:
        return ""
    counts = sorted(skipped.items(), key=lambda entry: (-entry[1], entry[0]))
    total = sum(skipped.values())
    listed = ", ".join(f"{count} {key}" for key, count in counts)
    return f"{total} other file{'s were' if total > 1 else ' was'} skipped: {listed}"
