"""Opening of sources: from a path that `jigsaw.data.sources.scanning` lists to a `tasks.Source`.

In: the folder of the sources, a relative path and the kind of source. Out: the files of the source, or their bytes, and
the fingerprint of their content.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from jigsaw.data.sources.containers import CONTAINERS, TAR, read_item
from jigsaw.data.sources.depth_pairs import CAMERA, Files, FilesOnDisk
from jigsaw.data.sources.paths import BETWEEN, PAIRS, TOGETHER, bad_name, exists, is_folder, leaves, regular
from jigsaw.data.sources.posed_scenes import scene_of
from jigsaw.data.sources.tars import files_in_tar
from jigsaw.data.storage.identity import fingerprint_of
from jigsaw.tasks import Source, SourceKind


def below(root: Path, path: str) -> Path:
    """The file with a relative path, which may come from rows of other people.

    Raises:
        OSError: the path leads out of the folder, or is not valid.
    """
    if leaves(path):
        raise OSError("the path leads out of the folder of the sources")
    if "\0" in path:
        raise OSError("the path has a zero byte")
    if (problem := bad_name(path)) is not None:
        raise OSError(problem.detail)
    return root / path


def missing_file(root: Path, path: str) -> str | None:
    """The first file of a source that is missing below the root, or None; members of containers are not checked.

    Args:
        path: of the source, as `scan` lists it.
    """
    for item in path.split(TOGETHER):
        pieces = [item] if exists(root / item) else item.split(BETWEEN)
        files = pieces[:1] if pieces[0].lower().endswith(CONTAINERS) or is_folder(root / pieces[0]) else pieces
        gone = next((file for file in files if not exists(root / file)), None)
        if gone is not None:
            return gone
    return None


def open_source(root: Path, path: str, kind: SourceKind) -> Source:
    """The source with that relative path, and the fingerprint of its content.

    Raises:
        OSError: it cannot be read, is not a regular file, or is outside of the root.
    """
    files: dict[str, Path | bytes]
    contents: tuple[str, ...] = ()
    if kind == "pair" or kind == "video_pair":
        own, pieces = PAIRS[kind], path.split(TOGETHER)
        if len(pieces) != 2:
            raise OSError(f"a pair needs two paths, separated by {TOGETHER}")
        one, other = (open_source(root, piece, own) for piece in pieces)
        files = {own: one.files[own], "other": other.files[own]}
        contents = (one.fingerprint, other.fingerprint)
    elif kind == "posed":
        container, inside, folder = path.rpartition(BETWEEN)
        below(root, container or folder)
        found = files_in_tar(root / container) if inside else FilesOnDisk(root)
        scene = scene_of(found, folder)
        if not scene.files:
            raise OSError(f"not a usable scene of posed frames: {scene.problems[-1].detail}")
        files = {role: found.read(file) for role, file in scene.files.items()}
    elif kind == "rgbd":
        files = _rgbd_files(root, path)
    else:
        container, inside, name = path.rpartition(BETWEEN)
        in_container = inside and not exists(root / path)
        item = read_item(below(root, container), name, kind) if in_container else regular(below(root, path))
        files = {kind: item}
    return Source(path=path, fingerprint=fingerprint_of(files.values()), files=files, contents=contents)


def _rgbd_files(root: Path, path: str) -> dict[str, Path | bytes]:
    """The files of an RGB-D pair with their camera, or of a picture alone (imported puzzles have no depth map)."""
    color, _, depth = path.partition(BETWEEN)
    found: Files
    if color.lower().endswith(TAR):
        found = files_in_tar(below(root, color))
        color, _, depth = depth.partition(BETWEEN)
    else:
        found = FilesOnDisk(root)
        below(root, color), below(root, depth)
    files = {"color": found.read(color)}
    if depth:
        files["depth"] = found.read(depth)
        cameras = (str(folder / CAMERA) for folder in PurePosixPath(depth).parents[:2])
        if (camera := next(filter(found.has, cameras), None)) is not None:
            files["camera"] = found.read(camera)
    return files
