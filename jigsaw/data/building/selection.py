"""The sources of a build: the listing of one split, and the errors if it has none.

In: a source folder, a task and settings. Out: relative paths and problems, or an error of one line. `require_sources`
checks them before a build: it lists the source and reads files only until one of the split is found; none is decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic

from jigsaw.data.building.planning import Job, is_selected
from jigsaw.data.sources import open_source, scan, source_root
from jigsaw.data.sources.paths import PAIRS, TOGETHER, is_folder
from jigsaw.data.sources.recognition import Problem, Skipped, skipped_line
from jigsaw.data.storage.identity import Split
from jigsaw.data.storage.settings import BuildConfig
from jigsaw.errors import JigsawError
from jigsaw.tasks import Task

MOST_SECONDS = 1.0
"""Time that `require_sources` reads sources to find one of the split; after it, the split counts as not empty."""

NAMES = {"image": ("photo", "photos"), "video": ("video", "videos"), "rgbd": ("RGB-D pair", "RGB-D pairs")}
NAMES |= {"pair": ("pair of photos", "pairs of photos"), "video_pair": ("pair of videos", "pairs of videos")}
NAMES |= {"posed": ("scene", "scenes")}

_WANTED = {
    "image": "pictures; name the folder of the pictures",
    "video": "videos; name the folder of the videos",
    "pair": "two pictures; name the folder of the pictures",
    "video_pair": "two videos; name the folder of the videos",
    "posed": "scene of posed frames; a scene is a folder with color/, depth/, pose/ and intrinsic/, as in ScanNet",
    "rgbd": "pictures with depth maps in a known layout; set the layout, as in pairs='rgb/{}.jpg::depth/{}.png'",
}


def require_sources(build: BuildConfig, source: Path, out: Path) -> None:
    """Check that a source has sources of the task's kind that can be read, and one of them is in the split.

    Args:
        build: the task and its settings.
        source: a folder, list, tar or table.
        out: the folder for the set, or a parent of it.

    Raises:
        JigsawError: a build would fail; the message is that of the build.
    """
    task = build.make_task()
    require_apart(source, out)
    below = split_folder(source, build.split)
    job = Job(root=source_root(source).resolve(), build=replace(build, split=None) if below else build)
    skipped, count, opened, begun = Skipped(), 0, 0, monotonic()
    problem: str | None = None
    for entry in entries_of(source, below, task, skipped):
        count += 1
        if isinstance(entry, Problem):
            problem = problem or entry.detail
            continue
        try:
            if is_selected(open_source(job.root, entry, task.source_kind), job.build):
                return
            opened += 1
        except OSError as error:
            problem = problem or error.strerror or str(error)
        if monotonic() - begun > MOST_SECONDS:
            return
    if count == 0:
        raise JigsawError(no_sources(source / below, task, skipped))
    if opened == 0:
        _, several = NAMES[task.source_kind]
        raise JigsawError(f"none of the {several} in {source / below} can be read ({count} of {count}): {problem}")
    raise JigsawError(empty_split(count, job, task))


def no_sources(source: Path, task: Task, skipped: Skipped) -> str:
    """The error for a source without items of the task's kind."""
    instead = f" ({skipped_line(skipped)})" if skipped else ""
    return f"source {source} has no {_WANTED[task.source_kind]}{instead}"


def empty_split(count: int, job: Job, task: Task) -> str:
    """The error for a split that no source is in.

    Args:
        count: number of sources in all splits.
    """
    one, several = NAMES[task.source_kind]
    there = f"is only 1 {one}" if count == 1 else f"are only {count} {several}"
    build = job.build
    return (
        f"there {there} in {job.root}, and heldout={build.heldout} leaves none for split {build.split}; "
        f"add {several}, or change heldout"
    )


def require_apart(source: Path, out: Path) -> None:
    """Refuse a set inside the source folder: the next build would read its files as sources."""
    searched, target = source.resolve(), out.resolve()
    if is_folder(source) and target.is_relative_to(searched):
        where = "is the source folder" if target == searched else f"is inside the source {source}"
        raise JigsawError(f"{out} {where}; choose a folder outside of it")


def split_folder(root: Path, split: Split | None) -> str:
    """Name of the sub-folder of a split, or '' if the folder is not split into sub-folders."""
    if split is None or not (is_folder(root / "train") and is_folder(root / "heldout")):
        return ""
    return split


def entries_of(source: Path, below: str, task: Task, skipped: Skipped) -> Iterator[str | Problem]:
    """The sources of a build, relative to the source folder even if only one of its sub-folders is used."""
    for entry in scan(source / below, task.source_kind, task.pairing, skipped):
        if not below:
            yield entry
        elif isinstance(entry, str):
            between = TOGETHER if task.source_kind in PAIRS else "::"
            yield between.join(f"{below}/{piece}" for piece in _files(entry, task))
        else:
            yield Problem(f"{below}/{entry.path}", entry.reason, entry.detail)


def _files(path: str, task: Task) -> list[str]:
    """The two paths of an RGB-D pair on disk or of a pair of photos or videos; else the one path."""
    if task.source_kind in PAIRS:
        return path.split(TOGETHER, 1)
    pieces = path.split("::")
    return pieces if task.source_kind == "rgbd" and len(pieces) == 2 else [path]


def selector(job: Job, task: Task) -> Callable[[str], bool]:
    """Whether a source can be read and is in the split of a build, as a function of its path."""

    def selected(path: str) -> bool:
        try:
            return is_selected(open_source(job.root, path, task.source_kind), job.build)
        except OSError:
            return False

    return selected
