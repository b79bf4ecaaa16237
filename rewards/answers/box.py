"""Answers that are a rectangle in a picture: left, top, right and bottom in pixels, scored by intersection over union.

An answer is four numbers, perhaps in brackets: `[12, 40, 200, 310]`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any, ClassVar

from jigsaw.rewards.answers.base import AnswerKind, Read, plain
from jigsaw.rewards.answers.interval import check_shares, decimal, floored
from jigsaw.rewards.answers.number import is_number
from jigsaw.rewards.errors import RewardError

_NUMBER = r"([0-9]{1,6}(?:\.[0-9]{1,6})?)"
_BOX = re.compile(r"(?:\s*[,;]\s*|\s+)".join([_NUMBER] * 4))
_ANY = re.compile(r"[0-9]+(?:\.[0-9]+)?")
STEPS = 12
"""Places along each side of the grid on which the chance level is summed."""


@dataclass(frozen=True, kw_only=True)
class Box(AnswerKind):
    """A rectangle in a picture.

    Attributes:
        width, height: of the picture in pixels; boxes beyond it are refused.
        right: intersection over union from which an answer counts as right in an accuracy.
        floor: intersection over union below which an answer earns nothing.

    >>> kind = Box(width=100, height=50)
    >>> kind.score(kind.parse("[0, 0, 50, 50]", "direct").value, [0, 0, 100, 50])
    0.5
    """

    name: ClassVar[str] = "box"
    REASONS: ClassVar[tuple[str, ...]] = (
        "ok",
        "malformed",
        "several_answers",
        "too_long",
        "not_plain",
        "empty",
        "not_a_box",
        "reversed",
        "out_of_range",
    )

    width: int
    height: int
    right: float = 0.5
    floor: float = 0.0

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            value = getattr(self, name)
            if not is_number(value) or value <= 0:
                raise RewardError(f"{name} is {value!r}; it must be the picture's in pixels, above 0")
        check_shares(right=self.right, floor=self.floor)

    def check(self, answer: Any) -> None:
        """Refuse what is no box within the picture."""
        numbers = isinstance(answer, list | tuple) and len(answer) == 4 and all(is_number(each) for each in answer)
        if not numbers or answer[0] >= answer[2] or answer[1] >= answer[3]:
            raise RewardError(f"answer {answer!r} is no box; store [left, top, right, bottom] in pixels")
        if not self._inside(answer):
            raise RewardError(
                f"answer {answer!r} lies beyond the picture of {self.width}x{self.height} pixels; correct the row"
            )

    def _inside(self, box: Any) -> bool:
        return bool(box[0] >= 0 and box[1] >= 0 and box[2] <= self.width and box[3] <= self.height)

    def read(self, answer: str, *, typeset: bool = False) -> Read:
        """Left, top, right and bottom."""
        body, reason = plain(answer, typeset=typeset)
        if reason != "ok":
            return None, reason
        match = _BOX.fullmatch(body)
        if match is None:
            return None, "several_answers" if len(_ANY.findall(body)) > 4 else "not_a_box"
        box = [float(each) for each in match.groups()]
        if box[0] >= box[2] or box[1] >= box[3]:
            return None, "reversed"
        return (box, "ok") if self._inside(box) else (None, "out_of_range")

    def write(self, answer: Any) -> str:
        """`[12, 40, 200, 310]`."""
        return f"[{', '.join(decimal(each) for each in answer)}]"

    def score(self, value: Any, answer: Any) -> float:
        """Intersection over union; 0 below the floor."""
        self.check(answer)
        return 0.0 if value is None else floored(box_overlap(value, answer), self.floor)

    def is_right(self, value: Any, answer: Any) -> bool:
        """Whether the intersection over union is at least `right`."""
        return value is not None and box_overlap(value, answer) >= self.right

    def chance(self, answer: Any) -> float:
        """The mean score of a box between two random points."""
        sides = (self.width, self.height, self.width, self.height)
        return _chance(tuple(float(each) / side for each, side in zip(answer, sides, strict=True)), self.floor)

    def luck(self, answer: Any) -> float:
        """The probability that a box between two random points counts as right."""
        sides = (self.width, self.height, self.width, self.height)
        return _luck(tuple(float(each) / side for each, side in zip(answer, sides, strict=True)), self.right)

    def equivalents(self, answer: Any) -> list[list[float]]:
        """The box alone."""
        return [list(answer)]


def box_overlap(one: Any, other: Any) -> float:
    """Intersection over union of two boxes.

    >>> box_overlap([0, 0, 2, 2], [1, 0, 3, 2]), box_overlap([0, 0, 1, 1], [2, 2, 3, 3])
    (0.3333333333333333, 0.0)
    """
    if list(one) == list(other):
        return 1.0
    across = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    down = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return float(across * down / (sum(areas) - across * down))


@lru_cache(maxsize=4096)
def _chance(box: tuple[float, ...], floor: float) -> float:
    return 4 * sum(floored(each, floor) for each in _overlaps(box)) / STEPS**4


@lru_cache(maxsize=4096)
def _luck(box: tuple[float, ...], right: float) -> float:
    return 4 * sum(each >= right for each in _overlaps(box)) / STEPS**4


def _overlaps(box: tuple[float, ...]) -> list[float]:
    """Of the boxes between two points of the grid; two points in one row or column give none, of no area."""
    spans = list(combinations([(step + 0.5) / STEPS for step in range(STEPS)], 2))
    return [box_overlap((a, c, b, d), box) for a, b in spans for c, d in spans]
