"""Sources: what a folder holds, and opening one of its items.

In: a root folder and the kind of item wanted. Out: relative POSIX paths in a fixed order, one at a time (a folder of
millions is never held in memory), and `tasks.Source` objects. Items that cannot even be named or entered come out as
`Problem`, so that nothing is skipped in silence.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jigsaw.data.identity import fingerprint_of
from jigsaw.errors import JigsawError
from tasks import Source, SourceKind

SUFFIXES: dict[str, tuple[str, ...]] = {
    "image": (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".gif"),
        *(".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".avif"),
    ),
    "video": (
        *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"),
        *(".ts", ".flv", ".wmv", ".3gp", ".ogv"),
    ),
}
"""File names by which the items of a folder are recognised, in lower case."""

_ROLES = {"image": "image", "video": "video"}


@dataclass(frozen=True)
class Problem:
    """Something in the source folder that cannot be used: a reject that has no content.

    Attributes:
        path: relative path, with undecodable bytes written as escapes.
        reason: a key of `REASONS` of `jigsaw.data.build`.
        detail: what the system said.
    """

    path: str
    reason: str
    detail: str


def scan(root: Path, kind: SourceKind) -> Iterator[str | Problem]:
    """Relative paths of the items under a folder, depth first, each folder's names in byte order.

    Hidden files and folders are skipped. Links are followed; a link back to a folder on the way is not.

    Raises:
        JigsawError: the root is no readable folder.
    """
    if not root.is_dir():
        raise JigsawError(f"source {root} is no folder; give the folder that holds the files")
    try:
        next(os.scandir(root), None)
    except OSError as error:
        raise JigsawError(f"source {root} cannot be read: {error.strerror}") from error
    return _walk(root, "", SUFFIXES[kind], ())


def _walk(
    folder: Path, prefix: str, suffixes: tuple[str, ...], above: tuple[tuple[int, int], ...]
) -> Iterator[str | Problem]:
    try:
        about = folder.stat()
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        yield Problem(_printable(prefix), "unreadable", f"folder: {error.strerror}")
        return
    here = (about.st_dev, about.st_ino)
    if here in above:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        path = prefix + entry.name
        if entry.is_dir():
            yield from _walk(folder / entry.name, path + "/", suffixes, (*above, here))
        elif entry.name.lower().endswith(suffixes):
            yield path if _printable(path) == path else Problem(_printable(path), "bad_name", "the name is not UTF-8")


def _printable(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def open_source(root: Path, path: str, kind: SourceKind) -> Source:
    """The item of that relative path, with the fingerprint of its content.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    file = root / path
    if not stat.S_ISREG(file.stat().st_mode):
        raise OSError(f"{path} is no regular file")
    return Source(path=path, fingerprint=fingerprint_of([file]), files={_ROLES[kind]: file})
