"""Building a data set: from a folder of sources to parts, rejects and a manifest.

In: a task, a source folder, settings. Out: a folder as `jigsaw.data` describes it. Parts are built one after the
other by a pool of worker processes and moved into place when they are whole: killed at any moment, a re-run finishes
the same data set, and a second build of it at the same time waits for the first. Memory holds one row group and the
results that wait for their turn, whatever the number of sources.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jigsaw.data.containers import is_folder
from jigsaw.data.identity import Split, split_of
from jigsaw.data.listing import Listing, deal, read_lines, sample, spill
from jigsaw.data.manifest import (
    MOST,
    MOST_PARTS,
    Counts,
    Manifest,
    Settings,
    first_difference,
    manifest_name,
    package_versions,
    shard_manifests,
    write_manifest,
)
from jigsaw.data.parts import Row, finished_part, part_name, sources_of, write_part
from jigsaw.data.planning import Job, Planned, Refusal
from jigsaw.data.pool import Pool
from jigsaw.data.progress import ProgressBar, progress_bar
from jigsaw.data.recognition import Problem, Skipped, skipped_line
from jigsaw.data.sources import open_source, scan, source_root
from jigsaw.data.workplace import REJECTS, workplace
from jigsaw.errors import JigsawError
from jigsaw.files import write_whole
from jigsaw.processes import usable_cores
from jigsaw.tasks import Task, TaskError, absolute_spec, config_values, get_task
from jigsaw.text import named

REASONS = {
    "unreadable": "the file or folder cannot be read",
    "bad_name": "the name is not UTF-8",
    "timeout": "reading it took longer than the time limit",
    "crashed": "the processes that read it died, twice; the next build tries again",
    "failed": "the task raised an error",
    "exhausted": "the source gives no further different puzzle",
    "placeholders": "an imported prompt stands for other media than the puzzle has",
}
"""Why a source gives no puzzle, beside the task's own `REASONS`."""

SOURCES_PER_PART = 5000

_NAMES = {"image": ("photo", "photos"), "video": ("video", "videos"), "rgbd": ("RGB-D pair", "RGB-D pairs")}

_WANTED = {
    "image": "pictures; give the folder that holds them",
    "video": "videos; give the folder that holds them",
    "rgbd": "pictures with depth maps in a known layout; say how they pair, as in pairs='rgb/{}.jpg::depth/{}.png'",
}


