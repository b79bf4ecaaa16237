"""The prompts of a GRPO run: in a fixed order with prefetching, or chosen by a curriculum.

In: a puzzle set or a curriculum. Out: this process's rows of a generation batch. In a fixed order, threads decode and
encode the next batch during training on the present one. A curriculum's choice depends on the results of the present
batch, so its rows are read when they are needed.
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
"""Maximum number of decoding threads."""


class PromptRows(NamedTuple):
    """The rows of a generation batch, and their encoding if it was prefetched."""

    rows: list[Row]
    encoded: PromptBatch | None = None


class Prompts(Protocol):
    """A source of the rows of generation batches."""

    def next(self, generation: int, progress: float) -> PromptRows:
        """This process's rows of a generation batch. Collective.

        Args:
            generation: number of the generation batch, from 0.
            progress: progress of training, 0 to 1.
        """

    def close(self) -> None:
        """Stop prefetching."""


class OrderedPrompts:
    """The rows of a puzzle set in an order that depends only on the seed.

    Args:
        puzzles: the set.
        order: order of its rows.
        encode: converts rows to tensors, `PromptBatch.encode`. The caller encodes the rows of the first batch, since
            the time limit of chat templates only works in the main thread.
        share: prompts of this process in a generation batch.
        rank: rank of this process.
        last: number of the last generation batch, after which nothing is prefetched.
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
            # Threads run tasks in order, so all reads have started when this task waits for them.
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
    """Rows that a curriculum chooses, also the fresh rows of dynamic sampling.

    Args:
        curriculum: the curriculum.
        share: prompts of this process in a generation batch.
        rank: rank of this process.
    """

    def __init__(self, curriculum: Curriculum, *, share: int, rank: int = 0) -> None:
        self._curriculum, self._share, self._rank = curriculum, share, rank

    def next(self, generation: int, progress: float) -> PromptRows:
        """See `Prompts`.

        Raises:
            JigsawError: the curriculum has fewer puzzles at present than a step needs.
        """
        rows, wanted, chosen = self._choose(self._share, progress)
        if chosen < wanted:
            raise JigsawError(
                f"grpo.prompts_per_step: a step needs {wanted} puzzles, more than the curriculum has at present"
            )
        return PromptRows(rows)

    def fresh(self, count: int, progress: float, avoid: Sequence[str]) -> list[Row]:
        """At most `count` further rows for this process, without the ids in `avoid`. Collective."""
        return self._choose(count, progress, avoid)[0]

    def close(self) -> None:
        """See `Prompts`."""

    def _choose(self, count: int, progress: float, avoid: Sequence[str] = ()) -> tuple[list[Row], int, int]:
        """This process's rows, and the numbers of rows that all processes need and got; all choose the same rows."""
        gathered = all_gather_object((count, list(avoid)))
        counts, unwanted = [number for number, _ in gathered], [name for _, names in gathered for name in names]
        chosen = self._curriculum.choose(sum(counts), progress=progress, avoid=unwanted)
        start = sum(counts[: self._rank])
        rows = [puzzles[row] for puzzles, row in chosen[start : start + count]]
        return rows, sum(counts), len(chosen)
