"""Some of what the policy wrote, kept beside its puzzle: `completions.jsonl` of a run, and the trackers' tables.

In: the batches that GRPO scores. Out: a few rows at intervals, with the puzzle, the text, the reward and the watched
metrics: `{"step": 40, "id": .., "task": "image", "answer": "2, 1, 4, 3", "completion": .., "total": 0.2, "exact": 0}`.
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
    """A composition that remembers the first rows of the batch that was scored last.

    Args:
        rewards, metrics: as of `Composition`.
        keep: how many rows are remembered; the first of as many different puzzles.
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
        """Keep the first rows of a batch as they were scored.

        Args:
            completions: strings or message lists.
            columns: `id`, `answer` and, where there are several, `task` of the rows.
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
        """What is called after each step: appends the remembered rows to a file where one is due, and returns them.

        Args:
            path: a file of JSON lines.
            every: steps between rows that are kept; the first step's are.
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
        """Drop the rows of steps beyond the one from which training continues."""
        drop_lines(path, lambda row: row["step"] > after)
