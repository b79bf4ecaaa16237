"""Some of what the policy wrote, kept beside its puzzle: `completions.jsonl` of a run, and the trackers' tables.

In: the batches that GRPO scores. Out: a few rows at intervals, with the puzzle, the text, the reward and the watched
metrics: `{"step": 40, "id": .., "task": "image", "answer": "2, 1, 4, 3", "completion": .., "total": 0.2, "exact": 0}`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jigsaw.training.logs import forget_lines
from rewards import Composition, completion_text

Row = dict[str, Any]


class RecordedComposition(Composition):
    """A composition that remembers the first rows of the batch that it measured last.

    Args:
        rewards, metrics: as of `Composition`.
        keep: how many rows are remembered; the first of as many different puzzles.
    """

    def __init__(self, rewards: Sequence[Any], metrics: Sequence[Any], *, keep: int) -> None:
        super().__init__(rewards, metrics)
        self._keep = keep
        self._latest: list[tuple[Any, Row]] = []

    def measure(self, completions: Sequence[Any], columns: Mapping[str, Any]) -> dict[str, list[float | None]]:
        """As `Composition.measure`."""
        count = len(completions)
        rows = [{name: values[i] for name, values in columns.items() if len(values) == count} for i in range(count)]
        first = {
            row["id"]: (completion, row) for completion, row in zip(reversed(completions), reversed(rows), strict=True)
        }
        self._latest = list(reversed(first.values()))[: self._keep]
        return super().measure(completions, columns)

    def writer(self, path: Path, *, every: int) -> Callable[[int], list[Row]]:
        """What is called after each step: appends the remembered rows to a file where one is due, and returns them.

        Args:
            path: a file of JSON lines.
            every: steps between rows that are kept; the first step's are.
        """

        def write(step: int) -> list[Row]:
            if (step - 1) % every or not self._latest:
                return []
            rows = [{"step": step, **row} for row in self._scored()]
            with path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
            return rows

        return write

    @staticmethod
    def forget(path: Path, *, after: int) -> None:
        """Drop the rows of steps beyond the one that training goes on from."""
        forget_lines(path, lambda row: row["step"] > after)

    def _scored(self) -> list[Row]:
        completions = [completion for completion, _ in self._latest]
        columns = {name: [row[name] for _, row in self._latest] for name in self._latest[0][1]}
        totals = self.total(self.score(completions, columns))
        metrics = super().measure(completions, columns)
        return [
            {
                "id": row["id"],
                "task": row.get("task"),
                "answer": ", ".join(map(str, row["answer"])),
                "completion": completion_text(completion),
                "total": total,
                **{name: values[number] for name, values in metrics.items()},
            }
            for number, ((completion, row), total) in enumerate(zip(self._latest, totals, strict=True))
        ]
