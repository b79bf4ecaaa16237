"""Writing a puzzle set part by part: from the outcomes of sources to Parquet parts, rejects and counts.

In: the `Outcome`s of a build or an import, in the order of the rows. Out: Parquet parts, each written atomically with
its counts in its metadata, and one list of rejects in the order of the parts. The rejects of a part are on disk before
the part is moved into place, so that a run that was killed at any moment can be continued.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jigsaw.data.building.directory_lock import REJECTS
from jigsaw.data.building.planning import Planned, Refusal
from jigsaw.data.storage.manifest import Counts, Manifest, manifest_name
from jigsaw.data.storage.parts import Row, finished_part, part_name, write_part
from jigsaw.errors import JigsawError
from jigsaw.files import write_atomically
from jigsaw.progress import Progress


@dataclass(frozen=True)
class Outcome:
    """The outcome of one source, or of one row of a foreign set.

    Attributes:
        source: its relative path.
        result: its puzzles and refusals, or one refusal for all of it.
        about: further keys of its lines in the list of rejects.
    """

    source: str
    result: Planned | Refusal
    about: Mapping[str, Any] = field(default_factory=dict)


class PartWriter:
    """Writes the parts of one set.

    Args:
        target: folder of the set.
        work: folder on the same disk for unfinished files.
        manifest: of the shard; the hash of its settings is stored in each part.
        reasons: known reasons of refusals; any other is listed as `failed`.

    Attributes:
        target, work, manifest: as given.
        parts: numbers of the parts of the shard.
        rejects: the list of rejects of the shard.
    """

    def __init__(self, target: Path, work: Path, manifest: Manifest, reasons: Collection[str]) -> None:
        self.target, self.work, self.manifest = target, work, manifest
        self._reasons = reasons
        self.parts = range(manifest.shard[0], manifest.settings.parts, manifest.shard[1])
        suffix = manifest_name(manifest.shard).removeprefix("manifest").removesuffix(".json")
        self.rejects = target / f"rejects{suffix}.jsonl"

    def file(self, part: int) -> Path:
        """The path of a part."""
        return self.target / part_name(part, self.manifest.settings.parts)

    def finished(self, part: int) -> Counts | None:
        """Counts of a finished part; None if it is missing, or if workers died on it, so that it is built again."""
        found = finished_part(self.file(part))
        if found is None:
            return None
        digest, counts = found
        if digest != self.manifest.settings.digest():
            raise JigsawError(f"{self.file(part)} belongs to another data set; choose another folder or delete it")
        return None if counts.rejects.get("crashed") else counts

    def write(self, part: int, outcomes: Iterable[Outcome], bar: Progress) -> Counts:
        """Write a part and, before it, its rejects."""
        sources = puzzles = 0
        refused: Counter[str] = Counter()
        with self._rejects(part).open("w", encoding="utf-8") as out:

            def rows() -> Iterator[Row]:
                nonlocal sources, puzzles
                for outcome in outcomes:
                    planned = outcome.result
                    if isinstance(planned, Refusal):
                        planned = Planned(refusals=[planned])
                    sources += planned.selected
                    puzzles += len(planned.rows)
                    for refusal in planned.refusals:
                        reason = refusal.reason if refusal.reason in self._reasons else "failed"
                        refused[reason] += 1
                        record = {"part": part, "source": outcome.source, "index": refusal.index, **outcome.about}
                        out.write(json.dumps(record | {"reason": reason, "detail": refusal.detail}) + "\n")
                    yield from planned.rows
                    bar.advance(f"{puzzles} puzzles, {refused.total()} rejects")

            def counts() -> Counts:
                out.flush()  # the rejects are on disk before the part is moved into place
                return Counts(sources=sources, puzzles=puzzles, rejects=dict(sorted(refused.items())))

            write_part(self.file(part), self.work, rows(), self.manifest.settings.digest(), counts)
            return counts()

    def join_rejects(self) -> None:
        """Write one list of rejects in the order of the parts; those of earlier runs are taken from the old list."""
        old: dict[int, list[str]] = {}
        if self.rejects.exists():
            for line in filter(None, self.rejects.read_text(encoding="utf-8").split("\n")):
                old.setdefault(json.loads(line)["part"], []).append(line + "\n")
        joined: list[str] = []
        for part in self.parts:
            own = self._rejects(part)
            joined += [own.read_text(encoding="utf-8")] if own.exists() else old.get(part, [])
        write_atomically(self.rejects, "".join(joined))

    def forget_rejects(self) -> None:
        """Remove the files that `join_rejects` has joined."""
        for file in self.work.glob(f"{REJECTS}*"):
            file.unlink()

    def _rejects(self, part: int) -> Path:
        return self.work / f"{REJECTS}{part:05d}"
