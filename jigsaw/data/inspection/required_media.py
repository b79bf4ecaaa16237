"""Check before training that all media of a set exist; nothing is decoded.

In: an opened set. Out: nothing, or an error with the row and the remedy. Rows that store their media must have one for
each placeholder; rows that are rendered must have their source on disk.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jigsaw.data.sources import missing_file
from jigsaw.data.storage.media import MEDIA_COLUMNS, placeholders
from jigsaw.errors import JigsawError
from jigsaw.tasks import TaskError, task_named

_COLUMNS = ("id", "task", "prompt", "source", "origin")


def require_media(puzzles: Any, where: str) -> None:
    """Check that no row lacks a medium or its source; conversations were checked when they were opened.

    Args:
        puzzles: the set from `load_puzzles`.
        where: name of the set in messages.

    Raises:
        JigsawError: names the row.
    """
    import pyarrow.compute as pc

    stored = puzzles.with_format(None)
    if not {*_COLUMNS, *MEDIA_COLUMNS.values()} <= set(stored.column_names):
        return
    known: set[tuple[str, str]] = set()
    for table in stored.with_format("arrow").iter(batch_size=1000):
        counts = {name: pc.list_value_length(table[name]).to_pylist() for name in MEDIA_COLUMNS.values()}
        for at, row in enumerate(table.select(_COLUMNS).to_pylist()):
            has = {name: values[at] for name, values in counts.items()}
            if any(count is not None for count in has.values()) or _is_stored(row["task"]):
                _require_held(row["prompt"], has, f"{where}: row {row['id']}")
            elif (source := (row["origin"], row["source"]["path"])) not in known:
                known.add(source)
                _require_source(*source, f"{where}: row {row['id']}")


def _is_stored(task: str) -> bool:
    try:
        return task_named(task).STORED
    except TaskError:  # a plug-in that is only known by its spec, which renders its puzzles
        return False


def _require_held(prompt: Any, has: dict[str, int | None], row: str) -> None:
    asked = placeholders(prompt)
    for kind, column in MEDIA_COLUMNS.items():
        if asked[kind] != (has[column] or 0):
            raise JigsawError(
                f"{row}: its prompt has placeholders for {asked[kind]} {column}, but it has {has[column] or 0}; "
                "import or build the set again"
            )


def _require_source(origin: str, path: str, row: str) -> None:
    root = Path(json.loads(origin)["source_root"])
    gone = missing_file(root, path)
    if gone is not None:
        raise JigsawError(f"{row}: its source {gone} is not in {root}; put the file back or build the set again")
