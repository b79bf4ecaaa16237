"""The answers of a set, checked without its media: each is one of its kind.

In: an opened set. Out: which kinds of answers each task has, with a row of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jigsaw.data.storage.parts import answer_of_row
from jigsaw.errors import JigsawError
from jigsaw.rewards import RewardError
from jigsaw.rewards.answers import check_answer_of

COLUMNS = ("id", "task", "answer", "answer_kind", "answer_args", "answer_value", "classes")

Kinds = Mapping[tuple[str, str], str]
"""Task and answer kind -> the id of one such row."""


def answer_kinds(puzzles: Any, where: str) -> Kinds:
    """Task and answer kind of the rows of a set, after every answer was checked; nothing for conversations.

    Args:
        puzzles: as `load_puzzles` gives it.
        where: what messages call the set.

    Raises:
        JigsawError: an answer is outside of its kind; names the row.
    """
    stored = puzzles.with_format(None)
    names = [name for name in COLUMNS if name in stored.column_names]
    if not {"id", "task", "answer"} <= set(names):
        return {}  # conversations: their answers are text to learn, not to score
    kinds: dict[tuple[str, str], str] = {}
    for row in _rows(stored.select_columns(names)):
        try:
            kind = check_answer_of({**row, "answer": answer_of_row(row)})
        except (RewardError, ValueError) as error:
            raise JigsawError(f"{where}: row {row['id']}: {error}") from error
        kinds.setdefault((row["task"], kind.name), row["id"])
    return kinds


def _rows(stored: Any) -> Iterator[dict[str, Any]]:
    for batch in stored.iter(batch_size=1000):
        names = list(batch)
        for values in zip(*(batch[name] for name in names), strict=True):
            yield dict(zip(names, values, strict=True))
