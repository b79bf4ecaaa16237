r"""Answers that are mathematical expressions, compared with math-verify: `\frac{1}{2}` is 0.5.

math-verify (the extra `math`) parses LaTeX with sympy. Three kinds of text are refused beforehand: commands that are
neither plain notation nor part of the right answer; powers and factorials on which sympy would take minutes; and text
that math-verify reads incompletely or wrongly (unmatched braces, tags, fractions and roots without arguments, and
adjacent numbers, since it reads `2 3` as 5).
"""

from __future__ import annotations

import logging
import math
import re
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

from jigsaw.errors import first_line
from jigsaw.rewards.answers.base import AnswerKind, Read
from jigsaw.rewards.errors import RewardError

LONGEST = 200
LARGEST_POWER = 10_000
SECONDS = 3
"""Time limit of parsing and of comparing; it is a signal, so it applies only in the main thread."""

_COMMANDS = re.compile(r"\\([A-Za-z]+|.)")
_WORDS = (
    "frac dfrac tfrac sqrt pi cdot times div pm left right text mathrm textbf mathbf infty sin cos tan cot log ln exp "
    "theta alpha beta gamma lambda mu phi omega le ge leq geq lt gt neq ne in cup cap emptyset circ degree quad"
)
_PLAIN = {*_WORDS.split(), *",;:!%{}$()[] "}
_TAG = re.compile(r"</?[A-Za-z]+>")
_TAKING = re.compile(r"\\[dt]?frac(?![A-Za-z])|\\sqrt(?![A-Za-z])(?:\s*\[[^\[\]]*\])?|[\^_]")
"""Commands that take one or two arguments."""

_ARGUMENT = re.compile(r"\s*(?:([{])|[0-9A-Za-z]|\\(?!(?:[dt]?frac|sqrt|left|right|text)(?![A-Za-z]))[A-Za-z]+)")
_SIDE_BY_SIDE = re.compile(r"[0-9.](?:\s|~|\\[,;: ]|\\quad(?![A-Za-z])|[{}])+[0-9.]")
_POWERS = re.compile(r"(?:\^|\*\*)\s*\{?\s*-?\s*([0-9]+)")
_FACTORIALS = re.compile(r"([0-9]+)\s*!")


@dataclass(frozen=True, kw_only=True)
class Math(AnswerKind):
    r"""A mathematical expression.

    Attributes:
        decimals: decimals to which numbers are compared.
    """

    name: ClassVar[str] = "math"
    REASONS: ClassVar[tuple[str, ...]] = (
        *("ok", "malformed", "several_answers", "too_long", "empty", "not_math", "out_of_range"),
    )

    decimals: int = 6

    def __post_init__(self) -> None:
        if not isinstance(self.decimals, int) or not 0 <= self.decimals <= 12:
            raise RewardError(f"decimals is {self.decimals!r}; it must be a whole number from 0 to 12")

    def check(self, answer: Any) -> None:
        """Refuse an answer that math-verify cannot parse."""
        if not isinstance(answer, str) or not answer.strip():
            raise RewardError(f"answer {answer!r} is not an expression; store LaTeX text such as \\frac{{1}}{{2}}")
        if self.read(answer)[0] is None or not _expressions(_stripped(answer)):
            raise RewardError(f"math-verify cannot parse the answer {answer!r}; correct the row")

    def read(self, answer: str, *, typeset: bool = False) -> Read:
        """The expression as text, without surrounding dollar signs."""
        body = _stripped(answer)
        if not body:
            return None, "empty"
        if len(body) > LONGEST:
            return None, "too_long"
        powers = math.prod(int(each[:6]) for each in _POWERS.findall(body))
        factorials = [int(each[:6]) for each in _FACTORIALS.findall(body)]
        nested = body.count("^") + body.count("**") > 8 or re.search(r"\^\s*\{[^{}]*\^", body)
        if powers > LARGEST_POWER or any(each > 200 for each in factorials) or "!!" in body or nested:
            return None, "out_of_range"
        if body.count("=") > 1:
            return None, "several_answers"
        fault = _fault(body)
        return (body, "ok") if fault is None else (None, fault)

    def write(self, answer: Any) -> str:
        """The expression."""
        return _stripped(str(answer))

    def score(self, value: Any, answer: Any) -> float:
        """1 if the two are equal, else 0."""
        self.check(answer)
        if value is None:
            return 0.0
        right = _stripped(answer)
        if value == right:
            return 1.0
        allowed = _PLAIN | set(_COMMANDS.findall(right))
        if any(command not in allowed for command in _COMMANDS.findall(value)):
            return 0.0
        return float(_equal(right, value, self.decimals))

    def chance(self, answer: Any) -> None:
        """None: the guesses depend on the questions."""
        return

    def equivalents(self, answer: Any) -> list[str]:
        """The expression as it is stored."""
        return [answer]


