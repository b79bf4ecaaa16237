"""Base class of the answer kinds: check, parse, format, score, chance and equivalents.

A kind is a frozen dataclass whose fields are the arguments in a row. It reads the content of an answer; the tags are
the same for all kinds (`jigsaw.rewards.parse`). A completion without exactly one answer has no value, and every refusal
has a reason.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from jigsaw.rewards.parse import answer_text, find_answer_text, plain_answer, with_tags, without_brackets


class ParsedAnswer(NamedTuple):
    """The answer that was parsed from a completion.

    Attributes:
        value: the answer in the form of its kind, or None if the text does not have exactly one.
        well_formed: whether the tags are right, regardless of their content (style direct: whether the text is an
            answer).
        reason: `ok`, or the first check that failed, one of the kind's `REASONS`.
    """

    value: Any
    well_formed: bool
    reason: str


Read = tuple[Any, str]
"""The value and `ok`, or None and the reason."""


PLAIN_REASONS = ("ok", "malformed", "several_answers", "too_long", "not_plain", "empty")
"""Reasons of the kinds that are read as plain text; each adds its own."""


class AnswerKind(ABC):
    """One kind of answer.

    Class attributes:
        name: the kind's name, stored in rows as `answer_kind`.
        REASONS: every `ParsedAnswer.reason`.
        LONGEST: most characters of an answer. A longer one is refused, to limit the time of slow readers; None: no
            limit, because reading takes linear time.
    """

    name: ClassVar[str]
    REASONS: ClassVar[tuple[str, ...]]
    LONGEST: ClassVar[int | None] = 1000

    @abstractmethod
    def check(self, answer: Any) -> None:
        """Refuse a right answer that is not of this kind.

        Raises:
            RewardError: names the fault and what is needed.
        """

    @abstractmethod
    def read(self, answer: str, *, typeset: bool = False) -> Read:
        """Read the content of an answer. No text raises.

        Args:
            answer: the text between the tags or in the box.
            typeset: whether it is LaTeX, as the content of a box is.
        """

    @abstractmethod
    def write(self, answer: Any) -> str:
        """The answer as text in the form that a model should use; `read` returns it again."""

    @abstractmethod
    def score(self, value: Any, answer: Any) -> float:
        """The score of a value, in [0, 1]: 1 for the right answer, 0 for None.

        Raises:
            RewardError: the answer is not of this kind.
        """

    @abstractmethod
    def chance(self, answer: Any) -> float | None:
        """The mean score of a random guess that knows only the kind and its arguments; None if it is not defined."""

    @abstractmethod
    def equivalents(self, answer: Any) -> Sequence[Any]:
        """Values that are as good as the answer, including the answer; if there are very many, some of them."""

    def luck(self, answer: Any) -> float | None:
        """The probability that a random guess counts as right; None if it is not defined."""
        return self.chance(answer)

    def guesses(self) -> Sequence[Any]:
        """All values of a random guess, equally likely; empty if they are too many to list."""
        return ()

    def is_right(self, value: Any, answer: Any) -> bool:
        """Whether a value counts as the right answer in an accuracy."""
        return self.score(value, answer) == 1.0

    def parse(self, text: str, style: str = "think", *, think_prefilled: bool = False) -> ParsedAnswer:
        """Parse the answer of a completion.

        Args:
            text: the completion; any text.
            style: think, boxed or direct; see `jigsaw.rewards.parse_order`.
            think_prefilled: the chat template has already written `<think>`.

        Raises:
            RewardError: the style is unknown. No text raises.
        """
        body, fault = answer_text(text, style, think_prefilled=think_prefilled)
        return self._parsed(body, fault, style, well_formed=fault is None)

    def find(self, text: str, style: str = "think") -> ParsedAnswer:
        """Parse the answer of a completion whose tags may be wrong, for rewards without a format gate."""
        strict = self.parse(text, style)
        if strict.well_formed or style == "direct":
            return strict
        body, fault = find_answer_text(text, style)
        return self._parsed(body, fault, style, well_formed=False)

    def format(self, answer: Any, style: str = "think", *, thinking: str = "", think_prefilled: bool = False) -> str:
        """A completion with an answer in the form that a model should use; `parse` returns the answer again.

        Raises:
            RewardError: the answer is not of this kind, or the style has no thinking.
        """
        self.check(answer)
        return with_tags(self.write(answer), style, thinking=thinking, think_prefilled=think_prefilled)

    def _parsed(self, body: str, fault: str | None, style: str, *, well_formed: bool) -> ParsedAnswer:
        if fault is not None:
            return ParsedAnswer(None, False, fault)
        too_long = self.LONGEST is not None and len(body) > self.LONGEST
        value, reason = (None, "too_long") if too_long else self.read(body, typeset=style == "boxed")
        return ParsedAnswer(value, well_formed and (style != "direct" or reason == "ok"), reason)


def plain(answer: str, *, typeset: bool) -> tuple[str, str]:
    """An answer as plain text without brackets and final full stop, and `ok`; or an empty text and the reason."""
    body = plain_answer(answer, typeset=typeset)
    if body is None:
        return "", "not_plain"
    if body.endswith("."):
        body = body[:-1].rstrip()
    body = without_brackets(body)
    return body, "ok" if body else "empty"
