"""Rows of the paper's released data: the task that they belong to, and readers of their values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class ForeignRows:
    """The rows of the paper's released data that are puzzles of a task (`jigsaw import visual-jigsaw`).

    Attributes:
        column: the column of the media, `images` or `videos`.
        mark: text in the row's `data_source`; the task with the longest matching mark gets the row.
    """

    column: Literal["images", "videos"]
    mark: str = ""


def unwrapped(value: Any) -> Any:
    """A value without the list of one around it, if there is one.

    >>> unwrapped([[2, 3]]), unwrapped("a.jpg")
    ([2, 3], 'a.jpg')
    """
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def pair_of(value: Any) -> tuple[int, int] | None:
    """Two positive whole numbers, or None if the row has none or -1.

    >>> pair_of([[2, 3]]), pair_of([-1, -1]), pair_of(None)
    ((2, 3), None, None)
    """
    value = unwrapped(value)
    if value is None or len(value) != 2 or min(value) < 1:
        return None
    return int(value[0]), int(value[1])
