"""Logs some completions of the policy with their puzzles: `completions.jsonl`, and the tables of trackers.

In: the batches that GRPO scores. Out: a few rows at intervals, with the puzzle, the text, the reward and the metrics:
`{"step": 40, "id": .., "task": "image", "answer": "2, 1, 4, 3", "completion": .., "total": 0.2, "exact": 0}`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jigsaw.rewards import Composition, completion_text
from jigsaw.rewards.answers import written
from jigsaw.training.logs import drop_lines

Row = dict[str, Any]


class RecordedComposition(Composition):
    """A composition that records the first rows of the latest scored batch.

    Args:
        rewards, metrics: as in `Composition`.
        keep: number of rows to record, one per puzzle.
    """

    def __init__(self, rewards: Sequence[Any], metrics: Sequence[Any], *, keep: int) -> None:
        super().__init__(rewards, metrics)
        self._keep = keep
        self._latest: list[Row] = []

    def record(
        self,
        completions: Sequence[Any],
        columns: Mapping[str, Sequence[Any]],
        totals: Sequence[float | None],
        metrics: Mapping[str, Sequence[float | None]],
    ) -> None:
        """Record the first rows of a scored batch.

        Args:
            completions: strings or message lists.
            columns: `id` and `answer` of the rows, and `task` if the sets have several.
            totals: the weighted sum of the rewards of each row.
            metrics: name -> one value per row.
        """
        first: dict[str, Row] = {}
        for number, (completion, name) in enumerate(zip(completions, columns["id"], strict=True)):
            if len(first) == self._keep:
                break
            if name not in first:
                first[name] = {
                    "id": name,
                    "task": columns["task"][number] if "task" in columns else None,
                    "answer": written(columns["answer"][number]),
                    "completion": completion_text(completion),
                    "total": totals[number],
                    **{metric: values[number] for metric, values in metrics.items()},
                }
        self._latest = list(first.values())

    def writer(self, path: Path, *, every: int) -> Callable[[int], list[Row]]:
        """A function to call after each step: it appends the recorded rows to a file if they are due, and returns them.

        Args:
            path: a file of JSON lines.
            every: steps between logged steps; the first step is logged.
        """

        def write(step: int) -> list[Row]:
            if (step - 1) % every or not self._latest:
                return []
            rows = [{"step": step, **row} for row in self._latest]
            with path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
            return rows

        return write

    @staticmethod
    def truncate(path: Path, *, after: int) -> None:
        """Remove the rows of steps after the one from which training continues."""
        drop_lines(path, lambda row: row["step"] > after)
