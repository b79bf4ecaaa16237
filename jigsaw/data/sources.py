"""Sources: what a folder, a list, a tar or a table holds, and opening one of its items.

In: where the sources are and the kind of item wanted. Out: relative POSIX paths in a fixed order, one at a time (a
listing of millions is never held in memory), and `tasks.Source` objects. Items that cannot even be named or entered
come out as `Problem`, so that nothing is skipped in silence. Paths::

    photos/a.jpg            a file                      shards/000.tar::7/b.jpg     a member of a tar
    train.parquet::12       a row of a table            color/1.jpg::depth/1.png    a picture and its depth map
    shards/000.tar::1.color.jpg::1.depth.png            both out of a tar
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from jigsaw.data.containers import (
    COMPRESSED_TAR,
    PARQUET,
    TAR,
    FilesInTar,
    files_in_tar,
    is_folder,
    is_saved_dataset,
    item_names,
    read_item,
)
from jigsaw.data.identity import fingerprint_of
from jigsaw.data.pairs import Files, FilesOnDisk, depth_of
from jigsaw.errors import JigsawError
from jigsaw.tasks import Source, SourceKind
from jigsaw.tasks.video_signatures import VIDEO_SUFFIXES

SUFFIXES: dict[str, tuple[str, ...]] = {
    "image": (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".gif"),
        *(".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".avif"),
        *(".heic", ".heif", ".jxl", ".jp2"),  # not decoded: rejects with a name, rather than passed over
    ),
    "video": VIDEO_SUFFIXES,
    "rgbd": (),
}
"""File names by which the items of a folder are recognised, in lower case."""

LISTS = (".txt", ".lst", ".list")
_CONTAINERS: tuple[str, ...] = (*TAR, *COMPRESSED_TAR, *PARQUET)
_BETWEEN = "::"
"""Between a container and its item, and between a picture and its depth map."""
_ROLES = {"image": "image", "video": "video"}
CAMERA = "camera.json"
"""A file beside a depth map, or one folder above, that says what its numbers mean."""


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


def source_root(source: Path) -> Path:
    """The folder to which the paths of a source are relative: itself, or the folder of a list, tar or table."""
    return source if is_folder(source) and not is_saved_dataset(source) else source.parent


def scan(source: Path, kind: SourceKind, pairs: str = "auto") -> Iterator[str | Problem]:
    """Paths of the items of a source, relative to `source_root`.

    A folder is walked depth first, each folder's names in byte order; hidden files and folders are skipped; links are
    followed, but not back to a folder on the way; tar and Parquet files in it give their items. A list gives its lines:
    a path each, for RGB-D two with a tab between; empty lines and those that begin with # are skipped.

    Args:
        pairs: for RGB-D, how depth maps are found (see `jigsaw.data.pairs`).

    Raises:
        JigsawError: the source is none of this, or cannot be read.
    """
    try:
        if source.is_dir() and not is_saved_dataset(source):
            next(os.scandir(source), None)
            return _walk(source, kind, pairs)
        if source.name.lower().endswith(LISTS):
            with source.open("rb"):
                return _listed(source)
        if source.is_dir() or (source.is_file() and source.name.lower().endswith(_CONTAINERS)):
            return _contained(source.parent, source.name, kind, pairs)
    except OSError as error:
        raise JigsawError(f"source {source} cannot be read: {error.strerror}") from error
    what = "does not exist" if not source.exists() else "is neither a folder, a list (.txt), a .tar nor a .parquet"
    raise JigsawError(f"source {source} {what}; give the folder that holds the files")


def _walk(root: Path, kind: SourceKind, pairs: str) -> Iterator[str | Problem]:
    """The items below a folder. A stack instead of recursion: folders may be nested deeper than calls can be."""
    stack: list[tuple[str, tuple[int, int], Iterator[os.DirEntry[str]]]] = []
    entered = ""
    while True:
        try:
            about = (root / entered).stat()
            here = (about.st_dev, about.st_ino)
            if here not in (above for _, above, _ in stack):
                with os.scandir(root / entered) as listing:
                    entries = sorted(listing, key=lambda entry: os.fsencode(entry.name))
                stack.append((entered, here, iter(entries)))
        except OSError as error:
            yield Problem(_printable(entered), "unreadable", f"folder: {error.strerror}")
        while stack:
            prefix, _, remaining = stack[-1]
            entry = next((entry for entry in remaining if not entry.name.startswith(".")), None)
            if entry is None:
                stack.pop()
            elif _is_folder(entry) and not is_saved_dataset(Path(entry.path)):
                entered = f"{prefix}{entry.name}/"
                break
            else:
                yield from _items(root, prefix + entry.name, kind, pairs)
        else:
            return


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: told when it is opened
        return False


def _items(root: Path, path: str, kind: SourceKind, pairs: str) -> Iterator[str | Problem]:
    """What a file, or a saved data set, holds of the kind."""
    name = path.lower()
    if _printable(path) != path:
        if name.endswith((*SUFFIXES[kind], *_CONTAINERS)):
            yield Problem(_printable(path), "bad_name", "the name is not UTF-8")
    elif name.endswith(SUFFIXES[kind]):
        yield path
    elif name.endswith(_CONTAINERS) or is_folder(root / path):
        yield from _contained(root, path, kind, pairs)
    elif kind == "rgbd":
        yield from _paired(FilesOnDisk(root), path, pairs)


def _paired(files: Files, color: str, pairs: str) -> Iterator[str | Problem]:
    depth = depth_of(files, color, pairs)
    if depth is not None and _BETWEEN in color:
        yield Problem(color, "bad_name", f"{_BETWEEN} in a name cannot be told from what stands between the two paths")
    elif depth:
        yield f"{color}::{depth}"
    elif depth is not None:
        yield Problem(color, "no_depth", "no depth map was found for the picture")


def _contained(root: Path, path: str, kind: SourceKind, pairs: str) -> Iterator[str | Problem]:
    """The items of a tar or a table."""
    try:
        if kind == "rgbd" and path.lower().endswith(TAR):
            yield from _paired_in_tar(files_in_tar(root / path), path, pairs)
        elif kind == "rgbd":
            if next(item_names(root / path, SUFFIXES["image"]), None) is not None:
                yield Problem(path, "unreadable", "pairs of picture and depth map are read from files and .tar alone")
        else:
            yield from (f"{path}::{name}" for name in item_names(root / path, SUFFIXES[kind]))
    except OSError as error:
        yield Problem(path, "unreadable", error.strerror or str(error))


def _paired_in_tar(tar: FilesInTar, path: str, pairs: str) -> Iterator[str | Problem]:
    for member in tar.paths():
        for found in _paired(tar, member, pairs):
            if isinstance(found, str):
                yield f"{path}::{found}"
            else:
                yield Problem(f"{path}::{found.path}", found.reason, found.detail)


def _listed(file: Path) -> Iterator[str | Problem]:
    root = file.resolve().parent
    with file.open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
        for line in lines:
            text = line.rstrip("\r\n")
            if not text.strip() or text.startswith("#"):
                continue
            path = _BETWEEN.join(str(relative_to(root, PurePosixPath(piece))) for piece in text.split("\t"))
            if _printable(path) != path:
                yield Problem(_printable(path), "bad_name", "the name is not UTF-8")
            elif any(_leaves(piece) for piece in path.split(_BETWEEN)):
                remedy = "move the list to a folder above the files, or put a link to them beside it"
                yield Problem(path, "bad_name", f"the path leads out of the folder of the list: {remedy}")
            else:
                yield path


def relative_to(root: Path, path: PurePosixPath) -> PurePosixPath:
    """An absolute path below the root as one that holds wherever the root is."""
    return path.relative_to(root) if path.is_relative_to(root) else path


def _leaves(path: str) -> bool:
    """Whether a path may lead out of the folder that it is relative to. Links in the folder are its owner's doing."""
    return PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts


