"""The same question in other words, to tell a model that understands from one that knows a prompt by heart.

In: loaded rows of a built-in task. Out: the rows with another prompt around the same media; how the answer is to be
given stays word for word, since the parser holds the model to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jigsaw.errors import JigsawError
from jigsaw.tasks import answer_instruction, user_message

WORDINGS: Mapping[str, Sequence[tuple[str, str, str]]] = {
    # opening, label of a piece, question
    "image": (
        ("Somebody mixed up the {count} pieces of a picture.", "Piece {number}", "Which piece goes where, row by row?"),
        (
            "Below are {count} fragments of one photograph, {rows} high and {columns} wide, out of order.",
            "({number})",
            "Name the fragments as one reads a page, from the upper left to the lower right.",
        ),
    ),
    "video": (
        ("Somebody mixed up {count} scenes of a film.", "Scene {number}", "In what sequence did they happen?"),
        ("These {count} recordings follow each other in time.", "({number})", "Sort them from the first to the last."),
    ),
    "depth": (
        ("Look at the {count} numbered spots.", "", "Which is closest to you, which comes next, and so on?"),
        ("{count} marks were put on things at several distances.", "", "Sort the marks from close by to far away."),
    ),
}


def wordings_of(task: str, geometry: Mapping[str, Any]) -> Sequence[tuple[str, str, str]]:
    """The other wordings of a task's question; none where clips are cut into tiles: these ask for time alone.

    Args:
        task: its name.
        geometry: of a puzzle, or the task's configuration: a mapping that may hold a `grid`.
    """
    return () if task == "video" and geometry.get("grid") else WORDINGS.get(task, ())


def reworded(rows: Sequence[Mapping[str, Any]], wording: int) -> list[dict[str, Any]]:
    """Rows with their own prompts (wording 0), or with the same question put otherwise (1, 2).

    Raises:
        JigsawError: there is no such wording, or none for a row's task.
    """
    if wording == 0:
        return [dict(row) for row in rows]
    return [dict(row) | {"prompt": _prompt(row, wording)} for row in rows]


def _prompt(row: Mapping[str, Any], wording: int) -> list[dict[str, Any]]:
    known = wordings_of(row["task"], row["geometry"])
    if not known and row["task"] in WORDINGS:
        raise JigsawError("--wording: a video set with `grid` has no other wordings; leave --wording out")
    if not 1 <= wording <= len(known):
        raise JigsawError(
            f"--wording: task {row['task']} has {len(known)} other wordings, there is no number {wording}"
        )
    opening, label, question = known[wording - 1]
    count = len(row["answer"])
    grid = row["geometry"].get("grid") or (1, count)
    media = [part for turn in row["prompt"] for part in turn["content"] if part["type"] != "text"]
    parts: list[Any] = [opening.format(count=count, rows=grid[0], columns=grid[1])]
    each = len(media) // count if len(media) % count == 0 else 0
    for number in range(count if each else 1):
        if each:
            parts.append(label.format(number=number + 1))
        parts += media[number * each : (number + 1) * each] if each else media
    return user_message([*parts, f"{question} {answer_instruction(row['answer_style'], count)}"])
