"""Answers that are an interval of time: start and end in seconds, scored by intersection over union.

An answer is two numbers: `2.5, 6`, `[2.5, 6]`, `2.5 to 6 s` or `2.5-6`. The end must be after the start.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

from jigsaw.rewards.answers.base import PLAIN_REASONS
from jigsaw.rewards.answers.number import is_number
from jigsaw.rewards.answers.overlap import OverlapKind, decimal, levels
from jigsaw.rewards.errors import RewardError

_NUMBER = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)"
_UNIT = r"(?:\s*(?:seconds|second|sec|s))?"
STEPS = 60
"""Moments of the grid from which the chance level is computed."""


@dataclass(frozen=True, kw_only=True)
class Interval(OverlapKind):
    """An interval of time.

    Attributes:
        duration: length of the video in seconds; intervals beyond it are refused. None: unknown, without a chance
            level.
        right, floor: see `OverlapKind`.

    >>> kind = Interval(duration=10.0)
    >>> kind.score(kind.parse("[2, 6]", "direct").value, [4.0, 8.0])
    0.3333333333333333
    """

    name: ClassVar[str] = "interval"
    PATTERN: ClassVar[re.Pattern[str]] = re.compile(
        rf"{_NUMBER}{_UNIT}\s*(?:[,;–—-]|\bto\b|\s)\s*{_NUMBER}{_UNIT}", re.IGNORECASE
    )
    UNREAD: ClassVar[str] = "not_an_interval"
    REASONS: ClassVar[tuple[str, ...]] = (*PLAIN_REASONS, "not_an_interval", "reversed", "out_of_range")

    duration: float | None = None

    def __post_init__(self) -> None:
        if self.duration is not None and (not is_number(self.duration) or self.duration <= 0):
            raise RewardError(f"duration is {self.duration!r}; it must be a number of seconds above 0, or null")
        super().__post_init__()

    def check(self, answer: Any) -> None:
        """Refuse an answer that is not a start and an end within the duration."""
        refused = self.refused(answer) if self.is_value(answer) and answer[0] >= 0 else "reversed"
        if refused == "reversed":
            raise RewardError(
                f"answer {answer!r} is not an interval; store [start, end] in seconds, the end after the start"
            )
        if refused is not None:
            raise RewardError(f"answer {answer!r} ends after the duration of {self.duration} seconds; correct the row")

    def refused(self, value: Sequence[float]) -> str | None:
        """`reversed` if the end is not after the start, `out_of_range` if it is beyond the duration, else None."""
        if value[0] >= value[1]:
            return "reversed"
        return "out_of_range" if self.duration is not None and value[1] > self.duration else None

    def overlap(self, one: Sequence[float], other: Sequence[float]) -> float:
        """Intersection over union; see `overlap`."""
        return overlap(one, other)

    def write(self, answer: Any) -> str:
        """`2.5, 6`."""
        return ", ".join(decimal(each) for each in answer)

    def chance(self, answer: Any) -> float | None:
        """The mean score of an interval between two random moments."""
        return self._levels(answer)[0]

    def luck(self, answer: Any) -> float | None:
        """The probability that an interval between two random moments counts as right."""
        return self._levels(answer)[1]

    def _levels(self, answer: Any) -> tuple[float | None, float | None]:
        if self.duration is None:
            return None, None
        return _levels(answer[0] / self.duration, answer[1] / self.duration, self.floor, self.right)


def overlap(one: Any, other: Any) -> float:
    """Intersection over union of two intervals.

    >>> overlap([0, 2], [1, 3]), overlap([0, 1], [2, 3])
    (0.3333333333333333, 0.0)
    """
    shared = max(0.0, min(one[1], other[1]) - max(one[0], other[0]))
    union = (one[1] - one[0]) + (other[1] - other[0]) - shared
    return 1.0 if list(one) == list(other) else float(shared / union)


@lru_cache(maxsize=4096)
def _levels(start: float, end: float, floor: float, right: float) -> tuple[float, float]:
    """The mean score and the share of right ones over the intervals between two moments of the grid."""
    moments = [(step + 0.5) / STEPS for step in range(STEPS)]
    overlaps = [overlap((a, b), (start, end)) for a in moments for b in moments if a < b]
    return levels(overlaps, floor, right, STEPS**2 / 2)
