"""The puzzles of a GRPO run: which come when, read ahead of time.

In: a puzzle set or a curriculum. Out: the rows of a generation batch, this process's share of them. In order, the rows
of the next batch are decoded and encoded by threads while this one trains; which rows a curriculum chooses depends on
how this batch goes, so those are read when they are asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

from jigsaw.errors import JigsawError
from jigsaw.models.prompt_batch import PromptBatch
from jigsaw.training.curriculum import Curriculum
from jigsaw.training.distributed import all_gather_object
from jigsaw.training.order import Order

Row = dict[str, Any]
THREADS = 4
"""Threads that decode, at most."""


class PromptRows(NamedTuple):
    """The rows of a generation batch, and the same encoded where that was done ahead of time."""

    rows: list[Row]
    encoded: PromptBatch | None = None


class Prompts(Protocol):
    """Where the rows of a generation batch come from."""

    def next(self, generation: int, progress: float) -> PromptRows:
        """This process's rows of a generation batch. Collective.

        Args:
            generation: its number, from 0.
            progress: of training, 0 to 1.
        """

    def close(self) -> None:
        """Stop reading ahead."""


class OrderedPrompts:
    """The rows of a puzzle set in an order that the seed alone decides.

    Args:
        puzzles: the set.
        order: of its rows.
        encode: makes tensors of rows, `PromptBatch.encode`. The rows of the first batch are left to the caller: a chat
            template has a time limit in the main thread alone.
        share: prompts of this process in a generation batch.
        rank: of this process.
        last: number of the last generation batch, beyond which nothing is read ahead.
    """

    def __init__(
        self,
        puzzles: Any,
        order: Order,
        encode: Callable[[list[Row]], PromptBatch],
        *,
        share: int,
        rank: int = 0,
        last: int,
    ) -> None:
        self._puzzles, self._order, self._encode, self._last = puzzles, order, encode, last
        self._own = slice(rank * share, (rank + 1) * share)
        self._threads = ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1), thread_name_prefix="jigsaw-decode")
        self._ahead: dict[int, Future[PromptRows]] = {}

    def next(self, generation: int, progress: float) -> PromptRows:
        """See `Prompts`."""
        ahead = self._ahead.pop(generation, None)
        drawn = PromptRows(_results(self._read(generation))) if ahead is None else ahead.result()
        if generation < self._last:
            # Threads take tasks in their order: those that read the rows have all begun when this one waits for them.
            rows = self._read(generation + 1)
            self._ahead = {generation + 1: self._threads.submit(self._encoded, rows)}
        return drawn

    def close(self) -> None:
        """See `Prompts`."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _read(self, generation: int) -> list[Future[Row]]:
        numbers = self._order.batch(generation)[self._own]
        return [self._threads.submit(self._puzzles.__getitem__, number) for number in numbers]

    def _encoded(self, reading: Sequence[Future[Row]]) -> PromptRows:
        rows = _results(reading)
        return PromptRows(rows, self._encode(rows))


def _results(reading: Sequence[Future[Row]]) -> list[Row]:
    return [row.result() for row in reading]


class CurriculumPrompts:
    """Rows that a curriculum chooses; also those that take the place of groups whose rewards are all equal.

    Args:
        curriculum: that chooses.
        share: prompts of this process in a generation batch.
        rank: of this process.
    """

    def __init__(self, curriculum: Curriculum, *, share: int, rank: int = 0) -> None:
        self._curriculum, self._share, self._rank = curriculum, share, rank

    def next(self, generation: int, progress: float) -> PromptRows:
        """See `Prompts`.

        Raises:
            JigsawError: the curriculum has fewer puzzles at the moment than a step takes.
        """
        rows, wanted, chosen = self._choose(self._share, progress)
        if chosen < wanted:
            raise JigsawError(
                f"grpo.prompts_per_step: the {wanted} puzzles of a step are more than the curriculum has just now"
            )
        return PromptRows(rows)

    def fresh(self, count: int, progress: float, avoid: Sequence[str]) -> list[Row]:
        """At most `count` further rows for this process, none of the ids in `avoid`. Collective."""
        return self._choose(count, progress, avoid)[0]

    def close(self) -> None:
        """See `Prompts`."""

    def _choose(self, count: int, progress: float, avoid: Sequence[str] = ()) -> tuple[list[Row], int, int]:
        """This process's rows, and how many all processes wanted and got; all of them draw the same rows."""
        gathered = all_gather_object((count, list(avoid)))
        counts, unwanted = [number for number, _ in gathered], [name for _, names in gathered for name in names]
        chosen = self._curriculum.choose(sum(counts), progress=progress, avoid=unwanted)
        start = sum(counts[: self._rank])
        rows = [puzzles[row] for puzzles, row in chosen[start : start + count]]
        return rows, sum(counts), len(chosen)
