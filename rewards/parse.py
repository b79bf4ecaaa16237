r"""Parses the order in the text of a completion, and writes orders as text.

In: text. Out: a `ParsedOrder` with the permutation, or with the first reason why there is none. The parser is strict,
because a model exploits whatever a lenient one accepts: a completion has one answer, with each of 1..K once and nothing
else. The parser uses string searches and regular expressions that cannot backtrack, so that its time is linear in the
length of any text.

The three answer styles, for the order `[2, 3, 1]`::

    think     <think>the sky is on top ..</think><answer>2, 3, 1</answer>
    boxed     <think>the sky is on top ..</think> The order is \boxed{2, 3, 1}.
    direct    2, 3, 1
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

from jigsaw.errors import did_you_mean
from jigsaw.rewards.errors import RewardError
from jigsaw.rewards.typesetting import has_math, without_typesetting

AnswerStyle = Literal["think", "direct", "boxed"]
ANSWER_STYLES: tuple[str, ...] = get_args(AnswerStyle)

Reason = Literal[
    "ok", "malformed", "several_answers", "empty", "not_integers", "wrong_count", "out_of_range", "duplicate"
]
REASONS: tuple[str, ...] = get_args(Reason)
"""Every `ParsedOrder.reason`, in the order of the checks."""


class ParsedOrder(NamedTuple):
    """The order that was parsed from a completion.

    Attributes:
        order: a permutation of 1..K, or None if the text does not have exactly one.
        well_formed: whether the tags are right, regardless of their content (style direct: whether the text is an
            order).
        reason: `ok`, or the first check that failed, one of `REASONS`.
    """

    order: list[int] | None
    well_formed: bool
    reason: Reason


_THINK, _THINK_END, _ANSWER, _ANSWER_END = "<think>", "</think>", "<answer>", "</answer>"
_TAGS = re.compile(r"</?(?:think|answer)>")

# Full-width ASCII, and the CJK comma, full stop, space and brackets. Unicode's NFKC would also read ² as 2. The
# full-width tilde is left out, because 1～3 is a range, while a LaTeX tilde is a space.
_NARROW = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5E)} | str.maketrans("、。\u3000【】", ",. []")

# Possessive quantifiers (`++`, `*+`) do not backtrack.
_NUMBER = r"(?:0|[1-9][0-9]*+)"
_WORD = r"[^\W\d_]++"
_SEPARATOR = r"(?:\s*+(?:[,;→⇒⟶⟹↦➔➜]|--?>|=>)\s*+|\s++)"
_NUMBERS = re.compile(rf"{_NUMBER}(?:{_SEPARATOR}{_NUMBER})*+")
_WORDED_NUMBERS = re.compile(rf"{_WORD}\s++{_NUMBER}(?:{_SEPARATOR}{_WORD}\s++{_NUMBER})*+")
_DIGITS = re.compile(r"[0-9]+")
_LETTERS = re.compile(_WORD)
_BRACKETS = {"[": "]", "(": ")", "{": "}", "⟨": "⟩"}

_BRACES = re.compile(r"\\boxed\s*+\{|\\[{}]|(?:\\\\(?!boxed))++|\{++|\}++")


def parse_order(text: str, num_pieces: int, style: str = "think", *, think_prefilled: bool = False) -> ParsedOrder:
    r"""Parse the order in a completion.

    An answer has the integers 1..K once each, separated by commas, semicolons, white space or arrows. It may be in one
    pair of brackets, repeat one word before each number ("Tile 2, Tile 1"), and end with a full stop. Full-width digits
    and punctuation count as plain ones. Signs, leading zeros, doubled separators and other words are refused. The
    content of a box is read as LaTeX, and so is an answer between dollar signs, `\(..\)` or `\[..\]`; see
    `jigsaw.rewards.typesetting`.

    Any other text around the answer is refused as `malformed` or `not_integers`, also the name of an end-of-turn token
    (`<|im_end|>`, which a decoder that skips special tokens omits) and zero-width characters (U+200B, U+FEFF).

    Args:
        text: the completion; any text.
        num_pieces: K, at least 1.
        style: `think`: exactly one `<think>..</think>`, then one `<answer>..</answer>`, and otherwise only white space.
            `boxed`: one `<think>..</think>`, then text with exactly one `\boxed{..}`. `direct`: the text is the answer.
        think_prefilled: the chat template has already written `<think>`, and the completion starts after it (not for
            direct).

    Returns:
        The order (None unless the reason is `ok`), whether the tags are right, and the reason. The reason is
        `several_answers` if the only fault is more than one answer, and `malformed` for any other fault of the tags.

    Raises:
        RewardError: `num_pieces` is below 1 or the style is unknown. No text raises.

    >>> parse_order("<think>sky on top</think><answer>2, 3, 1</answer>", 3)
    ParsedOrder(order=[2, 3, 1], well_formed=True, reason='ok')
    >>> parse_order("<think></think><answer>1, 1, 1</answer>", 3)
    ParsedOrder(order=None, well_formed=True, reason='duplicate')
    >>> parse_order("It is 2 -> 3 -> 1", 3, "direct").reason
    'not_integers'
    """
    if num_pieces < 1:
        raise RewardError(f"num_pieces is {num_pieces}; a puzzle has at least one piece")
    answer, fault = answer_text(text, style, think_prefilled=think_prefilled)
    if fault is not None:
        return ParsedOrder(None, False, fault)
    order, reason = read_order(answer, num_pieces, typeset=style == "boxed")
    return ParsedOrder(order, style != "direct" or order is not None, reason)


def find_order(text: str, num_pieces: int, style: str = "think") -> ParsedOrder:
    r"""Parse the order in a completion whose tags may be wrong, for rewards without a format gate.

    The answer itself is read as by `parse_order`, but the text around it is free: style think needs exactly one
    `<answer>..</answer>` anywhere, style boxed exactly one `\boxed{..}` after the last `</think>`, if there is one.

    Returns:
        As `parse_order`; `well_formed` is False wherever that of `parse_order` is.

    >>> find_order("So <answer>2, 3, 1</answer>.", 3)
    ParsedOrder(order=[2, 3, 1], well_formed=False, reason='ok')
    >>> find_order("<answer>2, 3, 1</answer> or <answer>1, 2, 3</answer>", 3).reason
    'several_answers'
    """
    strict = parse_order(text, num_pieces, style)
    if strict.well_formed or style == "direct":
        return strict
    answer, fault = find_answer_text(text, style)
    if fault is not None:
        return ParsedOrder(None, False, fault)
    order, reason = read_order(answer, num_pieces, typeset=style == "boxed")
    return ParsedOrder(order, False, reason)


def answer_text(text: str, style: str = "think", *, think_prefilled: bool = False) -> tuple[str, Reason | None]:
    """The answer of a completion as text, for any kind of answer.

    Args:
        text: the completion.
        style: the answer style; see `parse_order`. In style direct the whole text is the answer.
        think_prefilled: the chat template has already written `<think>`.

    Returns:
        The answer and None, or an empty string and the fault of the tags: `malformed` or `several_answers`.

    Raises:
        RewardError: the style is unknown.

    >>> answer_text("<think></think><answer>about 7</answer>")
    ('about 7', None)
    """
    if style == "think":
        return _answer_in_tags(text, think_prefilled)
    if style == "direct":
        return text, None
    if style == "boxed":
        return _answer_in_box(text, think_prefilled)
    raise RewardError(f"answer style {style!r} is unknown; {did_you_mean(str(style), ANSWER_STYLES)}")


def find_answer_text(text: str, style: str = "think") -> tuple[str, Reason | None]:
    """The one answer of a completion whose tags may be wrong; see `find_order`. Returns the same as `answer_text`."""
    if style == "think":
        pairs, start, stop = _answer_pairs(text)
        answer = text[start:stop]
    elif style == "boxed":
        pairs, answer = _boxes(text.rpartition(_THINK_END)[2])
    else:
        return answer_text(text, style)
    if pairs != 1:
        return "", "several_answers" if pairs > 1 else "malformed"
    return answer, None


def format_order(
    order: Sequence[int], style: str = "think", *, thinking: str = "", think_prefilled: bool = False
) -> str:
    r"""Write an order in the form that a model should use; `parse_order` reads it back.

    Args:
        order: the shown indices, place by place.
        style: think, direct or boxed.
        thinking: the text between the think tags, which may not contain tags. Style direct has none.
        think_prefilled: omit the opening tag, because the chat template has written it.

    Raises:
        RewardError: the style is unknown, or `thinking` contains a tag or is given for style direct.

    >>> format_order([2, 3, 1])
    '<think></think><answer>2, 3, 1</answer>'
    >>> format_order([2, 3, 1], "boxed", thinking="sky on top")
    '<think>sky on top</think>\\boxed{2, 3, 1}'
    >>> format_order([2, 3, 1], "direct")
    '2, 3, 1'
    """
    return with_tags(", ".join(map(str, order)), style, thinking=thinking, think_prefilled=think_prefilled)


def with_tags(answer: str, style: str = "think", *, thinking: str = "", think_prefilled: bool = False) -> str:
    """An answer of any kind with the tags of its style; arguments and errors are those of `format_order`."""
    if style not in ANSWER_STYLES:
        raise RewardError(f"answer style {style!r} is unknown; {did_you_mean(str(style), ANSWER_STYLES)}")
    if style == "direct":
        if thinking:
            raise RewardError("style direct has no thinking; use think or boxed")
        return answer
    if _TAGS.search(thinking):
        raise RewardError("thinking contains a think or answer tag; remove it")
    head = f"{'' if think_prefilled else _THINK}{thinking}{_THINK_END}"
    return f"{head}{_ANSWER}{answer}{_ANSWER_END}" if style == "think" else f"{head}\\boxed{{{answer}}}"


def _after_think(text: str, prefilled: bool) -> tuple[str, str] | None:
    """The thinking, and the stripped text after `</think>`; None if the text does not start with a think block."""
    body = text.strip()
    start = 0
    if not prefilled:
        if not body.startswith(_THINK):
            return None
        start = len(_THINK)
    end = body.find(_THINK_END, start)
    if end < 0:
        return None
    return body[start:end], body[end + len(_THINK_END) :].lstrip()


def _answer_in_tags(text: str, prefilled: bool) -> tuple[str, Reason | None]:
    """The text between the answer tags of style think, or the fault of the tags."""
    blocks = _after_think(text, prefilled)
    if blocks is None:
        return "", "malformed"
    thinking, tail = blocks
    if not (tail.startswith(_ANSWER) and tail.endswith(_ANSWER_END)):
        return "", "malformed"
    answer = tail[len(_ANSWER) : -len(_ANSWER_END)]
    if "<" not in thinking and "<" not in answer:  # the common case: there is no other tag
        return answer, None
    if _THINK in thinking or _THINK in tail or _THINK_END in tail:
        return "", "malformed"
    drafts = _answer_pairs(thinking)[0]
    answers = _answer_pairs(tail, adjacent=True)[0]
    if drafts < 0 or answers < 1:
        return "", "malformed"
    return (answer, None) if drafts + answers == 1 else ("", "several_answers")


def _answer_pairs(text: str, *, adjacent: bool = False) -> tuple[int, int, int]:
    """The number of `<answer>..</answer>` pairs and the span inside the last; -1 if the tags are not in pairs.

    Args:
        text: any text.
        adjacent: whether text between two pairs, other than white space, counts as a fault too (-1).
    """
    pairs, start, stop, opened = 0, 0, 0, False
    for tag in _TAGS.finditer(text):
        if tag.group() == _ANSWER:
            between = text[stop + len(_ANSWER_END) : tag.start()] if pairs else ""
            if opened or (adjacent and between.strip()):
                return -1, 0, 0
            start, opened = tag.end(), True
        elif tag.group() == _ANSWER_END:
            if not opened:
                return -1, 0, 0
            stop, opened, pairs = tag.start(), False, pairs + 1
    return (-1, 0, 0) if opened else (pairs, start, stop)


def _answer_in_box(text: str, prefilled: bool) -> tuple[str, Reason | None]:
    """The text in the one box after the thinking, or the fault of the tags."""
    blocks = _after_think(text, prefilled)
    if blocks is None:
        return "", "malformed"
    thinking, tail = blocks
    if _THINK in thinking or _THINK in tail or _THINK_END in tail:
        return "", "malformed"
    boxes, answer = _boxes(tail)
    if boxes < 1:
        return "", "malformed"
    return (answer, None) if boxes == 1 else ("", "several_answers")


def _boxes(text: str) -> tuple[int, str]:
    r"""The number of `\boxed{}`, including nested ones, and the content of the last.

    -1 if one is not closed, or is written `\boxed {`, which other parsers read differently.
    """
    if "\\boxed" not in text:
        return 0, ""
    boxes, depth, start, stop = 0, 0, 0, 0
    opened: list[tuple[int, int]] = []  # depth outside the box, start of its content
    for brace in _BRACES.finditer(text):
        token = brace.group()
        if token[0] == "}":
            while opened and depth - len(token) <= opened[-1][0]:
                outside, start = opened.pop()
                stop = brace.start() + depth - outside - 1
            depth = max(0, depth - len(token))
        elif token[0] == "{":
            depth += len(token)
        elif token == "\\boxed{":
            opened.append((depth, brace.end()))
            boxes, depth = boxes + 1, depth + 1
        elif token.startswith("\\boxed"):
            return -1, ""
    return (-1, "") if opened else (boxes, text[start:stop])


def plain_answer(answer: str, *, typeset: bool = False) -> str | None:
    """The content of an answer as plain text: half-width characters, no LaTeX, no surrounding space.

    Args:
        answer: the text between the tags or in the box.
        typeset: whether it is LaTeX even if it is not marked as math.

    Returns:
        The text, which may be empty, or None if its LaTeX is not supported.
    """
    body: str | None = answer if answer.isascii() else answer.translate(_NARROW)
    if body is not None and (typeset or has_math(body)):
        body = without_typesetting(body)
    return None if body is None else body.strip()


def without_brackets(body: str) -> str:
    """A plain answer without the pair of brackets around it, if there is one."""
    return body[1:-1].strip() if body and _BRACKETS.get(body[0]) == body[-1] else body


def read_order(answer: str, num_pieces: int, *, typeset: bool = False) -> tuple[list[int] | None, Reason]:
    """The permutation and the reason of an answer's content, read as LaTeX if it is `typeset` or marked as math."""
    body = plain_answer(answer, typeset=typeset)
    if not body:
        return None, "not_integers" if body is None else "empty"
    if body.endswith("."):
        body = body[:-1].rstrip()
        if not body:
            return None, "not_integers"
    body = without_brackets(body)
    if not body:
        return None, "empty"
    if _NUMBERS.fullmatch(body) is None:
        if _WORDED_NUMBERS.fullmatch(body) is None:
            return None, "not_integers"
        # "Tile 2, Tile 1" lists pieces; "first 3 then 1" is a sentence.
        if len({word.casefold() for word in _LETTERS.findall(body)}) > 1:
            return None, "not_integers"
    tokens = _DIGITS.findall(body)
    if len(tokens) != num_pieces:
        return None, "wrong_count"
    numbers = _numbers(num_pieces)
    try:
        order = [numbers[token] for token in tokens]
    except KeyError:
        return None, "out_of_range"
    if len(set(order)) != num_pieces:
        return None, "duplicate"
    return order, "ok"


def thinking_of(text: str, *, think_prefilled: bool = False) -> str | None:
    """The text between the think tags; None if the text does not begin with a think block.

    >>> thinking_of("<think>the sky</think><answer>1</answer>")
    'the sky'
    """
    blocks = _after_think(text, think_prefilled)
    return None if blocks is None else blocks[0]


def last_order(text: str, num_pieces: int) -> list[int] | None:
    """The last permutation of 1..K in a text, with numbers separated as in an answer; None if there is none.

    >>> last_order("Not 1, 2, 3 but 3, 1, 2 (4 hints).", 3)
    [3, 1, 2]
    """
    last = None
    for run in _NUMBERS.finditer(text if text.isascii() else text.translate(_NARROW)):
        order = read_order(run.group(), num_pieces)[0]
        last = order if order is not None else last
    return last


@lru_cache(maxsize=64)
def _numbers(num_pieces: int) -> dict[str, int]:
    """The numbers 1..K by their digits. `int()` would be quadratic, and refuses more than 4,300 digits."""
    return {str(number): number for number in range(1, num_pieces + 1)}
