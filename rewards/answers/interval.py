"""Answers that are an interval of time: start and end in seconds, scored by intersection over union.

An answer is two numbers: `2.5, 6`, `[2.5, 6]`, `2.5 to 6 s` or `2.5-6`. The end comes after the start.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

from jigsaw.rewards.answers.base import AnswerKind, Read, plain
from jigsaw.rewards.answers.number import is_number
from jigsaw.rewards.errors import RewardError

_NUMBER = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)"
_UNIT = r"(?:\s*(?:seconds|second|sec|s))?"
_INTERVAL = re.compile(rf"{_NUMBER}{_UNIT}\s*(?:[,;–—-]|\bto\b|\s)\s*{_NUMBER}{_UNIT}", re.IGNORECASE)
_ANY = re.compile(r"[0-9]+(?:\.[0-9]+)?")
STEPS = 60
"""Moments of the grid on which the chance level is summed."""


@dataclass(frozen=True, kw_only=True)
class Interval(AnswerKind):
    """An interval of time.

    Attributes:
        duration: seconds of the whole; ends beyond it are refused. None: not known, and no chance level.
        right: intersection over union from which an answer counts as right in an accuracy.
        floor: intersection over union below which an answer earns nothing.

    >>> kind = Interval(duration=10.0)
    >>> kind.score(kind.parse("[2, 6]", "direct").value, [4.0, 8.0])
    0.3333333333333333
    """

    name: ClassVar[str] = "interval"
    REASONS: ClassVar[tuple[str, ...]] = (
        "ok",
        "malformed",
        "several_answers",
        "too_long",
        "not_plain",
        "empty",
        "not_an_interval",
        "reversed",
        "out_of_range",
    )

    duration: float | None = None
    right: float = 0.5
    floor: float = 0.0

    def __post_init__(self) -> None:
        if self.duration is not None and (not is_number(self.duration) or self.duration <= 0):
            raise RewardError(f"duration is {self.duration!r}; it must be a number of seconds above 0, or null")
        check_shares(right=self.right, floor=self.floor)

    def check(self, answer: Any) -> None:
        """Refuse what is no start and end within the duration."""
        numbers = isinstance(answer, list | tuple) and len(answer) == 2 and all(is_number(each) for each in answer)
        if not numbers or not 0 <= answer[0] < answer[1]:
            raise RewardError(
                f"answer {answer!r} is no interval; store [start, end] in seconds, the end after the start"
            )
        if self.duration is not None and answer[1] > self.duration:
            raise RewardError(
                f"answer {answer!r} ends after the {self.duration} seconds that there are; correct the row"
            )

    def read(self, answer: str, *, typeset: bool = False) -> Read:
        """Start and end."""
        body, reason = plain(answer, typeset=typeset)
        if reason != "ok":
            return None, reason
        match = _INTERVAL.fullmatch(body)
        if match is None:
            return None, "several_answers" if len(_ANY.findall(body)) > 2 else "not_an_interval"
        start, end = float(match[1]), float(match[2])
        if start >= end:
            return None, "reversed"
        if self.duration is not None and end > self.duration:
            return None, "out_of_range"
        return [start, end], "ok"

    def write(self, answer: Any) -> str:
        """`2.5, 6`."""
        return ", ".join(decimal(each) for each in answer)

    def score(self, value: Any, answer: Any) -> float:
        """Intersection over union; 0 below the floor."""
        self.check(answer)
        if value is None:
            return 0.0
        return floored(overlap(value, answer), self.floor)

    def is_right(self, value: Any, answer: Any) -> bool:
        """Whether the intersection over union is at least `right`."""
        return value is not None and overlap(value, answer) >= self.right

    def chance(self, answer: Any) -> float | None:
        """The mean score of an interval between two random moments."""
        if self.duration is None:
            return None
        return _chance(answer[0] / self.duration, answer[1] / self.duration, self.floor)

    def luck(self, answer: Any) -> float | None:
        """The probability that an interval between two random moments counts as right."""
        if self.duration is None:
            return None
        return _luck(answer[0] / self.duration, answer[1] / self.duration, self.right)

    def equivalents(self, answer: Any) -> list[list[float]]:
        """The interval alone."""
        return [list(answer)]


def overlap(one: Any, other: Any) -> float:
    """Intersection over union of two intervals.

    >>> overlap([0, 2], [1, 3]), overlap([0, 1], [2, 3])
    (0.3333333333333333, 0.0)
    """
    shared = max(0.0, min(one[1], other[1]) - max(one[0], other[0]))
    whole = (one[1] - one[0]) + (other[1] - other[0]) - shared
    return 1.0 if list(one) == list(other) else float(shared / whole)


def floored(value: float, floor: float) -> float:
    """A share, or 0 where it is below the floor."""
    return value if value >= floor else 0.0


def check_shares(**shares: Any) -> None:
    """Refuse arguments that are no numbers from 0 to 1."""
    for name, value in shares.items():
        if not is_number(value) or not 0 <= value <= 1:
            raise RewardError(f"{name} is {value!r}; it must be from 0 to 1")


def decimal(value: float) -> str:
    """A number without an exponent, at most six decimals.

    >>> decimal(2.0), decimal(0.1 + 0.2)
    ('2', '0.3')
    """
    return f"{value:.6f}".rstrip("0").rstrip(".")


@lru_cache(maxsize=4096)
def _chance(start: float, end: float, floor: float) -> float:
    return 2 * sum(floored(each, floor) for each in _overlaps(start, end)) / STEPS**2


@lru_cache(maxsize=4096)
def _luck(start: float, end: float, right: float) -> float:
    return 2 * sum(each >= right for each in _overlaps(start, end)) / STEPS**2


def _overlaps(start: float, end: float) -> list[float]:
    """Of the intervals between two moments of the grid; two moments in one step give none, of no length."""
    moments = [(step + 0.5) / STEPS for step in range(STEPS)]
    return [overlap((a, b), (start, end)) for a in moments for b in moments if a < b]
