"""Which files of a folder or an archive are sources of a kind: by suffix, or by their first bytes.

In: a name, and on demand the first bytes. Out: whether it is a source, a `Problem`, or neither; what is neither is
counted, so that nothing is passed over in silence. Hidden names and files that commonly lie beside media (texts,
tables, sound) are counted by their names alone.
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
"""File names that count as sources whatever the content is, in lower case: what cannot be read is a reject."""

ARCHIVES = (".zip", ".7z", ".rar")
"""Archives that may hold sources and are not read: rejects, so that nobody misses what is in them."""

_BESIDE = (
    *(".txt", ".json", ".jsonl", ".xml", ".csv", ".tsv", ".md", ".rst", ".html", ".htm", ".yaml", ".yml", ".toml"),
    *(".ini", ".cfg", ".log", ".lst", ".list", ".py", ".ipynb", ".js", ".css", ".sh", ".pdf", ".doc", ".docx"),
    *(".xls", ".xlsx", ".srt", ".vtt", ".ass", ".npy", ".npz", ".pt", ".pth", ".safetensors", ".pkl", ".h5"),
    *(".hdf5", ".mat", ".exr", ".pfm", ".wav", ".mp3", ".flac", ".m4a", ".aac", ".gz", ".xz", ".bz2", ".zst"),
    *(".db", ".sqlite", ".lmdb", ".mdb", ".xmp", ".thm", ".aae", ".svg", ".psd", ".arrow", ".idx", ".index"),
)
_KNOWN = (*_BESIDE, *(suffix for suffixes in SUFFIXES.values() for suffix in suffixes))
_LONGEST_SUFFIX = 9

Skipped = Counter[str]
"""What was passed over: a suffix, `hidden` or a few words -> how often."""


@dataclass(frozen=True)
class Problem:
    """Something among the sources that cannot be used: a reject that has no content.

    Attributes:
        path: relative path, with undecodable bytes written as escapes.
        reason: a key of `jigsaw.data.REASONS` or of the task's reasons.
        detail: what the system said.
    """

    path: str
    reason: str
    detail: str


def recognise(path: str, kind: MediaKind, head: Callable[[], bytes], skipped: Skipped) -> str | Problem | None:
    """The path if it is a source, a problem if it is an archive that is not read, else None, and it is counted.

    Args:
        path: relative POSIX path.
        kind: the sources that are wanted.
        head: reads the first bytes; called only where the name says nothing. May raise OSError.
        skipped: counts what is passed over.
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
            skipped["files that cannot be read"] += 1
            return None
        if found is not None and found.kind == kind:
            return path
        if found is not None and found.name in ("tar", "Parquet"):
            detail = f"a {found.name} file by its content; give it the suffix .{found.name.lower()} to have it read"
            return Problem(path, "unreadable", detail)
    skipped[skip_key(path)] += 1
    return None


def skip_key(path: str) -> str:
    """Under what a file that is passed over is counted: its suffix, if that is one.

    >>> skip_key("a/b.TXT"), skip_key("a/README"), skip_key("rgb/1305031102.1753")
    ('.txt', 'no suffix', 'no suffix')
    """
    suffix = PurePosixPath(path).suffix.lower()
    known = 1 < len(suffix) <= _LONGEST_SUFFIX and suffix[1:].isalnum() and not suffix[1:].isdigit()
    return suffix if known and suffix.isascii() else "no suffix"


def skipped_line(skipped: Skipped | dict[str, int]) -> str:
    """What was passed over in one line, the most frequent first; empty if nothing was.

    >>> skipped_line({".txt": 3, "hidden": 1})
    '4 files were passed over: 3 .txt, 1 hidden'
    """
    if not skipped:
        return ""
    counts = sorted(skipped.items(), key=lambda entry: (-entry[1], entry[0]))
    total = sum(skipped.values())
    listed = ", ".join(f"{count} {key}" for key, count in counts)
    return f"{total} file{'s were' if total > 1 else ' was'} passed over: {listed}"
