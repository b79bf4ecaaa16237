"""Rows of the paper's released data: which task they belong to, and how their values are read.

In: what a row says about its image or video, with Python's own types. Out: values that a task's `adopt` can use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class ForeignRows:
    """Which rows of the paper's released data are puzzles of a task (`jigsaw import visual-jigsaw`).

    Attributes:
        column: the column of its media, `images` or `videos`.
        mark: text in `data_source` that marks them; the task with the longest fitting mark gets a row.
    """

    column: Literal["images", "videos"]
    mark: str = ""


def unwrapped(value: Any) -> Any:
    """A value that may be stored in a list of one.

    >>> unwrapped([[2, 3]]), unwrapped("a.jpg")
    ([2, 3], 'a.jpg')
    """
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def pair_of(value: Any) -> tuple[int, int] | None:
    """Two positive whole numbers, or None where the row has nothing or -1.

    >>> pair_of([[2, 3]]), pair_of([-1, -1]), pair_of(None)
    ((2, 3), None, None)
    """
    value = unwrapped(value)
    if value is None or len(value) != 2 or min(value) < 1:
        return None
    return int(value[0]), int(value[1])
