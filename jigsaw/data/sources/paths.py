"""Paths of sources: their syntax, names that cannot be stored, and checks of files.

Paths are relative to the folder of the sources, with `/` between their parts::

    photos/a.jpg            a file                      shards/000.tar::7/b.jpg     a member of a tar
    train.parquet::12       a row of a table            color/1.jpg::depth/1.png    a picture and its depth map
    train.parquet::12/0     an item of a list in a row  shards/000.tar::1.color.jpg::1.depth.png    the same in a tar
    a.jpg::and::b.jpg       two photos or videos        scene/pose                  a scene, by its folder of poses
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path, PurePosixPath

from jigsaw.data.sources.recognition import MediaKind, Problem
from jigsaw.tasks import SourceKind

BETWEEN = "::"
"""Separates a container from its member, and a picture from its depth map."""

TOGETHER = "::and::"
"""Separates the two items of a pair."""

PAIRS: dict[SourceKind, MediaKind] = {"pair": "image", "video_pair": "video"}
"""Kinds of source that are two items -> the kind of each."""


def bad_name(path: str) -> Problem | None:
    """The problem of a name that cannot be stored as text that means the same file on every machine; else None."""
    if path.isascii():
        return None
    if sys.getfilesystemencoding().lower() not in ("utf-8", "utf8"):
        detail = f"names are read as {sys.getfilesystemencoding()} here; start Python with PYTHONUTF8=1"
        return Problem(ascii(path)[1:-1], "bad_name", detail)
    return Problem(printable(path), "bad_name", "the name is not UTF-8") if printable(path) != path else None


def is_hidden(path: str) -> bool:
    """Whether a part of a relative path is a hidden name, which begins with a dot.

    >>> is_hidden("a/.git/b.png"), is_hidden("a/b.png")
    (True, False)
    """
    return "." in path and any(part.startswith(".") and part.strip(".") for part in path.split("/"))


def printable(path: str) -> str:
    """A path as text that can be written as UTF-8: undecodable bytes become escapes."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def relative_to(root: Path, path: PurePosixPath) -> PurePosixPath:
    """An absolute path below the root made relative to it; any other path as it is."""
    return path.relative_to(root) if path.is_relative_to(root) else path


def leaves(path: str) -> bool:
    """Whether a path may lead out of the folder that it is relative to. Links in the folder are trusted."""
    return PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts


def is_file(path: Path) -> bool:
    """Whether there is a file; False, where `Path.is_file` raises, in a folder that may not be entered."""
    return os.path.isfile(path)  # noqa: PTH113


def regular(file: Path) -> Path:
    """The file itself. Raises OSError for a pipe or a device, which could block its reader for ever."""
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        if file.is_symlink():
            raise OSError(f"a link to {file.readlink()}, which does not exist") from None
        raise
    if not stat.S_ISREG(mode):
        raise OSError(f"{file.name} is not a regular file")
    return file


def is_folder(path: Path) -> bool:
    """Whether there is a folder; False, where `Path.is_dir` raises, in a folder that may not be entered."""
    return os.path.isdir(path)  # noqa: PTH112


def exists(file: Path) -> bool:
    """Whether there is a file or folder; False for a path that cannot be one."""
    try:
        return file.exists()
    except (OSError, ValueError):  # a name that is too long, or has a zero byte
        return False
