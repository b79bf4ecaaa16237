"""Building a puzzle set: from a folder of sources to Parquet parts, a list of rejects and a manifest.

In: a task, a source folder and settings. Out: the folder of the set. A pool of worker processes builds one part after
the other, and a part is moved into place when it is complete: a build that was killed at any moment is continued by the
next one, and a second build of the same set waits for the first. Memory use does not depend on the number of sources:
it is one row group and the results that wait for an earlier one.
"""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jigsaw.data.building.directory_lock import build_directory
from jigsaw.data.building.listing import Listing, assign_parts, read_lines, sample, write_listing
from jigsaw.data.building.planning import Job
from jigsaw.data.building.pool import Pool
from jigsaw.data.building.selection import (
    NAMES,
    empty_split,
    entries_of,
    no_sources,
    require_apart,
    selector,
    split_folder,
)
from jigsaw.data.building.writer import Outcome, PartWriter
from jigsaw.data.sources import source_root
from jigsaw.data.sources.recognition import Skipped, skipped_line
from jigsaw.data.storage.identity import Split
from jigsaw.data.storage.manifest import (
    Counts,
    Manifest,
    first_difference,
    manifest_name,
    package_versions,
    shard_manifests,
    write_manifest,
)
from jigsaw.data.storage.parts import sources_of
from jigsaw.data.storage.settings import BuildConfig, Settings, require_positive
from jigsaw.errors import JigsawError
from jigsaw.processes import usable_cores
from jigsaw.progress import progress_bar
from jigsaw.tasks import Task

REASONS = {
    "unreadable": "the file or folder cannot be read",
    "bad_name": "the name is not UTF-8",
    "timeout": "it took longer than the time limit",
    "crashed": "two worker processes died while they read it; the next build tries again",
    "bad_pose": "a pose or the intrinsics of a scene cannot be used",
    "failed": "the task raised an error",
    "exhausted": "the source gives no more different puzzles",
    "placeholders": "an imported prompt has placeholders for other media than the puzzle",
}
"""Why a source gives no puzzle, in addition to the `REASONS` of its task."""

SOURCES_PER_PART = 5000


@dataclass(frozen=True, kw_only=True)
class BuildSummary:
    """The result of a build.

    Attributes:
        path: the folder of the set.
        counts: of all parts of this shard, including those of earlier runs.
        parts_built, parts_skipped: numbers of parts that this run wrote, and that were already complete.
        used: number of sources with at least one puzzle.
        task: the task; None for an import.
        spec: name or spec of the task.
        skipped: numbers of skipped files, by suffix or kind.
    """

    path: Path
    counts: Counts
    parts_built: int
    parts_skipped: int
    used: int = 0
    task: Task | None = None
    spec: str = ""
    skipped: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "path": str(self.path),
            "sources": self.counts.sources,
            "puzzles": self.counts.puzzles,
            "rejects": self.counts.rejects,
            "skipped": self.skipped,
            "parts_built": self.parts_built,
            "parts_skipped": self.parts_skipped,
        }

    def lines(self) -> list[str]:
        """What was built, what was rejected and why, and the next command, for a terminal."""
        assert self.task is not None  # only an import has none
        counts, one, several = self.counts, *NAMES[self.task.source_kind]
        left = counts.sources - self.used
        text = "" if self.parts_built else "Already built: "
        text += f"{counts.puzzles} {'puzzle' if counts.puzzles == 1 else 'puzzles'} from "
        text += f"{self.used} of {counts.sources} {one if counts.sources == 1 else several}"
        lines = [text]
        if left or counts.rejects:
            lost = f"{left} {'was' if left == 1 else 'were'} left out" if left else "some gave fewer puzzles"
            lines = [f"{text}; {lost} (see {self.path / 'rejects.jsonl'}):"]
            lines += [
                f"{number:>6,}  {meaning}" for meaning, number in reject_reasons(counts.rejects, self.task).items()
            ]
        if self.skipped:
            lines.append(skipped_line(self.skipped))
        task = f" --task {shlex.quote(self.spec)}" if ":" in self.spec else ""
        return [*lines, f"Next: jigsaw preview {shlex.quote(str(self.path))}{task}"]