def below(root: Path, path: str) -> Path:
    """The file of a path relative to a folder, which comes from rows that others may have written.

    Raises:
        OSError: it would lie elsewhere.
    """
    if _leaves(path):
        raise OSError("the path leads out of the folder of the sources")
    return root / path


def _printable(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def open_source(root: Path, path: str, kind: SourceKind) -> Source:
    """The item of that relative path, with the fingerprint of its content.

    Raises:
        OSError: it cannot be read, is no regular file, or lies outside of the root.
    """
    files: dict[str, Path | bytes]
    if kind == "rgbd":
        first, _, rest = path.partition(_BETWEEN)
        in_tar = first.lower().endswith(TAR)
        files = (
            _pair_in_tar(below(root, first), *rest.partition(_BETWEEN)[::2])
            if in_tar
            else _pair_files(root, first, rest)
        )
    else:
        container, inside, name = path.rpartition(_BETWEEN)
        in_container = inside and not (root / path).exists()
        item = read_item(below(root, container), name) if in_container else _regular(below(root, path))
        files = {_ROLES[kind]: item}
    return Source(path=path, fingerprint=fingerprint_of(files.values()), files=files)


def _pair_files(root: Path, color: str, depth: str) -> dict[str, Path | bytes]:
    """The files of an RGB-D pair with their camera, or of a picture alone (imported puzzles have no depth map)."""
    files: dict[str, Path | bytes] = {"color": _regular(below(root, color))}
    if depth:
        files["depth"] = _regular(below(root, depth))
        beside = (root / folder / CAMERA for folder in PurePosixPath(depth).parents[:2])
        camera = next((file for file in beside if file.is_file()), None)
        files |= {} if camera is None else {"camera": camera}
    return files


def _pair_in_tar(tar: Path, color: str, depth: str) -> dict[str, Path | bytes]:
    """The same out of a tar."""
    files: dict[str, Path | bytes] = {"color": read_item(tar, color), "depth": read_item(tar, depth)}
    members = files_in_tar(tar)
    beside = (str(folder / CAMERA) for folder in PurePosixPath(depth).parents[:2])
    camera = next((path for path in beside if members.has(path)), None)
    return files | ({} if camera is None else {"camera": read_item(tar, camera)})


def _regular(file: Path) -> Path:
    """The file itself; a pipe or device of that name would hang whoever reads it."""
    if not stat.S_ISREG(file.stat().st_mode):
        raise OSError(f"{file.name} is no regular file")
    return file
