"""Fuzzes the readers of all kinds of answer: none crashes, refusals have a reason, only right answers score fully.

`JIGSAW_MUTATIONS` sets the number of completions of the slow test; it is a million by default.

The check does not use the readers: the answer of a text that earns the full score must have the tokens of the right
answer and no others.
"""

import math
import os
import re
import unicodedata
from random import Random

import pytest
from mutations import INVISIBLE, mutate

from jigsaw.rewards.answers import answer, kind_of_row

SHARES = {"order": 10, "choice": 20, "number": 20, "interval": 20, "box": 20, "text": 20, "math": 1}
"""Sampling weight of each kind; reading a mathematical answer takes milliseconds."""

EXPRESSIONS = [r"\frac{3}{4}", "7", r"2\sqrt{3}", "x+1", "12.5", r"\frac{22}{7}", "5/8", r"3\pi"]
WORDS = ["Louvre", "blue car", "12 May", "a b c", "Zürich"]
LETTERS = "ABCDEF"


def random_answers(rng):
    """Name and arguments of a random kind, a right answer and a wrong one."""
    name = rng.choices(list(SHARES), list(SHARES.values()))[0]
    if name == "order":
        pieces = list(range(1, rng.randint(3, 10)))
        return name, {}, rng.sample(pieces, len(pieces)), rng.sample(pieces, len(pieces))
    if name == "math":
        return name, {}, *rng.sample(EXPRESSIONS, 2)
    if name == "choice":
        options = list(LETTERS[: rng.randint(2, 6)])
        return name, {"options": options}, *rng.sample(options, 2)
    if name == "number":
        return name, {}, *rng.sample([*range(-99, 999), 0.25, 12.5], 2)
    if name == "interval":
        return name, {"duration": 100}, *([start, start + rng.randint(1, 9)] for start in rng.sample(range(90), 2))
    if name == "box":
        corners = [(rng.randint(0, 80), rng.randint(0, 80)) for _ in range(2)]
        return name, {"width": 100, "height": 100}, *([x, y, x + 11, y + 7 + n] for n, (x, y) in enumerate(corners))
    return name, {"metric": rng.choice(["exact", "anls"])}, *rng.sample(WORDS, 2)


def tokens(text):
    return re.findall(r"[0-9]+|[^\W\d_]+", unicodedata.normalize("NFKC", text).casefold())


def contains_only_the_answer(text, right, style):
    """Whether the last answer has the tokens of the right one and no others, except a noun before a letter."""
    opening, closing = {"think": ("<answer>", "</answer>"), "boxed": ("\\boxed{", "}"), "direct": ("", "")}[style]
    inner = text.rpartition(opening)[2] if opening else text
    ends = [match.start() for match in re.finditer(re.escape(closing), inner)] if closing else [len(inner)]
    return any(_is_answer(inner[:end], right) for end in ends)


def _is_answer(inner, right):
    if not isinstance(right, str):
        numbers = [float(each) for each in re.findall(r"[0-9]*\.?[0-9]+", unicodedata.normalize("NFKC", inner))]
        return numbers == [abs(each) for each in (right if isinstance(right, list) else [right])]
    written = tokens(INVISIBLE.sub("", re.sub(r"\\(?:quad|to)\b", " ", inner)))
    return written == tokens(right) or (len(right) == 1 and written[-1:] == tokens(right) and len(written) <= 3)


def is_the_expression(written, right):
    """Whether two expressions have the same text, apart from what LaTeX does not print, or the same number."""
    one, other = (
        INVISIBLE.sub("", re.sub(r"\\(?:[,;:! ]|quad)|[\s.]+$|^\s+|\s", "", each)) for each in (written, right)
    )
    if one == other:
        return True
    numbers = [_value(each) for each in (written, right)]
    return None not in numbers and abs(numbers[0] - numbers[1]) < 1e-6


def _value(text):
    """The value of an expression of digits, signs, fractions, roots, pi and x (a constant here); None for any other.

    Letters after a number are its unit, which math-verify ignores.
    """
    text = re.sub(r"(?<=[0-9])\s*[a-wyz]{1,3}$", "", text)
    text = unicodedata.normalize("NFKC", text).replace("\\$", "").replace("\\cdot", "*")
    text = re.sub(r"\\(?:[,;:! ]|quad|left|right|mathbf|textbf|text)|[$\s~]", "", text)
    text = re.sub(r"\\[dt]?frac([0-9]|\{[^{}]*\})([0-9]|\{[^{}]*\})", r"((\1)/(\2))", text)
    text = re.sub(r"\\sqrt([0-9])", r"\\sqrt(\1)", text).replace("{", "(").replace("}", ")")
    text = re.sub(r"\\?sqrt", "ROOT", text).replace("\\pi", "(PI)").replace("x", "(0.7321)")
    text = re.sub(r"(?<=[0-9.)])(?=[(R])|(?<=\))(?=[0-9.])", "*", text)
    text = re.sub(r"(?<![0-9.])0+(?=[0-9])", "", text)
    if not re.fullmatch(r"(?:[0-9.+\-*/()]|ROOT|PI)*", text):
        return None
    try:
        return float(eval(text, {"__builtins__": {}, "ROOT": math.sqrt, "PI": math.pi}))
    except (SyntaxError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None


def fuzz(count, seed):
    """Scores `count` mutated completions and counts the right, the valid and the refused ones."""
    rng = Random(seed)
    kinds = dict.fromkeys(SHARES, 0)
    tally = {"right": 0, "valid": 0, "refused": 0}
    for _ in range(count):
        name, args, right, wrong = random_answers(rng)
        kind = kind_of_row({"answer": right, "answer_kind": name, "answer_args": args})
        style = rng.choice(["think", "boxed", "direct"])
        written = right if rng.random() < 0.7 else wrong
        text = mutate(kind.format(written, style, thinking="" if style == "direct" else "A or 12, Louvre"), rng)
        parsed = kind.parse(text, style)
        (value,) = answer([text], [right], [name], [args], [style])
        assert parsed.reason in kind.REASONS, (text, parsed)
        assert (parsed.value is not None) == (parsed.reason == "ok"), (text, parsed)
        if parsed.value is None:
            tally["refused"] += 1
            assert value in (0.0, 0.2), (text, value)
            assert value == 0.0 or parsed.well_formed, text
            continue
        tally["valid"] += 1
        assert 0.0 <= value <= 1.2
        if value >= 1.0 and kind.score(parsed.value, right) == 1.0:
            tally["right"] += 1
            kinds[name] += 1
            if name == "math":
                assert is_the_expression(parsed.value, right), (text, right)
                continue
            assert contains_only_the_answer(text, right, style), (text, right)
    assert min(kinds.values()) > count / 2000, kinds
    return tally


def test_fifteen_thousand_mutated_answers():
    pytest.importorskip("math_verify")
    assert min(fuzz(15_000, seed=0).values()) > 1000


@pytest.mark.slow
def test_a_million_mutated_answers():
    tally = fuzz(int(os.environ.get("JIGSAW_MUTATIONS", "1000000")), seed=1)
    print(tally)
    assert min(tally.values()) > 0.05 * sum(tally.values())
