"""Listing of sources: the items of one kind in a folder, a list, a tar or a table.

In: the place and the kind of item. Out: relative paths (`jigsaw.data.sources.paths`) in a fixed order, one at a time,
since a listing may have millions. Items with unusable names and folders that cannot be read come out as `Problem`;
other files are counted, so that nothing is skipped silently.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

from jigsaw.data.sources.containers import CONTAINERS, TAR, container_items, is_saved_dataset, problems_inside
from jigsaw.data.sources.depth_pairs import CAMERA, Files, FilesOnDisk, depth_of, is_depth_name
from jigsaw.data.sources.lists import listed
from jigsaw.data.sources.paths import BETWEEN, PAIRS, TOGETHER, bad_name, is_folder, is_hidden, printable, regular
from jigsaw.data.sources.posed_scenes import FOLDERS, OWN, POSES, scenes_in
from jigsaw.data.sources.recognition import Problem, Skipped, recognise, skip_key
from jigsaw.data.sources.tars import FilesInTar, files_in_tar
from jigsaw.errors import JigsawError
from jigsaw.tasks import SourceKind
from jigsaw.tasks.media.formats import head_of

LISTS = (".txt", ".lst", ".list")
Scanned = Literal["image", "video", "rgbd", "posed"]
"""Kinds of items in a listing; pairs of photos and of videos are made from listed items."""

APART = 7
"""Distance in a listing between the two items of a pair: neighbours often show the same scene."""


def source_root(source: Path) -> Path:
    """The folder to which the paths of a source are relative: itself, or the folder of a list, tar or table."""
    return source if is_folder(source) and not is_saved_dataset(source) else source.parent


def scan(
    source: Path, kind: SourceKind, pairs: str = "auto", skipped: Skipped | None = None
) -> Iterator[str | Problem]:
    """Paths of the items of a source, relative to `source_root`.

    A folder is walked depth first, the names of each folder in byte order. Hidden files and folders are skipped. Links
    are followed, except to a parent folder. Tar and Parquet files give their items. Each line of a list is a path, for
    RGB-D two paths with a tab between; empty lines and lines that begin with # are skipped.

    Args:
        pairs: for RGB-D, how depth maps are found (see `jigsaw.data.sources.depth_pairs`).
        skipped: counts the skipped files while the items are taken.

    Raises:
        JigsawError: the source is of no such kind, or cannot be read.
    """
    skipped = Skipped() if skipped is None else skipped
    if kind == "pair" or kind == "video_pair":
        return _two_by_two(scan(source, PAIRS[kind], pairs, skipped))
    try:
        if source.is_dir() and not is_saved_dataset(source):
            next(os.scandir(source), None)
            return _walk(source, kind, pairs, skipped)
        if source.name.lower().endswith(LISTS):
            with source.open("rb"):
                return listed(source, kind)
        if source.is_dir() or (source.is_file() and source.name.lower().endswith(CONTAINERS)):
            return _contained(source.parent, source.name, kind, pairs, skipped)
    except OSError as error:
        raise JigsawError(f"source {source} cannot be read: {error.strerror}") from error
    what = "does not exist" if not source.exists() else "is neither a folder, a list (.txt), a .tar nor a .parquet"
    raise JigsawError(f"source {source} {what}; name the folder of the files")


def _two_by_two(items: Iterator[str | Problem]) -> Iterator[str | Problem]:
    """Each item with the one `APART` places later in the listing; the last ones are paired with the first."""
    first: list[str] = []
    held: deque[str] = deque()
    for item in items:
        if isinstance(item, Problem):
            yield item
            continue
        if len(held) == APART:
            yield f"{held.popleft()}{TOGETHER}{item}"
        held.append(item)
        if len(first) < APART:
            first.append(item)
    others = first if len(held) == APART and held[0] != first[0] else first[1:] + first[:1]
    for item, other in zip(held, others, strict=True):
        if item != other:
            yield f"{item}{TOGETHER}{other}"


def _walk(root: Path, kind: Scanned, pairs: str, skipped: Skipped) -> Iterator[str | Problem]:
    """The items below a folder. Uses a stack, since folders may be nested deeper than Python's recursion limit.

    The stack has the remaining names, as bytes, of each parent folder, and which of its names are folders.
    """
    stack: list[tuple[str, tuple[int, int], Iterator[bytes], set[str]]] = []
    entered = ""
    while True:
        try:
            about = (root / entered).stat()
            here = (about.st_dev, about.st_ino)
            if here not in (above for _, above, _, _ in stack):
                names, folders = _listed(root / entered)
                if kind == "posed" and not folders.isdisjoint(POSES):
                    for found in scenes_in(entered, folders, FilesOnDisk(root), skipped):
                        yield found if isinstance(found, Problem) else bad_name(found) or found
                    names = [name for name in names if os.fsdecode(name) not in OWN]
                stack.append((entered, here, iter(names), folders))
        except OSError as error:
            yield Problem(printable(entered), "unreadable", f"folder: {error.strerror}")
        while stack:
            prefix, _, remaining, folders = stack[-1]
            name = os.fsdecode(next(remaining, b""))
            if not name:
                stack.pop()
            elif name.startswith("."):
                skipped["hidden"] += 1
            elif name in folders and not is_saved_dataset(root / prefix / name):
                entered = f"{prefix}{name}/"
                break
            elif name in folders or name.lower().endswith(CONTAINERS):
                problem = bad_name(prefix + name)
                yield from [problem] if problem else _contained(root, prefix + name, kind, pairs, skipped)
            else:
                yield from _items(root, prefix + name, kind, pairs, skipped)
        else:
            return


def _listed(folder: Path) -> tuple[list[bytes], set[str]]:
    """The names in a folder in byte order, and which of them are folders."""
    names, folders = [], set()
    with os.scandir(folder) as listing:
        for entry in listing:
            names.append(os.fsencode(entry.name))
            if _is_folder(entry):
                folders.add(entry.name)
    names.sort()
    return names, folders


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: reported when it is opened
        return False


def _items(root: Path, path: str, kind: Scanned, pairs: str, skipped: Skipped) -> Iterator[str | Problem]:
    """The items of a file: itself if it is of the kind, or its problem."""
    if kind == "posed":  # its scenes are folders
        skipped[skip_key(path)] += 1
        return
    if kind == "rgbd":
        found = _paired(FilesOnDisk(root), path, pairs, skipped)
    else:
        one = recognise(path, kind, lambda: head_of(regular(root / path)), skipped)
        found = iter(() if one is None else (one,))
    for item in found:
        yield bad_name(path) or item


def _paired(files: Files, color: str, pairs: str, skipped: Skipped) -> Iterator[str | Problem]:
    depth = depth_of(files, color, pairs)
    if depth is None:
        if not is_depth_name(color, pairs) and PurePosixPath(color).name != CAMERA:
            skipped[skip_key(color)] += 1
    elif BETWEEN in color:
        detail = f"{BETWEEN} in a name cannot be distinguished from the separator of the two paths"
        yield Problem(color, "bad_name", detail)
    else:
        yield depth if isinstance(depth, Problem) else f"{color}{BETWEEN}{depth}"


def _contained(root: Path, path: str, kind: Scanned, pairs: str, skipped: Skipped) -> Iterator[str | Problem]:
    """The items of a tar or a table."""
    try:
        if kind != "rgbd" and kind != "posed":
            yield from (problems_inside(path, found) for found in container_items(root / path, kind, skipped))
        elif path.lower().endswith(TAR):
            tar = files_in_tar(root / path)
            yield from _paired_in_tar(tar, path, pairs, skipped) if kind == "rgbd" else _scenes(tar, path, skipped)
        elif next(container_items(root / path, "image", Skipped()), None) is not None:
            yield Problem(path, "unreadable", "RGB-D pairs are read from folders and .tar files, not from tables")
    except OSError as error:
        yield Problem(path, "unreadable", error.strerror or str(error))


def _paired_in_tar(tar: FilesInTar, path: str, pairs: str, skipped: Skipped) -> Iterator[str | Problem]:
    for member in tar.paths():
        if is_hidden(member):
            skipped["hidden"] += 1
        else:
            yield from (problems_inside(path, found) for found in _paired(tar, member, pairs, skipped))
    for member, detail in tar.index().unusable:
        yield Problem(f"{path}::{member}", "unreadable", detail)


def _scenes(tar: FilesInTar, path: str, skipped: Skipped) -> Iterator[str | Problem]:
    """The scenes of posed frames in a tar."""
    members = [PurePosixPath(member) for member in tar.paths()]
    scenes: dict[PurePosixPath, set[str]] = {m.parent.parent: set() for m in members if m.parent.name in POSES}
    for member in members:
        if member.parent.parent in scenes and member.parent.name in FOLDERS:
            scenes[member.parent.parent].add(member.parent.name)
        elif member.parent not in scenes or member.name not in OWN:
            skipped["hidden" if is_hidden(str(member)) else skip_key(member.name)] += 1
    for scene, folders in scenes.items():
        prefix = "" if scene == PurePosixPath() else f"{scene}/"
        yield from (problems_inside(path, found) for found in scenes_in(prefix, folders, tar, skipped))
