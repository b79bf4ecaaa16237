"""A million mutated completions of every answer kind: no crash, every refusal named, no point without the right answer.

The judge is written apart from the readers: a text that earns the whole score holds, in its answer, the tokens of the
right one and no others.
"""

import re
import unicodedata
from random import Random

import pytest
from mutations import NOTHING, mutated

from jigsaw.rewards.answers import answer, kind_of

WORDS = ["Louvre", "blue car", "12 May", "a b c", "Zürich"]
LETTERS = "ABCDEF"


def made(rng):
    """A kind with its arguments, the right answer and a wrong one."""
    name = rng.choice(["choice", "number", "interval", "box", "text"])
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


def holds_the_answer_alone(text, right, style):
    """Whether the inside of the last answer has the tokens of the right one, and no others but a noun."""
    opening, closing = {"think": ("<answer>", "</answer>"), "boxed": ("\\boxed{", "}"), "direct": ("", "")}[style]
    inner = text.rpartition(opening)[2] if opening else text
    ends = [match.start() for match in re.finditer(re.escape(closing), inner)] if closing else [len(inner)]
    return any(_is_answer(inner[:end], right) for end in ends)


def _is_answer(inner, right):
    if not isinstance(right, str):
        said = [float(each) for each in re.findall(r"[0-9]*\.?[0-9]+", unicodedata.normalize("NFKC", inner))]
        return said == [abs(each) for each in (right if isinstance(right, list) else [right])]
    said = tokens(NOTHING.sub("", re.sub(r"\\(?:quad|to)\b", " ", inner)))
    return said == tokens(right) or (len(right) == 1 and said[-1:] == tokens(right) and len(said) <= 3)


def fuzz(count, seed):
    """Score `count` mutated completions; how many were right, valid, refused."""
    rng = Random(seed)
    tally = {"right": 0, "valid": 0, "refused": 0}
    for _ in range(count):
        name, args, right, wrong = made(rng)
        kind, style = kind_of(name, args), rng.choice(["think", "boxed", "direct"])
        said = right if rng.random() < 0.7 else wrong
        text = mutated(kind.format(said, style, thinking="" if style == "direct" else "A or 12, Louvre"), rng)
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
            assert holds_the_answer_alone(text, right, style), (text, right)
    return tally


def test_a_slice_of_the_fuzz_of_answers():
    assert min(fuzz(15_000, seed=0).values()) > 1000


@pytest.mark.slow
def test_a_million_mutated_answers():
    tally = fuzz(1_000_000, seed=1)
    print(tally)
    assert min(tally.values()) > 50_000
