"""The order in which GRPO sees its puzzles: a function of the seed alone, so that a resumed run continues in it.

TRL's sampler draws a new order per epoch from a generator that lives in memory; after a restart it would begin with the
first order again. Here the order of every epoch can be made again at any time.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

from jigsaw.errors import JigsawError


class Order:
    """Row numbers of a set, epoch after epoch, each in an order of its own.

    Args:
        count: rows of the set.
        batch: rows of one generation; those that are left over at an epoch's end are skipped, as TRL does.
        seed: of the orders.
        shuffle: False keeps the order of the set in every epoch.
    """

    def __init__(self, count: int, batch: int, *, seed: int = 0, shuffle: bool = True) -> None:
        self._count, self._batch, self._seed, self._shuffle = count, batch, seed, shuffle
        self._epoch, self._order = -1, list(range(count))
        self._generator: Any = None

    def batch(self, number: int) -> list[int]:
        """The rows of a batch, counted from 0."""
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
    """Refuse a set that is smaller than one batch.

    Raises:
        JigsawError: it is.
    """
    if len(puzzles) < batch:
        raise JigsawError(
            f"grpo.prompts_per_step: the {batch} puzzles of a step are more than the {len(puzzles)} that there are; "
            "build more (per_source, more sources) or lower it"
        )
