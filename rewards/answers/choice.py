"""Answers that are one of several options, with labels such as A, B, C or the numbers of pictures.

An answer is a label ("B", "(b)", "Option B"), a label with its text ("B. to the left"), or only the text. A label with
the text of another option, and several options, are refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from jigsaw.rewards.answers.base import PLAIN_REASONS, AnswerKind, Read, plain
from jigsaw.rewards.errors import RewardError

NOUNS = "answer|option|choice|letter|number|tile|patch|piece|picture|photo|image|crop|clip|video|view|point|region"
_NAMED = re.compile(rf"(?:(?:the\s+)?(?:{NOUNS})\s+)?(.+)", re.DOTALL)
_TOKENS = re.compile(r"[^\W_]+")


@dataclass(frozen=True, kw_only=True)
class Choice(AnswerKind):
    """One of several options.

    Attributes:
        options: the labels, two or more; they must differ by more than upper and lower case.
        texts: the text of each label, or empty if labels are the numbers of shown pieces.
        alike: groups of labels that are equally right, such as two options with the same text.

    >>> Choice(options=("A", "B"), texts=("left", "right")).parse("(b) right", "direct").value
    'B'
    """

    name: ClassVar[str] = "choice"
    REASONS: ClassVar[tuple[str, ...]] = (*PLAIN_REASONS, "not_an_option")

    options: tuple[str, ...]
    texts: tuple[str, ...] = ()
    alike: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        if any(not isinstance(each, str) or not each.strip() for each in (*self.options, *self.texts)):
            raise RewardError(
                f"options {list(self.options)} with texts {list(self.texts)}; each must be a non-empty text"
            )
        if len({_folded(each) for each in self.options}) != len(self.options) or len(self.options) < 2:
            raise RewardError(f"options are {list(self.options)}; give two or more different labels, such as A and B")
        if self.texts and len(self.texts) != len(self.options):
            raise RewardError(f"{len(self.texts)} texts for {len(self.options)} options; give one for each, or none")
        if unknown := [label for group in self.alike for label in group if label not in self.options]:
            raise RewardError(f"alike has {unknown[0]!r}, which is not one of the options {list(self.options)}")

    def check(self, answer: Any) -> None:
        """Refuse an answer that is not one of the labels."""
        if answer not in self.options:
            raise RewardError(
                f"answer {answer!r} is not one of the options {', '.join(self.options)}; "
                "store the label of the right option"
            )

    def read(self, answer: str, *, typeset: bool = False) -> Read:
        """The label."""
        body, reason = plain(answer, typeset=typeset)
        if reason != "ok":
            return None, reason
        words = _folded(body)
        label = self._named(words)
        if label is None:
            label = self._named(_NAMED.fullmatch(words)[1])  # type: ignore[index]  # it matches any text
        if label is not None:
            return label, "ok"
        named = {each for each in _TOKENS.findall(words) if each in {_folded(label) for label in self.options}}
        return None, "several_answers" if len(named) > 1 else "not_an_option"

    def _named(self, words: str) -> str | None:
        """The label that folded words name unambiguously; None otherwise."""
        texts = [_folded(text) for text in self.texts]
        for at, label in enumerate(self.options):
            folded = _folded(label)
            forms = [folded, f"({folded})", f"{folded})"]
            if texts:
                forms += [f"{head} {texts[at]}" for head in (*forms, f"{folded}.", f"{folded}:")]
            if words in forms:
                return label
        if texts.count(words) == 1:
            return self.options[texts.index(words)]
        return None

    def write(self, answer: Any) -> str:
        """The label."""
        return str(answer)

    def score(self, value: Any, answer: Any) -> float:
        """1 for the right label or an equivalent one, else 0."""
        self.check(answer)
        return float(value is not None and value in self.equivalents(answer))

    def chance(self, answer: Any) -> float:
        """The fraction of the labels that are right."""
        return len(self.equivalents(answer)) / len(self.options)

    def guesses(self) -> Sequence[str]:
        """The labels."""
        return self.options

    def equivalents(self, answer: Any) -> list[str]:
        """The label and its equivalents in `alike`."""
        groups = [group for group in self.alike if answer in group]
        return list(dict.fromkeys([str(answer), *(label for group in groups for label in group)]))


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())
