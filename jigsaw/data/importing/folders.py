"""Folders of an import: the Parquet files of the foreign set, the folder of its media, and the new puzzle set.

In: paths, and the `Outcome` of every foreign row. Out: rows of Parquet files, and a puzzle set like a built one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path

from jigsaw.data.building.build import REASONS, BuildSummary, listed_reasons
from jigsaw.data.building.directory_lock import build_directory
from jigsaw.data.building.writer import Outcome, PartWriter
from jigsaw.data.storage.manifest import Counts, Manifest, package_versions, shard_manifests, write_manifest
from jigsaw.data.storage.parts import part_files
from jigsaw.data.storage.settings import Settings
from jigsaw.errors import JigsawError, first_line
from jigsaw.progress import progress_bar
from jigsaw.tasks import Task


def parquet_files(path: Path, pattern: str = "**/*.parquet") -> list[Path]:
    """The Parquet files in a folder, by default with its sub-folders, or the file itself.

    Raises:
        JigsawError: there are none.
    """
    files = sorted(path.glob(pattern)) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise JigsawError(f"{path}: no Parquet file; name the folder of the Parquet files, or the file itself")
    return files


@contextmanager
def parquet_errors(file: Path) -> Iterator[None]:
    """Raise a `JigsawError` for a Parquet file that cannot be read."""
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise JigsawError(f"{file} cannot be read as Parquet ({first_line(error)})") from error


def media_folder(media_root: str | Path | None, path: Path) -> Path:
    """The folder of the media: `media_root`, by default that of the foreign files.

    Raises:
        JigsawError: it is not a folder.
    """
    root = Path(media_root) if media_root is not None else (path if path.is_dir() else path.parent)
    if not root.is_dir():
        raise JigsawError(f"{root} is not a folder; name the folder of the media (--media-root)")
    return root


def write_imported(
    target: Path,
    root: Path,
    settings: Settings,
    outcomes: Iterator[Outcome],
    task: Task,
    *,
    rows_per_part: int,
    progress: bool,
) -> BuildSummary:
    """Write the puzzle set of an import.

    Args:
        target: a new or empty folder, or one in which the same import was interrupted.
        root: folder of the media.
        outcomes: of the foreign rows, in order.
        task: the task of the rows.
        rows_per_part: rows in each Parquet file.
        progress: show a progress bar.

    Raises:
        JigsawError: the folder has other content, or no row gave a puzzle.
    """
    manifest = Manifest(
        settings=settings,
        source_root=str(root.resolve()),
        source_relative=os.path.relpath(root.resolve(), target.resolve()),
        versions=package_versions(),
    )
    _begin(target, manifest)
    with build_directory(target, (0, 1)) as work, progress_bar("rows", settings.num_sources, enabled=progress) as bar:
        writer = PartWriter(target, work, manifest, {*REASONS, *task.REASONS})
        try:
            counts = sum((writer.write(part, islice(outcomes, rows_per_part), bar) for part in writer.parts), Counts())
            writer.join_rejects()
            if counts.puzzles == 0:
                why = listed_reasons(counts.rejects, task) or "they have no questions"
                raise JigsawError(
                    f"none of the {counts.sources} rows could be imported: {why}; see {writer.rejects}; is {root} the "
                    "folder of the media (--media-root)?"
                )
            write_manifest(target, replace(manifest, complete=True, counts=counts))
        finally:
            writer.forget_rejects()
    return BuildSummary(path=target, counts=counts, parts_built=settings.parts, parts_skipped=0)


def _begin(target: Path, manifest: Manifest) -> None:
    """Make the folder, or take an empty one or one in which the same import was interrupted."""
    target.mkdir(parents=True, exist_ok=True)
    others = [entry.name for entry in target.iterdir() if not entry.name.startswith(".")]
    begun = [old for old in shard_manifests(target) if not old.complete and old.settings == manifest.settings]
    if others and not begun:
        raise JigsawError(f"{target} is not empty ({others[0]}); choose another folder or delete it")
    for file in part_files(target):
        file.unlink()
    write_manifest(target, manifest)