def reject_reasons(rejects: Mapping[str, int], task: Task) -> dict[str, int]:
    """What reject reasons mean, in a few words and with the values of the settings, and how often each occurred.

    >>> from jigsaw.tasks import get_task
    >>> reject_reasons({"too_small": 2, "too_large": 3}, get_task("image", min_tile=40))
    {'the picture has more than 120 megapixels': 3, 'a tile would have fewer than min_tile=40 pixels a side': 2}
    """
    meanings, words = {**REASONS, **task.REASONS}, Counter[str]()
    for reason, number in sorted(rejects.items(), key=lambda item: -item[1]):
        short = re.split(r" \(|[,:;]", meanings.get(reason, reason))[0]
        words[re.sub(r"`(\w+)`", lambda key: _setting(task, key[1]), short).replace("`", "")] += number
    return dict(words)


def listed_reasons(rejects: Mapping[str, int], task: Task) -> str:
    """The reject reasons in one line."""
    return ", ".join(f"{meaning} ({number})" for meaning, number in reject_reasons(rejects, task).items())


def _setting(task: Task, key: str) -> str:
    value = getattr(task.config, key, None)
    return key if value is None else f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"


def build_puzzles(
    task: str,
    source: str | Path,
    out: str | Path,
    *,
    config: Mapping[str, Any] | None = None,
    per_source: int = 1,
    limit: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    parts: int | None = None,
    shard: tuple[int, int] = (0, 1),
    split: Split | None = None,
    heldout: float = 0.2,
    materialize: bool = False,
    time_limit: float = 120.0,
    progress: bool = True,
) -> BuildSummary:
    """Build a puzzle set, or continue a build with the same settings.

    Args:
        task: a task's name or spec.
        config: the task's configuration.
        per_source, limit, seed, split, heldout, materialize: see `BuildConfig`.
        source, out, workers, parts, shard, time_limit, progress: see `build_set`.

    Raises:
        JigsawError: the settings, the source or the folder cannot be used, or no source gave a puzzle.
    """
    build = BuildConfig.of(
        task,
        config,
        per_source=per_source,
        limit=limit,
        seed=seed,
        split=split,
        heldout=heldout,
        materialize=materialize,
    )
    return build_set(
        build, source, out, workers=workers, parts=parts, shard=shard, time_limit=time_limit, progress=progress
    )