def _fault(body: str) -> str | None:
    """The reason why a text is not a single expression; None if it is.

    An expression has matching braces, arguments for fractions and roots, no tags, and no two adjacent numbers.
    """
    closing = _braces(body)
    if closing is None or _TAG.search(body):
        return "not_math"
    flat, at = [], 0
    while command := _TAKING.search(body, at):
        flat.append(body[at : command.start()])
        at = command.end()
        for _ in range(2 if "frac" in command[0] else 1):
            argument = _ARGUMENT.match(body, at)
            if argument is None:
                if command[0] in "^_":
                    break  # such as 2^-1
                return "not_math"
            at = argument.end()
            if argument[1]:
                inside = body[at : closing[argument.start(1)]]
                fault = _fault(inside) if inside.strip() else "not_math"
                if fault is not None:
                    return fault
                at = closing[argument.start(1)] + 1
        flat.append("f")
    return "several_answers" if _SIDE_BY_SIDE.search("".join([*flat, body[at:]])) else None


def _braces(body: str) -> dict[int, int] | None:
    """The position of the closing brace of each opening one; None if they do not match. Escaped braces are ignored."""
    opened: list[int] = []
    closing: dict[int, int] = {}
    for brace in re.finditer(r"\\.|[{}]", body, re.DOTALL):
        if brace[0] == "{":
            opened.append(brace.start())
        elif brace[0] == "}":
            if not opened:
                return None
            closing[opened.pop()] = brace.start()
    return None if opened else closing


def _stripped(text: str) -> str:
    body = text.strip().removesuffix(".").rstrip()
    for mark in ("$$", "$"):
        if len(body) > 2 * len(mark) and body.startswith(mark) and body.endswith(mark):
            return body[len(mark) : -len(mark)].strip()
    return body[2:-2].strip() if (body[:2], body[-2:]) in (("\\(", "\\)"), ("\\[", "\\]")) else body


@lru_cache(maxsize=1)
def _library() -> Any:
    try:
        import math_verify  # type: ignore[import-untyped,import-not-found,unused-ignore]  # the extra `math`
    except ModuleNotFoundError:
        raise RewardError(
            "answers of kind math need math-verify; install it: pip install 'visual-jigsaw[math]'"
        ) from None
    except ImportError as error:  # it checks the version of its parser's runtime, which lmms-eval replaces
        raise RewardError(
            f"answers of kind math: math-verify cannot be imported ({first_line(error)}); "
            "pip install antlr4-python3-runtime==4.9.3 serves it and omegaconf"
        ) from error
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    return math_verify


def _seconds() -> int | None:
    """The time limit in the main thread, else None: math-verify sets it with a signal."""
    return SECONDS if threading.current_thread() is threading.main_thread() else None


@lru_cache(maxsize=4096)
def _expressions(body: str) -> tuple[Any, ...]:
    library = _library()
    boxed = library.LatexExtractionConfig(boxed_match_priority=0, try_extract_without_anchor=False)
    expressions = library.parse(
        f"\\boxed{{{body}}}", extraction_config=[boxed], fallback_mode="no_fallback", parsing_timeout=_seconds()
    )
    return tuple(expressions)


def _equal(right: str, value: str, decimals: int) -> bool:
    try:
        one, other = _expressions(right), _expressions(value)
        return bool(other) and bool(
            _library().verify(list(one), list(other), float_rounding=decimals, timeout_seconds=_seconds())
        )
    except RewardError:
        raise
    except Exception:  # sympy raises many types of errors on text that is not mathematics
        return False
