"""The order in which GRPO sees its puzzles: a function of the seed alone, so that a resumed run goes on in it.

TRL's sampler draws a new order per epoch from a generator that lives in memory; after a restart it would begin with the
first order again. Here the orders of all epochs are laid end to end before training, as TRL would draw them, and the
trainer walks through them once. Remove when TRL's RepeatSampler takes the epoch into account (1.16 does not).
"""

from __future__ import annotations

from typing import Any

from jigsaw.errors import JigsawError


def ordered(puzzles: Any, *, rows: int, batch: int, seed: int, shuffle: bool = True) -> Any:
    """At least `rows` rows of a puzzle set, epoch after epoch, each in an order of its own.

    Args:
        puzzles: a `datasets.Dataset`.
        rows: how many are needed in all.
        batch: rows of one generation; those that are left over at an epoch's end are skipped, as TRL does.
        seed: of the orders.
        shuffle: False keeps the order of the set in every epoch.

    Returns:
        A `datasets.Dataset` of whole batches.

    Raises:
        JigsawError: the set is smaller than one batch.
    """
    import torch

    require_batch(puzzles, batch)
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    while len(order) < rows:
        epoch = torch.randperm(len(puzzles), generator=generator).tolist() if shuffle else list(range(len(puzzles)))
        order += epoch[: len(puzzles) // batch * batch]
    return puzzles.select(order[: -(-rows // batch) * batch])


def require_batch(puzzles: Any, batch: int) -> None:
    """Refuse a set that is smaller than one batch.

    Raises:
        JigsawError: it is.
    """
    if len(puzzles) < batch:
        raise JigsawError(
            f"grpo.prompts_per_step: the {batch} puzzles of a step are more than the {len(puzzles)} that there are; "
            "build more (per_source, more sources) or lower it"
        )
