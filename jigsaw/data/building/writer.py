"""Writing a data set part by part: what became of the sources goes in, parts, rejects and counts come out.

In: `Outcome`s, in the order of the rows, from a build or an import. Out: Parquet parts that appear whole or not at all,
each with its counts in its metadata, and one list of rejects in the order of the parts. The rejects of a part are on
disk before the part can be seen, so that a run that is killed at any moment can be finished.
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
from jigsaw.data.storage.manifest import Counts
from jigsaw.data.storage.parts import Row, finished_part, part_name, write_part
from jigsaw.data.storage.settings import Settings
from jigsaw.errors import JigsawError
from jigsaw.files import write_atomically
from jigsaw.progress import ProgressBar


@dataclass(frozen=True)
class Outcome:
    """What became of one source, or of one row of a foreign set.

    Attributes:
        source: its relative path.
        result: its puzzles and refusals, or why there are none.
        about: further keys of its lines in the list of rejects.
    """

    source: str
    result: Planned | Refusal
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def planned(self) -> Planned:
        """The puzzles and refusals."""
        return Planned(refusals=[self.result]) if isinstance(self.result, Refusal) else self.result


class PartWriter:
    """The parts of one data set.

    Args:
        target: the data set's folder.
        work: folder on the same disk for unfinished files.
        settings: of the whole set; their hash is kept in every part.
        reasons: reasons of refusals that are known; any other is listed as `failed`.
    """

    def __init__(self, target: Path, work: Path, settings: Settings, reasons: Collection[str]) -> None:
        self._target = target
        self._work = work
        self._parts = settings.parts
        self._digest = settings.digest()
        self._reasons = reasons

    def file(self, part: int) -> Path:
        """Where a part is, or will be."""
        return self._target / part_name(part, self._parts)

    def finished(self, part: int) -> Counts | None:
        """Counts of a part that is there; None also for one whose workers died, which is built again."""
        found = finished_part(self.file(part))
        if found is None:
            return None
        digest, counts = found
        if digest != self._digest:
            raise JigsawError(f"{self.file(part)} belongs to another data set; choose another folder or delete it")
        return None if counts.rejects.get("crashed") else counts

    def write(self, part: int, outcomes: Iterable[Outcome], bar: ProgressBar) -> Counts:
        """Write one part and, before it appears, its rejects."""
        sources = puzzles = 0
        refused: Counter[str] = Counter()
        with self._rejects(part).open("w", encoding="utf-8") as out:

            def rows() -> Iterator[Row]:
                nonlocal sources, puzzles
                for outcome in outcomes:
                    planned = outcome.planned
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
                out.flush()  # the rejects are on disk before the part can be seen
                return Counts(sources=sources, puzzles=puzzles, rejects=dict(sorted(refused.items())))

            write_part(self.file(part), self._work, rows(), self._digest, counts)
            return counts()

    def join_rejects(self, file: Path, parts: Iterable[int]) -> None:
        """One list of rejects in the order of the parts: of this run, or for parts of earlier runs of the old list."""
        old: dict[int, list[str]] = {}
        if file.exists():
            for line in filter(None, file.read_text(encoding="utf-8").split("\n")):
                old.setdefault(json.loads(line)["part"], []).append(line + "\n")
        joined: list[str] = []
        for part in parts:
            own = self._rejects(part)
            joined += [own.read_text(encoding="utf-8")] if own.exists() else old.get(part, [])
        write_atomically(file, "".join(joined))

    def forget_rejects(self) -> None:
        """Remove what `join_rejects` has joined."""
        for file in self._work.glob(f"{REJECTS}*"):
            file.unlink()

    def _rejects(self, part: int) -> Path:
        return self._work / f"{REJECTS}{part:05d}"
