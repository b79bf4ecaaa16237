"""Answers that are words, scored by equality or by ANLS (Biten et al., "Scene text VQA", ICCV 2019).

Case, the width of characters, repeated spaces and a final full stop are ignored. An answer is one line.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Any, ClassVar

from jigsaw.rewards.answers.base import PLAIN_REASONS, AnswerKind, Read
from jigsaw.rewards.answers.number import check_shares
from jigsaw.rewards.errors import RewardError
from jigsaw.rewards.parse import plain_answer

METRICS = ("exact", "anls")
_DOUBT = re.compile(r"[,;/?|]|\b(?:or|and|not|maybe)\b")
"""Separators of two answers and words of doubt; ANLS is 0 for an answer with one that no accepted answer has."""


@dataclass(frozen=True, kw_only=True)
class Text(AnswerKind):
    """Words.

    Attributes:
        metric: `exact`, or `anls`: one minus the edit distance divided by the longer length, if above the threshold.
        threshold: similarity up to which ANLS is 0.
        accepted: other answers that are right.

    >>> kind = Text(metric="anls")
    >>> kind.score(kind.parse("Brazill", "direct").value, "Brazil")
    0.8571428571428572
    """

    name: ClassVar[str] = "text"
    REASONS: ClassVar[tuple[str, ...]] = PLAIN_REASONS

    metric: str = "exact"
    threshold: float = 0.5
    accepted: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise RewardError(f"metric is {self.metric!r}; it must be exact or anls")
        check_shares(threshold=self.threshold)
        for other in self.accepted:
            self.check(other)

    def check(self, answer: Any) -> None:
        """Refuse an answer that is not one line of text."""
        if not isinstance(answer, str) or not _folded(answer) or len(answer.strip().splitlines()) != 1:
            raise RewardError(f"answer {answer!r} is not a line of text; store the right words")

    def read(self, answer: str, *, typeset: bool = False) -> Read:
        """The words, folded."""
        body = plain_answer(answer, typeset=typeset)
        if body is None:
            return None, "not_plain"
        words = _folded(body)
        if not words:
            return None, "empty"
        return (words, "ok") if len(body.splitlines()) == 1 else (None, "several_answers")

    def write(self, answer: Any) -> str:
        """The words."""
        return str(answer).strip()

    def score(self, value: Any, answer: Any) -> float:
        """1 or 0, or with `anls` the largest similarity to an accepted answer."""
        self.check(answer)
        if value is None:
            return 0.0
        accepted = [_folded(each) for each in self.equivalents(answer)]
        if value in accepted or _folded(value) in accepted:
            return 1.0
        doubtful = any(not any(mark in each for each in accepted) for mark in _DOUBT.findall(value))
        if self.metric == "exact" or doubtful:
            return 0.0
        return max(similarity(value, each, self.threshold) for each in accepted)

    def chance(self, answer: Any) -> None:
        """None: the guesses depend on the questions."""
        return

    def equivalents(self, answer: Any) -> list[str]:
        """The answer and all accepted ones."""
        return list(dict.fromkeys([answer, *self.accepted]))


def _folded(text: str) -> str:
    words = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return words.removesuffix(".").rstrip()


def similarity(one: str, other: str, threshold: float) -> float:
    """One minus the edit distance divided by the longer length; 0 up to the threshold.

    >>> similarity("kitten", "sitting", 0.5), similarity("cat", "dog", 0.5)
    (0.5714285714285714, 0.0)
    """
    longer = max(len(one), len(other))
    if not longer or abs(len(one) - len(other)) > (1 - threshold) * longer:
        return 0.0
    row = list(range(len(other) + 1))
    for at, character in enumerate(one, start=1):
        diagonal, row[0] = row[0], at
        for place, wanted in enumerate(other, start=1):
            cost = min(row[place] + 1, row[place - 1] + 1, diagonal + (character != wanted))
            diagonal, row[place] = row[place], cost
    value = 1 - row[-1] / longer
    return value if value > threshold else 0.0
