"""Sources: what a folder, a list, a tar or a table holds, and opening one of its items.

In: where the sources are and the kind of item wanted. Out: relative POSIX paths in a fixed order, one at a time (a
listing of millions is never held in memory), and `tasks.Source` objects. Items that cannot even be named or entered
come out as `Problem`, and what is no item is counted, so that nothing is skipped in silence. Paths::

    photos/a.jpg            a file                      shards/000.tar::7/b.jpg     a member of a tar
    train.parquet::12       a row of a table            color/1.jpg::depth/1.png    a picture and its depth map
    train.parquet::12/0     of a list in a row          shards/000.tar::1.color.jpg::1.depth.png    both out of a tar
    a.jpg::and::b.jpg       two photos or videos        scene/pose              the frames of a scene, by its poses
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

from jigsaw.data.sources.containers import (
    COMPRESSED_TAR,
    PARQUET,
    TAR,
    container_items,
    is_folder,
    is_saved_dataset,
    problems_inside,
    read_item,
    regular,
)
from jigsaw.data.sources.depth_pairs import Files, FilesOnDisk, depth_of, is_depth_name
from jigsaw.data.sources.lists import BETWEEN, leaves, listed
from jigsaw.data.sources.posed_scenes import FOLDERS, OWN, POSES, scene_of, scenes_in
from jigsaw.data.sources.recognition import MediaKind, Problem, Skipped, is_hidden, printable, recognise, skip_key
from jigsaw.data.sources.tars import FilesInTar, files_in_tar
from jigsaw.data.storage.identity import fingerprint_of
from jigsaw.errors import JigsawError
from jigsaw.tasks import Source, SourceKind
from jigsaw.tasks.media.formats import head_of

LISTS = (".txt", ".lst", ".list")
_CONTAINERS: tuple[str, ...] = (*TAR, *COMPRESSED_TAR, *PARQUET)
Scanned = Literal["image", "video", "rgbd", "posed"]
"""Kinds of items that a listing has; pairs of photos and of videos are made out of it."""

PAIRS: dict[SourceKind, MediaKind] = {"pair": "image", "video_pair": "video"}
"""Kinds of two items at a time -> the kind of each."""

TOGETHER = "::and::"
"""Stands between the paths of the two items of a pair."""

APART = 7
"""How far apart in a listing the two of a pair are: neighbours often show the same."""

CAMERA = "camera.json"
"""A file beside a depth map, or one folder above, that says what its numbers mean."""


def source_root(source: Path) -> Path:
    """The folder to which the paths of a source are relative: itself, or the folder of a list, tar or table."""
    return source if is_folder(source) and not is_saved_dataset(source) else source.parent


def scan(
    source: Path, kind: SourceKind, pairs: str = "auto", skipped: Skipped | None = None
) -> Iterator[str | Problem]:
    """Paths of the items of a source, relative to `source_root`.

    A folder is walked depth first, each folder's names in byte order; hidden files and folders are skipped; links are
    followed, but not back to a folder on the way; tar and Parquet files in it give their items. A list gives its lines:
    a path each, for RGB-D two with a tab between; empty lines and those that begin with # are skipped.

    Args:
        pairs: for RGB-D, how depth maps are found (see `jigsaw.data.sources.depth_pairs`).
        skipped: counts what is passed over while the items are taken.

    Raises:
        JigsawError: the source is none of this, or cannot be read.
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
        if source.is_dir() or (source.is_file() and source.name.lower().endswith(_CONTAINERS)):
            return _contained(source.parent, source.name, kind, pairs, skipped)
    except OSError as error:
        raise JigsawError(f"source {source} cannot be read: {error.strerror}") from error
    what = "does not exist" if not source.exists() else "is neither a folder, a list (.txt), a .tar nor a .parquet"
    raise JigsawError(f"source {source} {what}; give the folder that holds the files")


