"""Check of the answers of a set, without its media.

In: an opened set. Out: the kinds of answers of each task, with the id of a row of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

from jigsaw.data.storage.parts import answer_of_row
from jigsaw.errors import JigsawError
from jigsaw.rewards import RewardError
from jigsaw.rewards.answers import check_answer_of

COLUMNS = ("id", "task", "answer", "answer_kind", "answer_args", "answer_value", "classes")

Kinds = Mapping[tuple[str, str], str]
"""Task and answer kind -> the id of one such row."""


def answer_kinds(puzzles: Any, where: str) -> Kinds:
    """The tasks and answer kinds of a set, after a check of all answers; empty for conversations.

    Args:
        puzzles: the set from `load_puzzles`.
        where: name of the set in messages.

    Raises:
        JigsawError: an answer is not valid for its kind; names the row.
    """
    stored = puzzles.with_format(None)
    names = [name for name in COLUMNS if name in stored.column_names]
    if not {"id", "task", "answer"} <= set(names):
        return {}  # the answers of conversations are not scored
    kinds: dict[tuple[str, str], str] = {}
    tables = stored.select_columns(names).with_format("arrow").iter(batch_size=1000)
    for row in chain.from_iterable(table.to_pylist() for table in tables):
        try:
            kind = check_answer_of({**row, "answer": answer_of_row(row)})
        except (RewardError, ValueError) as error:
            raise JigsawError(f"{where}: row {row['id']}: {error}") from error
        kinds.setdefault((row["task"], kind.name), row["id"])
    return kinds
