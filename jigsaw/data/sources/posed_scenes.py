"""Scenes of posed RGB-D frames: which picture, depth map and pose belong together.

In: the files of a folder or a tar in the layout of ScanNet's export::

    SCENE/color/7.jpg    SCENE/depth/7.png    SCENE/pose/7.txt    SCENE/intrinsic/intrinsic_color.txt

The folders may also be named `rgb` and `poses`, and the intrinsics may be `intrinsics.txt`, `intrinsic.txt` or
`camera.json` in the folder of the scene. Out: one source per scene, named after its folder of poses, and the unusable
frames. At most `FRAMES` frames of a scene are used, evenly spaced, since neighbouring frames look the same.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from jigsaw.data.sources.depth_pairs import DEPTH_SUFFIXES, PICTURE_SUFFIXES, Files
from jigsaw.data.sources.recognition import Problem, Skipped
from jigsaw.tasks.media.poses import PoseError, read_intrinsics, read_pose

POSES = ("pose", "poses")
_COLORS, _DEPTH, _INTRINSIC = ("color", "rgb"), ("depth",), ("intrinsic",)
FOLDERS = (*POSES, *_COLORS, *_DEPTH, *_INTRINSIC)
"""Names of the folders of a scene."""

INTRINSICS = ("intrinsic/intrinsic_color.txt", "intrinsics.txt", "intrinsic.txt", "camera.json")
"""Files with the focal lengths of the pictures, relative to the scene; the first that exists is used."""

OWN = frozenset((*FOLDERS, *INTRINSICS))
"""Names of the files and folders of a scene."""

FRAMES = 64
FEWEST = 3

LOST = "frames without a pose, which tracking lost"


@dataclass(frozen=True)
class Scene:
    """The files of a scene.

    Attributes:
        files: role in the source (`jigsaw.tasks.Source`) -> relative path; empty if there are too few frames.
        problems: frames or files of the scene that cannot be used.
        lost: number of frames without a pose, because tracking was lost.
    """

    files: dict[str, str]
    problems: tuple[Problem, ...]
    lost: int


def scenes_in(scene: str, folders: Collection[str], files: Files, skipped: Skipped) -> Iterator[str | Problem]:
    """The source of a scene, if the folder is one, and the problems of its frames.

    Args:
        scene: relative path of the folder, empty or with `/` at the end.
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


def scene_of(files: Files, poses: str) -> Scene:
    """The scene with that folder of poses. The pose files are read on each call; they are at most 64 small files."""
    scene = PurePosixPath(poses).parent
    problems: list[Problem] = []
    intrinsics = next((str(scene / name) for name in INTRINSICS if files.has(str(scene / name))), None)
    try:
        if intrinsics is None:
            raise PoseError(f"there are no intrinsics: the scene has none of {', '.join(INTRINSICS)}")
        read_intrinsics(files.read(intrinsics))
    except (PoseError, OSError) as error:
        return Scene({}, (Problem(intrinsics or poses, "bad_pose", _reason(error)),), 0)
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
            problems.append(Problem(path, "bad_pose", _reason(error)))
    if (count := len(roles) // 3) < FEWEST:
        what = f"{count} frames have a picture, a depth map and a pose; at least {FEWEST} are needed"
        return Scene({}, (*problems, Problem(poses, "bad_pose", what)), lost)
    return Scene(roles, tuple(problems), lost)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _stems(files: Files, scene: PurePosixPath, folders: tuple[str, ...], suffixes: tuple[str, ...]) -> dict[str, str]:
    """Stem -> relative path of the files of a kind."""
    found: dict[str, str] = {}
    for folder in folders:
        names = sorted(name for name in files.names(str(scene / folder)) if name.lower().endswith(suffixes))
        found |= {PurePosixPath(name).stem: str(scene / folder / name) for name in names}
    return found


def _number(stem: str) -> list[Any]:
    """A key that sorts 9 before 10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.findall(r"\d+|\D+", stem)]


def _spread(stems: list[str]) -> list[str]:
    """At most `FRAMES` of them, evenly spaced, with the first and the last."""
    if len(stems) <= FRAMES:
        return stems
    return [stems[round(step * (len(stems) - 1) / (FRAMES - 1))] for step in range(FRAMES)]
