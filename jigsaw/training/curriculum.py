"""Curriculum: samples puzzles from buckets by task and number of pieces, in stages or by their informative groups.

In: puzzle sets with weights. Out: rows. The weights of the sets apply per task: a curriculum changes the shares of the
buckets of a task, but not those of tasks. `static` only uses the buckets of the present stage; `adaptive` prefers
buckets with a large share of informative groups, and still uses every bucket. All processes sample the same rows from
the same state and take their part of them; the state is a small dict, which checkpoints store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any

from jigsaw.config.schema import CurriculumSection
from jigsaw.errors import JigsawError

Bucket = tuple[str, int]
"""Task and number of pieces."""


@dataclass(frozen=True)
class _Cell:
    """The rows of one set in one bucket, and their share of all rows without a curriculum."""

    puzzles: Any
    bucket: Bucket
    rows: Sequence[int]
    ids: Sequence[str]
    share: float


class Curriculum:
    """An endless source of rows.

    Args:
        sets: puzzle sets.
        weights: relative shares of the rows, one per set.
        section: the recipe's `curriculum` section.
        seed: random seed of the order.

    Raises:
        JigsawError: a stage has numbers of pieces that no set has.
    """

    def __init__(
        self, sets: Sequence[Any], weights: Sequence[float], section: CurriculumSection, *, seed: int = 0
    ) -> None:
        self._section, self._seed = section, seed
        self._cells = [
            cell
            for puzzles, weight in zip(sets, weights, strict=True)
            for cell in _cells(puzzles, weight / sum(weights))
        ]
        self._informative = {cell.bucket: 1.0 for cell in self._cells}
        self._taken = [0] * len(self._cells)
        self._draws = 0
        self._check_stages()

    @property
    def buckets(self) -> list[Bucket]:
        """All buckets in order."""
        return sorted(self._informative)

    @property
    def informative(self) -> dict[str, float]:
        """Smoothed share of informative groups of each bucket: `{"image/9": 0.4}`."""
        return {_name(bucket): self._informative[bucket] for bucket in self.buckets}

    def choose(self, count: int, *, progress: float = 0.0, avoid: Collection[str] = ()) -> list[tuple[Any, int]]:
        """The next rows, not yet loaded: set and index of each.

        Args:
            count: number of rows.
            progress: progress of training, 0 to 1.
            avoid: ids of rows to exclude; fewer rows are returned if there are no others.
        """
        self._draws += 1
        shares = self.shares(progress)
        weights = [cell.share * shares[cell.bucket] / self._plain_share(cell.bucket) for cell in self._cells]
        numbers = Random(f"{self._seed} {self._draws}").choices(range(len(self._cells)), weights, k=count)
        unwanted, chosen = set(avoid), []
        for number in numbers:
            place = self._next(number, unwanted)
            if place is not None:
                cell = self._cells[number]
                chosen.append((cell.puzzles, cell.rows[place]))
                unwanted.add(cell.ids[place])
        return chosen

    def shares(self, progress: float = 0.0) -> dict[Bucket, float]:
        """The present share of rows of each bucket; the shares of a task's buckets add up to that of the task."""
        plain = {bucket: self._plain_share(bucket) for bucket in self._informative}
        preferred = {bucket: share * self._preference(bucket, progress) for bucket, share in plain.items()}
        return {
            bucket: value * _of_task(plain, bucket[0]) / _of_task(preferred, bucket[0])
            for bucket, value in preferred.items()
        }

    def update(self, groups: Iterable[tuple[Bucket, bool]]) -> None:
        """Update the shares with groups, each a bucket and whether it was informative; the same on all processes."""
        total: Counter[Bucket] = Counter()
        informative: Counter[Bucket] = Counter()
        for bucket, is_informative in groups:
            total[bucket] += 1
            informative[bucket] += is_informative
        for bucket, count in total.items():
            kept = self._section.memory**count
            self._informative[bucket] = kept * self._informative[bucket] + (1 - kept) * informative[bucket] / count

    def state(self) -> dict[str, Any]:
        """The state that a resumed run needs; JSON values."""
        return {"draws": self._draws, "taken": list(self._taken), "informative": self.informative}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore a state.

        Raises:
            JigsawError: the state is from other sets.
        """
        if state["informative"].keys() != self.informative.keys() or len(state["taken"]) != len(self._taken):
            raise JigsawError(
                "the checkpoint was made with other puzzle sets: it has buckets "
                f"{', '.join(state['informative'])}, the recipe {', '.join(self.informative)}"
            )
        self._draws, self._taken = state["draws"], list(state["taken"])
        self._informative = {bucket: state["informative"][_name(bucket)] for bucket in self._informative}

    def _next(self, number: int, unwanted: Collection[str]) -> int | None:
        """The next row of a cell, each once per epoch; None if all are excluded."""
        cell = self._cells[number]
        for _ in cell.rows:
            epoch, place = divmod(self._taken[number], len(cell.rows))
            self._taken[number] += 1
            row = _order(len(cell.rows), f"{self._seed} {number} {epoch}")[place]
            if cell.ids[row] not in unwanted:
                return row
        return None

    def _plain_share(self, bucket: Bucket) -> float:
        return sum(cell.share for cell in self._cells if cell.bucket == bucket)

    def _preference(self, bucket: Bucket, progress: float) -> float:
        if self._section.mode == "adaptive":
            return max(self._section.floor, self._informative[bucket])
        task, pieces = bucket
        for stage in self._section.stages:
            if progress < stage.until and stage.task in (None, task):
                return float(pieces in stage.pieces)
        return 1.0

    def _check_stages(self) -> None:
        tasks = sorted({task for task, _ in self._informative})
        for number, stage in enumerate(self._section.stages):
            for task in tasks if stage.task is None else [stage.task]:
                found = sorted(pieces for name, pieces in self._informative if name == task)
                if not set(stage.pieces) & set(found):
                    reason = (
                        f"{task} puzzles have {', '.join(map(str, found))}" if found else f"there are no {task} sets"
                    )
                    raise JigsawError(
                        f"curriculum.stages[{number}]: no {task} puzzle has "
                        f"{', '.join(map(str, stage.pieces))} pieces: {reason}"
                    )


def _cells(puzzles: Any, weight: float) -> list[_Cell]:
    columns = puzzles.with_format(None)
    tasks, pieces, ids = (columns[name][:] for name in ("task", "num_pieces", "id"))
    found: dict[Bucket, list[int]] = {}
    for row, bucket in enumerate(zip(tasks, pieces, strict=True)):
        found.setdefault(bucket, []).append(row)
    return [
        _Cell(puzzles, bucket, rows, [ids[row] for row in rows], weight * len(rows) / len(ids))
        for bucket, rows in sorted(found.items())
    ]


@lru_cache(maxsize=64)
def _order(size: int, seed: str) -> Sequence[int]:
    """A random order of `range(size)`."""
    return Random(seed).sample(range(size), size)


def _of_task(shares: Mapping[Bucket, float], task: str) -> float:
    return sum(share for bucket, share in shares.items() if bucket[0] == task)


def _name(bucket: Bucket) -> str:
    return f"{bucket[0]}/{bucket[1]}"
