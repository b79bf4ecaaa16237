"""One training set out of several puzzle sets, in the shares that a recipe asks for.

In: puzzle sets as `load_puzzles` gives them, with weights. Out: one `datasets.Dataset` whose rows are looked up in
those sets when they are read, so that pixels are still made on access and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jigsaw.errors import JigsawError

Row = dict[str, Any]


def mix(sets: Sequence[Any], weights: Sequence[float], *, seed: int = 0) -> Any:
    """Interleave puzzle sets by weight.

    A single set keeps its order. Several are drawn from at random, each in its own order, in proportion to the weights,
    until each has been used up once; the smaller ones start over meanwhile.

    Args:
        sets: puzzle sets, of images, videos or both.
        weights: relative shares of the rows, one per set.
        seed: of the draw.

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
        # A GRPO batch holds each row once per completion: it is read once.
        found = {(number, row): sets[number][row] for number, row in dict.fromkeys(places)}
        return _columns([found[place] for place in places])

    return index.with_transform(look_up)


def map_rows(puzzles: Any, change: Callable[[Row], Row]) -> Any:
    """The same set with every row changed when it is read.

    Args:
        puzzles: a puzzle set.
        change: gets a row, gives the row that is seen instead.
    """
    import datasets

    index = datasets.Dataset.from_dict({"row": list(range(len(puzzles)))})

    def look_up(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        return _columns([change(puzzles[row]) for row in batch["row"]])

    return index.with_transform(look_up)


def _columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Rows as columns; None where a row lacks one, as rows of images lack `videos`."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}
