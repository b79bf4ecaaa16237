"""Scenes of posed RGB-D frames: which picture, depth map and pose belong together.

In: the files of a folder or a tar, laid out as ScanNet's export::

    SCENE/color/7.jpg    SCENE/depth/7.png    SCENE/pose/7.txt    SCENE/intrinsic/intrinsic_color.txt

`rgb` and `poses` are read too, and the intrinsics may be `intrinsics.txt`, `intrinsic.txt` or `camera.json` beside the
folders. Out: a source per scene, named after its folder of poses, and what cannot be used. Of a long scene `FRAMES` are
taken, spread evenly: neighbouring frames of a video show the same.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from jigsaw.data.sources.depth_pairs import DEPTH_SUFFIXES, PICTURE_SUFFIXES, Files
from jigsaw.data.sources.recognition import Problem, Skipped
from jigsaw.tasks.media.poses import PoseError, read_intrinsics, read_pose

POSES = ("pose", "poses")
_COLORS, _DEPTH, _INTRINSIC = ("color", "rgb"), ("depth",), ("intrinsic",)
FOLDERS = (*POSES, *_COLORS, *_DEPTH, *_INTRINSIC)
"""Folders of a scene that hold nothing else."""

INTRINSICS = ("intrinsic/intrinsic_color.txt", "intrinsics.txt", "intrinsic.txt", "camera.json")
"""Where the focal lengths of the pictures are looked for, relative to the scene."""

OWN = frozenset((*FOLDERS, *INTRINSICS))
"""Names in the folder of a scene that belong to it."""

FRAMES = 64
FEWEST = 3

LOST = "frames without a pose, which tracking lost"


class Opened(Files, Protocol):
    """Files whose content can be had."""

    def read(self, path: str) -> Path | bytes:
        """The file, or its bytes. Raises OSError if it cannot be read."""


@dataclass(frozen=True)
class Scene:
    """What was found of a scene.

    Attributes:
        files: roles of the files that a source has (`jigsaw.tasks.Source`), by relative paths; empty if there are too
            few frames.
        problems: frames, or files of the scene, that cannot be used.
        lost: frames whose pose tracking lost.
    """

    files: dict[str, str]
    problems: tuple[Problem, ...]
    lost: int


def scenes_in(scene: str, folders: Collection[str], files: Opened, skipped: Skipped) -> Iterator[str | Problem]:
    """The source of a scene, if its sub-folders make one, and the problems of its frames.

    Args:
        scene: relative path of the folder, empty or with `/` at its end.
        folders: names of its sub-folders.
    """
    for name in POSES:
        if name in folders:
            found = scene_of(files, scene + name)
            yield from found.problems
            if found.lost:
                skipped[LOST] += found.lost
            if found.files:
                yield scene + name


def scene_of(files: Opened, poses: str) -> Scene:
    """The frames of the scene whose poses are in that folder. They are read every time: 64 small files."""
    scene = PurePosixPath(poses).parent
    problems: list[Problem] = []
    intrinsics = next((str(scene / name) for name in INTRINSICS if files.has(str(scene / name))), None)
    try:
        if intrinsics is None:
            raise PoseError(f"there are no focal lengths: none of {', '.join(INTRINSICS)} is beside the folder")
        read_intrinsics(files.read(intrinsics))
    except (PoseError, OSError) as error:
        return Scene({}, (Problem(intrinsics or poses, "bad_pose", _told(error)),), 0)
    stems = {PurePosixPath(name).stem: name for name in files.names(poses) if name.lower().endswith(".txt")}
    color, depth = (_stems(files, scene, *kind) for kind in ((_COLORS, PICTURE_SUFFIXES), (_DEPTH, DEPTH_SUFFIXES)))
    roles, lost = {"intrinsics": intrinsics}, 0
    for stem in _spread(sorted(stems, key=_number)):
        path = str(PurePosixPath(poses) / stems[stem])
        if stem not in color or stem not in depth:
            what = "picture" if stem not in color else "depth map"
            problems.append(Problem(path, "no_depth" if what == "depth map" else "bad_pose", f"it has no {what}"))
            continue
        try:
            if read_pose(files.read(path)) is None:
                lost += 1
            else:
                roles |= {f"pose/{stem}": path, f"color/{stem}": color[stem], f"depth/{stem}": depth[stem]}
        except (PoseError, OSError) as error:
            problems.append(Problem(path, "bad_pose", _told(error)))
    if (count := len(roles) // 3) < FEWEST:
        what = f"{count} frames have a picture, a depth map and a pose, of which {FEWEST} are needed"
        return Scene({}, (*problems, Problem(poses, "bad_pose", what)), lost)
    return Scene(roles, tuple(problems), lost)


def _told(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _stems(files: Files, scene: PurePosixPath, folders: tuple[str, ...], suffixes: tuple[str, ...]) -> dict[str, str]:
    """Stem -> relative path of the files of a kind."""
    found: dict[str, str] = {}
    for folder in folders:
        names = sorted(name for name in files.names(str(scene / folder)) if name.lower().endswith(suffixes))
        found |= {PurePosixPath(name).stem: str(scene / folder / name) for name in names}
    return found


def _number(stem: str) -> list[Any]:
    """Sorts 9 before 10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.findall(r"\d+|\D+", stem)]


def _spread(stems: list[str]) -> list[str]:
    """At most `FRAMES` of them, evenly spread, with the first and the last."""
    if len(stems) <= FRAMES:
        return stems
    return [stems[round(step * (len(stems) - 1) / (FRAMES - 1))] for step in range(FRAMES)]
