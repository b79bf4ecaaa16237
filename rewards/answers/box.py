"""Answers that are a rectangle in a picture: left, top, right and bottom in pixels, scored by intersection over union.

An answer is four numbers, with or without brackets: `[12, 40, 200, 310]`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any, ClassVar

from jigsaw.rewards.answers.base import PLAIN_REASONS
from jigsaw.rewards.answers.number import is_number
from jigsaw.rewards.answers.overlap import OverlapKind, decimal, levels
from jigsaw.rewards.errors import RewardError

_NUMBER = r"([0-9]{1,6}(?:\.[0-9]{1,6})?)"
STEPS = 12
"""Points along each side of the grid from which the chance level is computed."""


@dataclass(frozen=True, kw_only=True)
class Box(OverlapKind):
    """A rectangle in a picture.

    Attributes:
        width, height: size of the picture in pixels; boxes beyond it are refused.
        right, floor: see `OverlapKind`.

    >>> kind = Box(width=100, height=50)
    >>> kind.score(kind.parse("[0, 0, 50, 50]", "direct").value, [0, 0, 100, 50])
    0.5
    """

    name: ClassVar[str] = "box"
    PATTERN: ClassVar[re.Pattern[str]] = re.compile(r"(?:\s*[,;]\s*|\s+)".join([_NUMBER] * 4))
    UNREAD: ClassVar[str] = "not_a_box"
    REASONS: ClassVar[tuple[str, ...]] = (*PLAIN_REASONS, "not_a_box", "reversed", "out_of_range")

    width: int
    height: int

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            value = getattr(self, name)
            if not is_number(value) or value <= 0:
                raise RewardError(f"{name} is {value!r}; it must be the {name} of the picture in pixels, above 0")
        super().__post_init__()

    def check(self, answer: Any) -> None:
        """Refuse an answer that is not a box within the picture."""
        refused = self.refused(answer) if self.is_value(answer) else "reversed"
        if refused == "reversed":
            raise RewardError(f"answer {answer!r} is not a box; store [left, top, right, bottom] in pixels")
        if refused is not None:
            raise RewardError(
                f"answer {answer!r} is outside the picture of {self.width}x{self.height} pixels; correct the row"
            )

    def refused(self, value: Sequence[float]) -> str | None:
        """`reversed` if a side is not before its opposite, `out_of_range` outside the picture, else None."""
        left, top, right, bottom = value
        if left >= right or top >= bottom:
            return "reversed"
        return None if left >= 0 and top >= 0 and right <= self.width and bottom <= self.height else "out_of_range"

    def overlap(self, one: Sequence[float], other: Sequence[float]) -> float:
        """Intersection over union; see `box_overlap`."""
        return box_overlap(one, other)

    def write(self, answer: Any) -> str:
        """`[12, 40, 200, 310]`."""
        return f"[{', '.join(decimal(each) for each in answer)}]"

    def chance(self, answer: Any) -> float:
        """The mean score of a box between two random points."""
        return self._levels(answer)[0]

    def luck(self, answer: Any) -> float:
        """The probability that a box between two random points counts as right."""
        return self._levels(answer)[1]

    def _levels(self, answer: Any) -> tuple[float, float]:
        sides = (self.width, self.height, self.width, self.height)
        shares = tuple(float(each) / side for each, side in zip(answer, sides, strict=True))
        return _levels(shares, self.floor, self.right)


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
def _levels(box: tuple[float, ...], floor: float, right: float) -> tuple[float, float]:
    """The mean score and the share of right ones over the boxes between two points of the grid."""
    spans = list(combinations([(step + 0.5) / STEPS for step in range(STEPS)], 2))
    overlaps = [box_overlap((a, c, b, d), box) for a, b in spans for c, d in spans]
    return levels(overlaps, floor, right, STEPS**4 / 4)
