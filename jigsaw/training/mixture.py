"""Mixes several puzzle sets into one training set, by weight.

In: puzzle sets of `load_puzzles`, with weights. Out: one `datasets.Dataset` that reads its rows from those sets on
access, so that media are still rendered on access and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jigsaw.errors import JigsawError

Row = dict[str, Any]


def mix(sets: Sequence[Any], weights: Sequence[float], *, seed: int = 0) -> Any:
    """Interleave puzzle sets by weight.

    A single set keeps its order. Several sets are sampled in proportion to their weights, each in its own order, until
    every set was read completely; smaller sets start again.

    Args:
        sets: puzzle sets, of images, videos or both.
        weights: relative shares of the rows, one per set.
        seed: random seed.

    Returns:
        A `datasets.Dataset` with the columns of the sets.

    Raises:
        JigsawError: a set is empty.
    """
    import datasets

    for number, puzzles in enumerate(sets):
        if not len(puzzles):
            raise JigsawError(f"data.train[{number}]: the puzzle set has no rows")
    indices = [
        datasets.Dataset.from_dict({"set": [number] * len(puzzles), "row": list(range(len(puzzles)))})
        for number, puzzles in enumerate(sets)
    ]
    if len(indices) == 1:
        index = indices[0]
    else:
        shares = [weight / sum(weights) for weight in weights]
        index = datasets.interleave_datasets(indices, shares, seed=seed, stopping_strategy="all_exhausted")

    def look_up(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        places = list(zip(batch["set"], batch["row"], strict=True))
        # A GRPO batch has each row once per completion; it is read once.
        rows = {(number, row): sets[number][row] for number, row in dict.fromkeys(places)}
        return _columns([rows[place] for place in places])

    return index.with_transform(look_up)


def map_rows(puzzles: Any, change: Callable[[Row], Row]) -> Any:
    """A view of a set in which every row is changed on access.

    Args:
        puzzles: a puzzle set.
        change: returns the changed row.
    """
    import datasets

    index = datasets.Dataset.from_dict({"row": list(range(len(puzzles)))})

    def look_up(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        return _columns([change(puzzles[row]) for row in batch["row"]])

    return index.with_transform(look_up)


def _columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Rows as columns; None for a missing value, such as `videos` in a row with images."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}