def _two_by_two(items: Iterator[str | Problem]) -> Iterator[str | Problem]:
    """Every item with the one `APART` places further on in the listing, the last ones with the first."""
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
    """The items below a folder. A stack instead of recursion: folders may be nested deeper than calls can be.

    Of the folders on the way the names are held, as bytes, and which of them are folders.
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
                        yield found if isinstance(found, Problem) else _named(found) or found
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
            elif name in folders or name.lower().endswith(_CONTAINERS):
                problem = _named(prefix + name)
                yield from [problem] if problem else _contained(root, prefix + name, kind, pairs, skipped)
            else:
                yield from _items(root, prefix + name, kind, pairs, skipped)
        else:
            return


def _listed(folder: Path) -> tuple[list[bytes], set[str]]:
    """The names in a folder in byte order, and those of folders among them."""
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
    """A file if it is of the kind, or its problem."""
    if kind == "posed":  # its scenes are folders
        skipped[skip_key(path)] += 1
        return
    if kind == "rgbd":
        found = _paired(FilesOnDisk(root), path, pairs, skipped)
    else:
        one = recognise(path, kind, partial(_head, root / path), skipped)
        found = iter(() if one is None else (one,))
    for item in found:
        yield _named(path) or item


def _named(path: str) -> Problem | None:
    """A problem where a name cannot be stored as text that means the same file on every machine."""
    if path.isascii():
        return None
    if sys.getfilesystemencoding().lower() not in ("utf-8", "utf8"):
        detail = f"names are read as {sys.getfilesystemencoding()} here; start Python with PYTHONUTF8=1"
        return Problem(ascii(path)[1:-1], "bad_name", detail)
    return Problem(printable(path), "bad_name", "the name is not UTF-8") if printable(path) != path else None


def _head(file: Path) -> bytes:
    return head_of(regular(file))


def _paired(files: Files, color: str, pairs: str, skipped: Skipped) -> Iterator[str | Problem]:
    depth = depth_of(files, color, pairs)
    if depth is not None and BETWEEN in color:
        yield Problem(
            color, "bad_name", f"{BETWEEN} in a name cannot be distinguished from the separator of the two paths"
        )
    elif depth is None:
        if not is_depth_name(color, pairs) and PurePosixPath(color).name != CAMERA:
            skipped[skip_key(color)] += 1
    elif depth.path:
        yield f"{color}::{depth.path}"
    else:
        yield Problem(color, "no_depth", depth.why)


def _contained(root: Path, path: str, kind: Scanned, pairs: str, skipped: Skipped) -> Iterator[str | Problem]:
    """The items of a tar or a table."""
    try:
        if kind != "rgbd" and kind != "posed":
            yield from (problems_inside(path, found) for found in container_items(root / path, kind, skipped))
        elif path.lower().endswith(TAR):
            tar = files_in_tar(root / path)
            yield from _paired_in_tar(tar, path, pairs, skipped) if kind == "rgbd" else _scenes(tar, path, skipped)
        elif next(container_items(root / path, "image", Skipped()), None) is not None:
            yield Problem(path, "unreadable", "pictures with depth maps are read from files and .tar alone")
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


def below(root: Path, path: str) -> Path:
    """The file of a path relative to a folder, which comes from rows that others may have written.

    Raises:
        OSError: it would lie elsewhere, or the path is none.
    """
    if leaves(path):
        raise OSError("the path leads out of the folder of the sources")
    if "\0" in path:
        raise OSError("the path holds a zero byte")
    if (problem := _named(path)) is not None:
        raise OSError(problem.detail)
    return root / path


def missing_file(root: Path, path: str) -> str | None:
    """The first file of a source that is not below the root, or None; members of containers are not looked for.

    Args:
        path: of the source, as `scan` names it.
    """
    for item in path.split(TOGETHER):
        pieces = [item] if _exists(root / item) else item.split(BETWEEN)
        files = pieces[:1] if pieces[0].lower().endswith(_CONTAINERS) or is_folder(root / pieces[0]) else pieces
        gone = next((file for file in files if not _exists(root / file)), None)
        if gone is not None:
            return gone
    return None


def open_source(root: Path, path: str, kind: SourceKind) -> Source:
    """The item of that relative path, with the fingerprint of its content.

    Raises:
        OSError: it cannot be read, is no regular file, or lies outside of the root.
    """
    files: dict[str, Path | bytes]
    if kind == "pair" or kind == "video_pair":
        own, pieces = PAIRS[kind], path.split(TOGETHER)
        if len(pieces) != 2:
            raise OSError(f"a pair is two paths with {TOGETHER} between")
        one, other = (open_source(root, piece, own) for piece in pieces)
        files = {own: one.files[own], "other": other.files[own]}
        contents = (one.fingerprint, other.fingerprint)
        return Source(path=path, fingerprint=fingerprint_of(files.values()), files=files, contents=contents)
    if kind == "posed":
        container, inside, folder = path.rpartition(BETWEEN)
        below(root, container or folder)
        found = files_in_tar(root / container) if inside else FilesOnDisk(root)
        scene = scene_of(found, folder)
        if not scene.files:
            raise OSError(f"no scene of posed frames: {scene.problems[-1].detail}")
        files = {role: found.read(file) for role, file in scene.files.items()}
        return Source(path=path, fingerprint=fingerprint_of(files.values()), files=files)
    if kind == "rgbd":
        first, _, rest = path.partition(BETWEEN)
        in_tar = first.lower().endswith(TAR)
        files = (
            _pair_in_tar(below(root, first), *rest.partition(BETWEEN)[::2])
            if in_tar
            else _pair_files(root, first, rest)
        )
    else:
        container, inside, name = path.rpartition(BETWEEN)
        in_container = inside and not _exists(root / path)
        item = read_item(below(root, container), name, kind) if in_container else regular(below(root, path))
        files = {kind: item}
    return Source(path=path, fingerprint=fingerprint_of(files.values()), files=files)


def _exists(file: Path) -> bool:
    try:
        return file.exists()
    except (OSError, ValueError):  # a name that is too long, or holds a zero byte
        return False


def _pair_files(root: Path, color: str, depth: str) -> dict[str, Path | bytes]:
    """The files of an RGB-D pair with their camera, or of a picture alone (imported puzzles have no depth map)."""
    files: dict[str, Path | bytes] = {"color": regular(below(root, color))}
    if depth:
        files["depth"] = regular(below(root, depth))
        beside = (root / folder / CAMERA for folder in PurePosixPath(depth).parents[:2])
        camera = next((file for file in beside if file.is_file()), None)
        files |= {} if camera is None else {"camera": camera}
    return files


def _pair_in_tar(tar: Path, color: str, depth: str) -> dict[str, Path | bytes]:
    """The same out of a tar."""
    members = files_in_tar(tar)
    files: dict[str, Path | bytes] = {"color": members.read(color), "depth": members.read(depth)}
    beside = (str(folder / CAMERA) for folder in PurePosixPath(depth).parents[:2])
    camera = next((path for path in beside if members.has(path)), None)
    return files | ({} if camera is None else {"camera": members.read(camera)})
