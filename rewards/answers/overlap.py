"""Base class of the kinds that are scored by intersection over union: intervals and boxes.

A subclass has a pattern with a fixed number of numbers and the overlap of two values.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from jigsaw.rewards.answers.base import AnswerKind, Read, plain
from jigsaw.rewards.answers.number import check_shares, is_number

_ANY = re.compile(r"[0-9]+(?:\.[0-9]+)?")


@dataclass(frozen=True, kw_only=True)
class OverlapKind(AnswerKind):
    """An answer of several numbers, such as the ends of an interval or the sides of a box.

    Class attributes:
        PATTERN: pattern of an answer, with one group per number.
        UNREAD: the reason if the text does not match it.

    Attributes:
        right: least intersection over union of an answer that counts as right in an accuracy.
        floor: intersection over union below which the score is 0.
    """

    PATTERN: ClassVar[re.Pattern[str]]
    UNREAD: ClassVar[str]

    right: float = 0.5
    floor: float = 0.0

    def __post_init__(self) -> None:
        check_shares(right=self.right, floor=self.floor)

    @abstractmethod
    def refused(self, value: Sequence[float]) -> str | None:
        """The reason why the numbers are not an answer: `reversed` or `out_of_range`; None if they are."""

    @abstractmethod
    def overlap(self, one: Sequence[float], other: Sequence[float]) -> float:
        """Intersection over union of two answers."""

    def is_value(self, answer: Any) -> bool:
        """Whether an answer is a list with the right number of numbers."""
        if not isinstance(answer, list | tuple) or len(answer) != self.PATTERN.groups:
            return False
        return all(is_number(each) for each in answer)

    def read(self, answer: str, *, typeset: bool = False) -> Read:
        """The numbers."""
        body, reason = plain(answer, typeset=typeset)
        if reason != "ok":
            return None, reason
        match = self.PATTERN.fullmatch(body)
        if match is None:
            return None, "several_answers" if len(_ANY.findall(body)) > self.PATTERN.groups else self.UNREAD
        value = [float(each) for each in match.groups()]
        refused = self.refused(value)
        return (value, "ok") if refused is None else (None, refused)

    def score(self, value: Any, answer: Any) -> float:
        """Intersection over union; 0 below the floor."""
        self.check(answer)
        return 0.0 if value is None else floored(self.overlap(value, answer), self.floor)

    def is_right(self, value: Any, answer: Any) -> bool:
        """Whether the intersection over union is at least `right`."""
        return value is not None and self.overlap(value, answer) >= self.right

    def equivalents(self, answer: Any) -> list[list[float]]:
        """Only the answer."""
        return [list(answer)]


def floored(value: float, floor: float) -> float:
    """The value, or 0 if it is below the floor."""
    return value if value >= floor else 0.0


def levels(overlaps: Sequence[float], floor: float, right: float, guesses: float) -> tuple[float, float]:
    """The mean score of random guesses, and the fraction of them that counts as right.

    Args:
        overlaps: overlaps of the guesses with a length or area above 0; the overlap of the others is 0.
        guesses: number of all guesses.
    """
    return sum(floored(each, floor) for each in overlaps) / guesses, sum(each >= right for each in overlaps) / guesses


def decimal(value: float) -> str:
    """A number without an exponent and with at most six decimals.

    >>> decimal(2.0), decimal(0.1 + 0.2)
    ('2', '0.3')
    """
    return f"{value:.6f}".rstrip("0").rstrip(".")
