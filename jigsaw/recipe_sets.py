"""The puzzle sets of a recipe, opened: one `datasets.Dataset` per entry, and all held-out rows in one sequence.

In: folders of puzzle sets, and the entries of the recipe that they belong to. Out: `open_set` and `HeldOut`, which
training and evaluation share.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jigsaw.config.data import DataEntry
from jigsaw.data import load_puzzles
from jigsaw.data.loading.conversations import load_conversations
from jigsaw.data.loading.load import spread


class HeldOut:
    """Held-out rows of several puzzle sets, read one at a time.

    Args:
        sets: the puzzle sets.
        entries: the entries of `data.eval` of these sets; without them no set has a name.

    Attributes:
        sets: the puzzle sets.
    """

    def __init__(self, sets: Sequence[Any], entries: Sequence[DataEntry] = ()) -> None:
        self.sets = list(sets)
        names = [entry.name for entry in entries] or [None] * len(sets)
        self._where = [
            (puzzles, row, name) for puzzles, name in zip(sets, names, strict=True) for row in range(len(puzzles))
        ]

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, index: int) -> dict[str, Any]:
        puzzles, row, _ = self._where[index]
        loaded: dict[str, Any] = puzzles[row]
        return loaded

    @property
    def ids(self) -> list[str]:
        """The ids of the rows, read without their media."""
        of = {id(puzzles): puzzles.with_format(None)["id"] for puzzles, _, _ in self._where}
        return [of[id(puzzles)][row] for puzzles, row, _ in self._where]

    @property
    def names(self) -> list[str | None]:
        """The names of the sets: first None for the main held-out set, then the other names in order."""
        return list(dict.fromkeys([None, *(name for _, _, name in self._where)]))

    def rows_of(self, name: str | None) -> list[int]:
        """The numbers of the rows of a set."""
        return [index for index, (_, _, other) in enumerate(self._where) if other == name]

    @property
    def main(self) -> HeldOut:
        """The rows of the sets without a name."""
        return self._chosen(self.rows_of(None))

    def spread(self, count: int) -> HeldOut:
        """At most `count` of the rows, evenly spread."""
        return self._chosen(spread(len(self), count))

    def share(self, number: int, of: int) -> HeldOut:
        """Every `of`-th row from `number` on: the share of one of several processes."""
        return self._chosen(range(number, len(self), of))

    def _chosen(self, rows: Sequence[int]) -> HeldOut:
        chosen = HeldOut(())
        chosen._where = [self._where[row] for row in rows]
        return chosen


def open_set(path: Path, entry: DataEntry) -> Any:
    """The puzzles of an entry of a recipe, or its conversations.

    Raises:
        JigsawError: there is no such set.
    """
    if entry.conversations is not None:
        puzzles = load_conversations(path, entry.images)
    else:  # a recipe that names a plug-in allows its code to run
        puzzles = load_puzzles(path, task=entry.task_spec)
    return puzzles.select(spread(len(puzzles), entry.limit))