@dataclass(frozen=True, kw_only=True)
class BuildSummary:
    """What a build did.

    Attributes:
        path: the data set.
        counts: of all parts of this shard, those of earlier runs included.
        parts_built, parts_skipped: how many parts this run wrote, and found complete.
        used: sources that gave a puzzle or more.
        task: the task that built it; None of an import.
        spec: under which it was named.
        skipped: what was passed over among the sources, by suffix or kind.
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

    def sentence(self) -> str:
        """What was built, what was left out and why, and what to do next."""
        assert self.task is not None  # a build knows it; an import has none
        counts, one, several = self.counts, *_NAMES[self.task.source_kind]
        left = counts.sources - self.used
        text = "" if self.parts_built else "Already built: "
        text += f"{counts.puzzles} {'puzzle' if counts.puzzles == 1 else 'puzzles'} from "
        text += f"{self.used} of {counts.sources} {one if counts.sources == 1 else several}"
        if left or counts.rejects:
            meanings = {**REASONS, **self.task.REASONS}
            reasons = [
                (number, re.split(r" \(|[,:;]", meanings.get(reason, reason))[0].replace("`", ""))
                for reason, number in sorted(counts.rejects.items(), key=lambda item: -item[1])
            ]
            lost = f"{left} {'was' if left == 1 else 'were'} left out" if left else "some gave fewer puzzles"
            because = ", ".join(f"{meaning} ({number})" for number, meaning in reasons)
            text += f"; {lost} because {reasons[0][1]}" if len(reasons) == 1 else f"; {lost}: {because}"
            text += f". See {self.path / 'rejects.jsonl'}"
        if self.skipped:
            text += f". {skipped_line(self.skipped)}"
        task = f" --task {shlex.quote(self.spec)}" if ":" in self.spec else ""
        return f"{text}. Next: jigsaw preview {shlex.quote(str(self.path))}{task}"


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
    """Build a data set, or finish one that was begun with the same settings.

    Args:
        task: a task's name or spec.
        source: a folder (searched through and through), a list of paths (.txt), a .tar, a .parquet or a saved
            `datasets` folder. With a `split`, its sub-folders `train` and `heldout` are used as they
            are if both are there; otherwise sources are split by the hash of their content.
        out: the data set's folder; made if it is not there.
        config: the task's configuration.
        per_source: puzzles from each source, all different.
        limit: use only so many sources, a sample that is the same on every machine.
        seed: another seed gives other puzzles.
        workers: processes; by default one per usable core.
        parts: number of parquet files; by default one per 5000 sources.
        shard: number (from 0) and count; builds the parts whose number modulo the count is the number.
        split: `train`, `heldout` or None for all sources.
        heldout: fraction of the contents that is held out.
        materialize: store rendered media too.
        time_limit: seconds for one source.
        progress: show a bar on a terminal when the build takes more than two seconds.

    Raises:
        JigsawError: the settings, the source or the folder are wrong, or no source gave a puzzle.
    """
    _check_numbers(per_source=per_source, limit=limit, parts=parts, workers=workers)
    if not 0 <= shard[0] < shard[1]:
        raise JigsawError(f"shard {shard[0]}/{shard[1]} does not exist: shards are numbered 0 to N - 1")
    if not 0 < heldout < 1:
        raise JigsawError(f"heldout must be a fraction between 0 and 1, not {heldout}")
    made = _task(task, config or {})
    given, target = Path(source), Path(out)
    _check_apart(given, target)
    root, below = source_root(given), _split_folder(given, split)
    job = Job(
        spec=absolute_spec(task),
        config=config_values(made),
        root=root.resolve(),
        seed=seed,
        per_source=per_source,
        split=None if below else split,
        heldout=heldout,
        materialize=materialize,
    )
    with workplace(target, shard) as work:
        skipped = Skipped()
        listing = spill(_entries(given, below, made, skipped), root, work / "listing")
        if listing.count == 0:
            instead = f" ({skipped_line(skipped)})" if skipped else ""
            raise JigsawError(f"source {given / below} holds no {_WANTED[made.source_kind]}{instead}")
        if limit is not None:
            listing = sample(listing, limit, _selector(job, made) if job.split else None)
        begun = shard_manifests(target)
        earlier = [manifest.settings for manifest in begun]
        if parts is None:
            parts = earlier[0].parts if earlier else -(-min(listing.count, limit or listing.count) // SOURCES_PER_PART)
        settings = Settings(
            task=made.name,
            spec=job.spec,
            config=job.config,
            seed=seed,
            per_source=per_source,
            limit=limit,
            split=split,
            heldout=heldout if job.split else None,
            materialize=materialize,
            parts=parts,
            num_sources=listing.count,
            listing=listing.digest,
        )
        for old in earlier:
            if (difference := first_difference(old, settings)) is not None:
                raise JigsawError(f"{target} holds another data set: {difference}; choose another folder or delete it")
        for others in sorted({manifest.shard[1] for manifest in begun} - {shard[1]}):
            remedy = f"go on with --shard I/{others}, choose another folder or delete it"
            raise JigsawError(f"{target} was begun in {others} shard{'s' * (others > 1)}, not {shard[1]}: {remedy}")
        name = "" if root == given else given.name
        build = _Build(
            target, work, settings, shard, job, name, {*REASONS, *made.REASONS}, dict(sorted(skipped.items()))
        )
        return build.run(listing, workers or usable_cores(), time_limit, progress)


def _task(spec: str, config: Mapping[str, Any]) -> Task:
    try:
        return get_task(spec, **config)
    except TaskError as error:
        raise JigsawError(str(error)) from error


def _check_numbers(**numbers: int | None) -> None:
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise JigsawError(f"{name} must be at least 1, not {value}")
        most = MOST_PARTS if name == "parts" else MOST
        if value is not None and value > most:
            raise JigsawError(f"{name} must be at most {most}, not {named(value)}")


def _check_apart(source: Path, out: Path) -> None:
    """The data set may not lie in the folder that is searched: a later run would find what an earlier one wrote."""
    searched, target = source.resolve(), out.resolve()
    if is_folder(source) and target.is_relative_to(searched):
        where = "is the source itself" if target == searched else f"lies inside the source {source}"
        raise JigsawError(f"{out} {where}; choose a folder outside of it")


def _split_folder(root: Path, split: Split | None) -> str:
    """The sub-folder that holds a split, or '' where the folder is not split."""
    if split is None or not (is_folder(root / "train") and is_folder(root / "heldout")):
        return ""
    return split


def _entries(source: Path, below: str, task: Task, skipped: Skipped) -> Iterator[str | Problem]:
    """The sources of a build, named relative to the whole source even where only a sub-folder is used."""
    for entry in scan(source / below, task.source_kind, task.pairing, skipped):
        if not below:
            yield entry
        elif isinstance(entry, str):
            yield "::".join(f"{below}/{piece}" for piece in _files(entry, task))
        else:
            yield Problem(f"{below}/{entry.path}", entry.reason, entry.detail)


def _files(path: str, task: Task) -> list[str]:
    """Both files of an RGB-D pair on disk, or the one path of anything else."""
    pieces = path.split("::")
    return pieces if task.source_kind == "rgbd" and len(pieces) == 2 else [path]


def _selector(job: Job, task: Task) -> Callable[[str], bool]:
    def selected(path: str) -> bool:
        try:
            return split_of(open_source(job.root, path, task.source_kind).fingerprint, job.heldout) == job.split
        except OSError:
            return False

    return selected


def _rejects_of(tally: Mapping[str, int]) -> dict[str, int]:
    return {key.removeprefix("rejects:"): tally[key] for key in sorted(tally) if key.startswith("rejects:")}


class _Build:
    """One run over one shard."""

    def __init__(
        self,
        target: Path,
        work: Path,
        settings: Settings,
        shard: tuple[int, int],
        job: Job,
        source_name: str,
        reasons: set[str],
        skipped: dict[str, int],
    ) -> None:
        self._target = target
        self._work = work
        self._settings = settings
        self._digest = settings.digest()
        self._shard = shard
        self._job = job
        self._source_name = source_name
        self._reasons = reasons
        self._skipped = skipped
        self._parts = range(shard[0], settings.parts, shard[1])
        suffix = manifest_name(shard).removeprefix("manifest").removesuffix(".json")
        self._rejects = target / f"rejects{suffix}.jsonl"

    def run(self, listing: Listing, workers: int, time_limit: float, progress: bool) -> BuildSummary:
        """Build the parts that are missing; returns what stands in the folder then."""
        done = {part: counts for part in self._parts if (counts := self._finished(part)) is not None}
        missing = [part for part in self._parts if part not in done]
        finished_before = any(m.shard == self._shard and m.complete for m in shard_manifests(self._target))
        if missing or not finished_before:
            write_manifest(self._target, self._manifest(Counts(), complete=False))
            files = deal(listing, self._settings.parts, missing, self._work)
            total = sum(1 for file in files.values() for _ in read_lines(file))
            with (
                progress_bar("puzzles", total, enabled=progress) as bar,
                Pool(self._job, min(workers, max(total, 1)), time_limit) as pool,
            ):
                for part, file in files.items():
                    done[part] = self._build_part(part, file, pool, bar)
        counts = sum((done[part] for part in self._parts), Counts())
        if missing or not finished_before:
            self._join_rejects()
            if counts.puzzles == 0 and self._shard == (0, 1):
                self._fail_empty(counts)
            write_manifest(self._target, self._manifest(counts, complete=True))
            self._forget_rejects()
        return BuildSummary(
            path=self._target,
            counts=counts,
            parts_built=len(missing),
            parts_skipped=len(done) - len(missing),
            used=sum(sources_of(self._part_file(part)) for part in self._parts),
            task=get_task(self._job.spec, **self._job.config),
            spec=self._job.spec,
            skipped=self._skipped,
        )

    def _manifest(self, counts: Counts, *, complete: bool) -> Manifest:
        return Manifest(
            settings=self._settings,
            source_root=str(self._job.root),
            source_relative=os.path.relpath(self._job.root, self._target.resolve()),
            source_name=self._source_name,
            shard=self._shard,
            complete=complete,
            counts=counts,
            skipped=self._skipped,
            versions=package_versions(),
        )

    def _part_file(self, part: int) -> Path:
        return self._target / part_name(part, self._settings.parts)

    def _finished(self, part: int) -> Counts | None:
        """Counts of a part that is there; None also for one whose workers died, which is built again."""
        found = finished_part(self._part_file(part))
        if found is None:
            return None
        digest, counts = found
        if digest != self._digest:
            raise JigsawError(
                f"{self._part_file(part)} belongs to another data set; choose another folder or delete it"
            )
        return None if counts.rejects.get("crashed") else counts

    def _build_part(self, part: int, lines: Path, pool: Pool, bar: ProgressBar) -> Counts:
        """Write one part and, before it appears, its rejects."""
        tally: Counter[str] = Counter()
        rejects = self._work / f"{REJECTS}{part:05d}"
        with rejects.open("w", encoding="utf-8") as out:

            def refuse(path: str, refusal: Refusal) -> None:
                reason = refusal.reason if refusal.reason in self._reasons else "failed"
                tally["rejects:" + reason] += 1
                record = {
                    "part": part,
                    "source": path,
                    "index": refusal.index,
                    "reason": reason,
                    "detail": refusal.detail,
                }
                out.write(json.dumps(record) + "\n")

            def usable() -> Iterator[str]:
                for path, *problem in read_lines(lines):
                    if problem:
                        tally["sources"] += 1
                        refuse(path, Refusal(None, problem[0], problem[1]))
                    else:
                        yield path

            def rows() -> Iterator[Row]:
                for path, result in pool.run(usable()):
                    planned = Planned(refusals=[result]) if isinstance(result, Refusal) else result
                    tally["sources"] += planned.selected
                    tally["puzzles"] += len(planned.rows)
                    for refusal in planned.refusals:
                        refuse(path, refusal)
                    yield from planned.rows
                    bar.advance(f"{tally['puzzles']} puzzles, {sum(_rejects_of(tally).values())} rejects")

            def counts() -> Counts:
                out.flush()  # the rejects are on disk before the part can be seen
                return Counts(sources=tally["sources"], puzzles=tally["puzzles"], rejects=_rejects_of(tally))

            write_part(self._part_file(part), self._work, rows(), self._digest, counts)
            return counts()

    def _join_rejects(self) -> None:
        """One rejects file in the order of the parts: from this run, or for parts of earlier runs from the old file."""
        old: dict[int, list[str]] = {}
        if self._rejects.exists():
            for line in filter(None, self._rejects.read_text(encoding="utf-8").split("\n")):
                old.setdefault(json.loads(line)["part"], []).append(line + "\n")
        joined: list[str] = []
        for part in self._parts:
            file = self._work / f"{REJECTS}{part:05d}"
            joined += [file.read_text(encoding="utf-8")] if file.exists() else old.get(part, [])
        write_whole(self._rejects, "".join(joined))

    def _forget_rejects(self) -> None:
        for file in self._work.glob(f"{REJECTS}*"):
            file.unlink()

    def _fail_empty(self, counts: Counts) -> None:
        """No puzzle at all: leave the list of rejects and nothing that looks like a data set."""
        for part in self._parts:
            self._part_file(part).unlink(missing_ok=True)
        (self._target / manifest_name(self._shard)).unlink(missing_ok=True)
        self._forget_rejects()
        if not counts.sources:
            raise JigsawError(
                f"no source of {self._job.root} falls into split {self._settings.split}: add sources, or change "
                f"heldout (now {self._settings.heldout or 'by the folders train/ and heldout/'})"
            )
        why = ", ".join(f"{reason} {number}" for reason, number in counts.rejects.items())
        raise JigsawError(
            f"none of the {counts.sources} sources in {self._job.root} gave a puzzle: {why}; see {self._rejects}"
        )
