"""Answers that are one number, right if it is exact or within a tolerance.

A number is written with digits: `7`, `-3.5`, `1,250`, `3/4`, `1.2e3`. Its unit may follow if the row names one. Numbers
are compared as fractions, so that 0.1 is exactly one tenth. Two numbers, ranges and words are refused.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

from jigsaw.rewards.answers.base import PLAIN_REASONS, AnswerKind, Read, plain
from jigsaw.rewards.errors import RewardError

_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})++|[0-9]{1,30}+)"
_NUMBER = re.compile(rf"([+\-−]?)({_DIGITS}(?:\.[0-9]{{1,30}})?|\.[0-9]{{1,30}})(?:[eE]([+-]?[0-9]{{1,2}}))?")
_RATIO = re.compile(r"([+\-−]?)([0-9]{1,30})\s*/\s*([0-9]{1,30})")
_ANY = re.compile(r"[0-9]+(?:[.,][0-9]+)*")


@dataclass(frozen=True, kw_only=True)
class Number(AnswerKind):
    """A number.

    Attributes:
        tolerance: largest difference that counts as right.
        relative: the same as a fraction of the answer; the larger of the two applies.
        unit: unit that may follow the number, such as `m` or `%`; empty: none.

    >>> kind = Number(relative=0.05)
    >>> kind.score(kind.parse("41", "direct").value, 40), kind.score(kind.parse("43", "direct").value, 40)
    (1.0, 0.0)
    """

    name: ClassVar[str] = "number"
    REASONS: ClassVar[tuple[str, ...]] = (*PLAIN_REASONS, "not_a_number")

    tolerance: float = 0.0
    relative: float = 0.0
    unit: str = ""

    def __post_init__(self) -> None:
        for name in ("tolerance", "relative"):
            value = getattr(self, name)
            if not is_number(value) or value < 0:
                raise RewardError(f"{name} is {value!r}; it must be a number of at least 0")
        if not isinstance(self.unit, str):
            raise RewardError(f"unit is {self.unit!r}; it must be text, such as m")

    def check(self, answer: Any) -> None:
        """Refuse an answer that is not a finite number."""
        if not is_number(answer):
            raise RewardError(f"answer {answer!r} is not a number; store a number such as 7 or 0.25")

    def read(self, answer: str, *, typeset: bool = False) -> Read:
        """The number as a fraction."""
        body, reason = plain(answer.replace("\\%", "%"), typeset=typeset)
        if reason != "ok":
            return None, reason
        if self.unit and body.casefold().endswith(self.unit.casefold()):
            body = body[: -len(self.unit)].rstrip()
        value = number_in(body)
        if value is None:
            return None, "several_answers" if len(_ANY.findall(body)) > 1 else "not_a_number"
        return value, "ok"

    def write(self, answer: Any) -> str:
        """The digits and the unit."""
        return f"{answer} {self.unit}".rstrip()

    def score(self, value: Any, answer: Any) -> float:
        """1 within the tolerance, else 0."""
        self.check(answer)
        if value is None:
            return 0.0
        right = _exactly(answer)
        return float(
            abs(_exactly(value) - right) <= max(_exactly(self.tolerance), _exactly(self.relative) * abs(right))
        )

    def chance(self, answer: Any) -> None:
        """None: the guesses depend on the questions."""
        return

    def equivalents(self, answer: Any) -> list[Any]:
        """The number, and two others within the tolerance."""
        right = _exactly(answer)
        margin = max(_exactly(self.tolerance), _exactly(self.relative) * abs(right))
        return [answer, float(right - margin / 2), float(right + margin / 2)] if margin else [answer]


def is_number(value: Any) -> bool:
    """Whether a value is a finite number and not a bool."""
    return isinstance(value, int | float | Fraction) and not isinstance(value, bool) and math.isfinite(value)


def number_in(text: str) -> Fraction | None:
    """The number that a text represents, or None.

    >>> number_in("1,250.5"), number_in("-3/4"), number_in("1,25"), number_in("1/0")
    (Fraction(2501, 2), Fraction(-3, 4), None, None)
    """
    if not text.isascii() and "−" not in text:
        return None
    if (match := _NUMBER.fullmatch(text)) is not None:
        sign, digits, exponent = match.groups()
        value = Fraction(digits.replace(",", "")) * Fraction(10) ** int(exponent or 0)
    elif (match := _RATIO.fullmatch(text)) is not None and int(match[3]):
        sign, value = match[1], Fraction(int(match[2]), int(match[3]))
    else:
        return None
    return -value if sign in ("-", "−") else value


def _exactly(value: Any) -> Fraction:
    """A number as a fraction, from its decimal form: 0.1 is one tenth."""
    return Fraction(str(value)) if isinstance(value, float) else Fraction(value)


def check_shares(**shares: Any) -> None:
    """Refuse arguments that are not numbers from 0 to 1."""
    for name, value in shares.items():
        if not is_number(value) or not 0 <= value <= 1:
            raise RewardError(f"{name} is {value!r}; it must be from 0 to 1")
