"""What every answer kind does: check, parse, format, score, chance and equivalents.

A kind is a frozen dataclass whose fields are the arguments that a row gives. It reads the inside of an answer; the tags
around it are the same for all kinds (`jigsaw.rewards.parse`), and so is the strictness: a completion without exactly
one answer has no value, and every refusal has a reason.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from jigsaw.rewards.parse import answer_text, find_answer_text, plain_answer, with_tags, without_brackets


class ParsedAnswer(NamedTuple):
    """What was read out of a completion.

    Attributes:
        value: the answer in the form of its kind, or None if the text does not hold exactly one.
        well_formed: the tags are right, whatever is between them (style direct: the whole text is right).
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
        LONGEST: characters of an answer; a longer one is refused, so that time stays linear in the completion. None:
            reading takes linear time, whatever the length.
    """

    name: ClassVar[str]
    REASONS: ClassVar[tuple[str, ...]]
    LONGEST: ClassVar[int | None] = 1000

    @abstractmethod
    def check(self, answer: Any) -> None:
        """Refuse an answer that this kind cannot have.

        Raises:
            RewardError: one line with what is wrong and what is needed.
        """

    @abstractmethod
    def read(self, answer: str, *, typeset: bool = False) -> Read:
        """Read the inside of an answer. No text raises.

        Args:
            answer: the text between the tags or in the box.
            typeset: it is LaTeX, as the inside of a box is.
        """

    @abstractmethod
    def write(self, answer: Any) -> str:
        """The answer as a model should write it; `read` gives it back."""

    @abstractmethod
    def score(self, value: Any, answer: Any) -> float:
        """What a value is worth, in [0, 1]: 1 for the right answer, 0 for None.

        Raises:
            RewardError: the answer is none of this kind.
        """

    @abstractmethod
    def chance(self, answer: Any) -> float | None:
        """The mean score of a guess that knows the kind and its arguments alone; None where there is no such level."""

    @abstractmethod
    def equivalents(self, answer: Any) -> Sequence[Any]:
        """Values that are as good as the answer, the answer among them; of very many, some."""

    def luck(self, answer: Any) -> float | None:
        """The probability that such a guess counts as right; None where there is no such level."""
        return self.chance(answer)

    def guesses(self) -> Sequence[Any]:
        """Every value that a guesser may give, all equally likely; nothing where they are too many to list."""
        return ()

    def is_right(self, value: Any, answer: Any) -> bool:
        """Whether a value counts as the right answer in an accuracy."""
        return self.score(value, answer) == 1.0

    def parse(self, text: str, style: str = "think", *, think_prefilled: bool = False) -> ParsedAnswer:
        """Read the answer of a completion.

        Args:
            text: the completion. Any text; time is linear in its length.
            style: think, boxed or direct; see `jigsaw.rewards.parse_order`.
            think_prefilled: the chat template has already written `<think>`.

        Raises:
            RewardError: the style is unknown. No text raises.
        """
        body, fault = answer_text(text, style, think_prefilled=think_prefilled)
        return self._parsed(body, fault, style, well_formed=fault is None)

    def find(self, text: str, style: str = "think") -> ParsedAnswer:
        """Read the one answer of a completion whose tags may be wrong, for rewards without a format gate."""
        strict = self.parse(text, style)
        if strict.well_formed or style == "direct":
            return strict
        body, fault = find_answer_text(text, style)
        return self._parsed(body, fault, style, well_formed=False)

    def format(self, answer: Any, style: str = "think", *, thinking: str = "", think_prefilled: bool = False) -> str:
        """The completion that a model should write; `parse` reads it back.

        Raises:
            RewardError: the answer is none of this kind, or the style has no place for the thinking.
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
    """An answer as plain text without a full stop and brackets around it, and `ok`; or nothing and the reason."""
    body = plain_answer(answer, typeset=typeset)
    if body is None:
        return "", "not_plain"
    if body.endswith("."):
        body = body[:-1].rstrip()
    body = without_brackets(body)
    return body, "ok" if body else "empty"