def build_set(
    build: BuildConfig,
    source: str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    parts: int | None = None,
    shard: tuple[int, int] = (0, 1),
    time_limit: float = 120.0,
    progress: bool = True,
) -> BuildSummary:
    """Build a puzzle set with a `BuildConfig`, or continue a build with the same settings.

    Args:
        build: the task, its configuration, and how many puzzles of which sources.
        source: a folder (with its sub-folders), a list of paths (.txt), a .tar, a .parquet or a saved `datasets`
            folder. With a `split`, the sub-folders `train` and `heldout` are used if both exist; otherwise the sources
            are split by the hash of their content.
        out: folder of the set; made if it does not exist.
        workers: number of processes; by default one per usable core.
        parts: number of Parquet files; by default one per 5000 sources.
        shard: index (from 0) and count; builds the parts whose number modulo the count is the index.
        time_limit: seconds for one source.
        progress: show a progress bar on a terminal if the build takes more than two seconds.

    Raises:
        JigsawError: the source or the folder cannot be used, or no source gave a puzzle.
    """
    require_positive(parts=parts, workers=workers)
    if not 0 <= shard[0] < shard[1]:
        raise JigsawError(f"shard {shard[0]}/{shard[1]} does not exist: shards are numbered 0 to N - 1")
    task, source_path, target = build.make_task(), Path(source), Path(out)
    require_apart(source_path, target)
    root, below = source_root(source_path), split_folder(source_path, build.split)
    job = Job(root=root.resolve(), build=replace(build, split=None) if below else build)
    with build_directory(target, shard) as work:
        skipped = Skipped()
        listing = write_listing(entries_of(source_path, below, task, skipped), root, work / "listing")
        if listing.count == 0:
            raise JigsawError(no_sources(source_path / below, task, skipped))
        if build.limit is not None:
            listing = sample(listing, build.limit, selector(job, task) if job.build.split else None)
        begun = shard_manifests(target)
        earlier = [manifest.settings for manifest in begun]
        if parts is None:
            used = min(listing.count, build.limit or listing.count)
            parts = earlier[0].parts if earlier else -(-used // SOURCES_PER_PART)
        settings = Settings.of_build(
            build,
            heldout=build.heldout if job.build.split else None,
            task=task.name,
            parts=parts,
            num_sources=listing.count,
            listing=listing.digest,
        )
        for old in earlier:
            if (difference := first_difference(old, settings)) is not None:
                raise JigsawError(f"{target} has another data set: {difference}; choose another folder or delete it")
        for others in sorted({manifest.shard[1] for manifest in begun} - {shard[1]}):
            remedy = f"continue with --shard I/{others}, choose another folder or delete it"
            raise JigsawError(f"{target} was begun in {others} shard{'s' * (others > 1)}, not {shard[1]}; {remedy}")
        manifest = Manifest(
            settings=settings,
            source_root=str(job.root),
            source_relative=os.path.relpath(job.root, target.resolve()),
            source_name="" if root == source_path else source_path.name,
            shard=shard,
            skipped=dict(sorted(skipped.items())),
            versions=package_versions(),
        )
        writer = PartWriter(target, work, manifest, {*REASONS, *task.REASONS})
        return _build_shard(writer, job, task, listing, workers or usable_cores(), time_limit, progress)


def _build_shard(
    writer: PartWriter, job: Job, task: Task, listing: Listing, workers: int, time_limit: float, progress: bool
) -> BuildSummary:
    """Build the missing parts of a shard; returns the result for all of its parts."""
    target, manifest = writer.target, writer.manifest
    done = {part: counts for part in writer.parts if (counts := writer.finished(part)) is not None}
    missing = [part for part in writer.parts if part not in done]
    finished_before = any(m.shard == manifest.shard and m.complete for m in shard_manifests(target))
    if missing or not finished_before:
        write_manifest(target, manifest)
        files = assign_parts(listing, manifest.settings.parts, missing, writer.work)
        total = sum(1 for file in files.values() for _ in read_lines(file))
        with (
            progress_bar("puzzles", total, enabled=progress) as bar,
            Pool(job, min(workers, max(total, 1)), time_limit) as pool,
        ):
            for part, file in files.items():
                planned = (Outcome(line[0], result) for line, result in pool.run(read_lines(file)))
                done[part] = writer.write(part, planned, bar)
    counts = sum((done[part] for part in writer.parts), Counts())
    if missing or not finished_before:
        writer.join_rejects()
        if counts.puzzles == 0 and manifest.shard == (0, 1):
            # Only the list of rejects is left.
            for file in (*map(writer.file, writer.parts), target / manifest_name(manifest.shard)):
                file.unlink(missing_ok=True)
            writer.forget_rejects()
            raise JigsawError(_no_puzzle(manifest, job, task, counts, writer.rejects))
        write_manifest(target, replace(manifest, counts=counts, complete=True))
        writer.forget_rejects()
    return BuildSummary(
        path=target,
        counts=counts,
        parts_built=len(missing),
        parts_skipped=len(done) - len(missing),
        used=sum(sources_of(writer.file(part)) for part in writer.parts),
        task=task,
        spec=manifest.settings.spec,
        skipped=manifest.skipped,
    )


def _no_puzzle(manifest: Manifest, job: Job, task: Task, counts: Counts, rejects: Path) -> str:
    """The error for a build without a puzzle."""
    if not counts.sources:
        return empty_split(manifest.settings.num_sources, job, task)
    skipped = f". {skipped_line(manifest.skipped)}" if manifest.skipped else ""
    why = listed_reasons(counts.rejects, task)
    return f"none of the {counts.sources} sources in {job.root} gave a puzzle: {why}; see {rejects}{skipped}"
