"""The order of puzzles in GRPO, a function of the seed only, so that a resumed run continues in the same order.

TRL's sampler shuffles each epoch with a generator in memory, which starts again after a restart. Here the order of any
epoch can be recomputed.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

from jigsaw.errors import JigsawError


class Order:
    """Row numbers of a set for all epochs, each in a different order.

    Args:
        count: number of rows in the set.
        batch: rows of one generation batch; rows left over at the end of an epoch are skipped, as in TRL.
        seed: random seed of the orders.
        shuffle: False keeps the order of the set in every epoch.
    """

    def __init__(self, count: int, batch: int, *, seed: int = 0, shuffle: bool = True) -> None:
        self._count, self._batch, self._seed, self._shuffle = count, batch, seed, shuffle
        self._epoch, self._order = -1, list(range(count))
        self._generator: Any = None

    def batch(self, number: int) -> list[int]:
        """The rows of batch `number`, counted from 0."""
        epoch, place = divmod(number, self._count // self._batch)
        self._go_to(epoch)
        return self._order[place * self._batch : (place + 1) * self._batch]

    def _go_to(self, epoch: int) -> None:
        import torch

        if not self._shuffle or epoch == self._epoch:
            return
        if self._generator is None or epoch < self._epoch:
            self._generator, self._epoch = torch.Generator().manual_seed(self._seed), -1
        while self._epoch < epoch:  # one generator makes the orders of all epochs, as TRL's would
            self._order = torch.randperm(self._count, generator=self._generator).tolist()
            self._epoch += 1


def require_batch(puzzles: Sized, batch: int) -> None:
    """Check that a set has enough puzzles for one batch.

    Raises:
        JigsawError: it has fewer.
    """
    if len(puzzles) < batch:
        raise JigsawError(
            f"grpo.prompts_per_step: a step needs {batch} puzzles and the training set has {len(puzzles)}; "
            "build more (per_source, more sources) or reduce it"
        )
