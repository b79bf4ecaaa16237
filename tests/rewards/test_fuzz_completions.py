"""Fuzzes the parser of orders: no mutated completion crashes it, and only the right answer earns the exact score.

The test of a million completions runs with `pytest -m slow tests/rewards/test_fuzz_completions.py`; a smaller one
always runs. The check does not use the parser: a text that earns the exact score must have, between its last opening
and closing mark, the digits of the answer in the right sequence and no others, also where LaTeX prints no space.
"""

import re
import time
import unicodedata
from random import Random

import pytest
from mutations import INVISIBLE, LATEX_ORDERS, mutate

from jigsaw.rewards import format_order, parse_order, visual_jigsaw


def contains_exactly_the_answer(text, answer, style):
    """Whether the answer in the text has these numbers in this sequence and no others before its closing mark."""
    opening, closing = {"think": ("<answer>", "</answer>"), "boxed": ("\\boxed{", "}"), "direct": ("", "")}[style]
    inner = text.rpartition(opening)[2] if opening else text
    numbers = list(re.finditer("[0-9０-９]+", inner))
    digits = [unicodedata.normalize("NFKC", number.group()) for number in numbers]
    if digits[: len(answer)] != [str(number) for number in answer]:
        return False
    printed = INVISIBLE.sub("", inner[: numbers[len(answer) - 1].end()])
    if len(re.findall("[0-9０-９]+", printed)) != len(answer):
        return False
    end = numbers[len(answer)].start() if len(numbers) > len(answer) else len(inner)
    return closing in inner[numbers[len(answer) - 1].end() : end] and (bool(opening) or end == len(inner))


def fuzz(count, seed):
    """Scores `count` mutated completions and counts the exact, the valid and the refused ones."""
    rng = Random(seed)
    tally = {"exact": 0, "valid": 0, "refused": 0}
    for _ in range(count):
        size = rng.choice([1, 2, 3, 4, 6, 9, 12])
        style = rng.choice(["think", "boxed", "direct"])
        answer = rng.sample(range(1, size + 1), size)
        written = answer if rng.random() < 0.7 else rng.sample(answer, size)
        text = format_order(written, style, thinking="" if style == "direct" else "the sky 1, 2, 3 is on top")
        if rng.random() < 0.3:
            text = text.replace(
                ", ".join(map(str, written)), rng.choice(LATEX_ORDERS)([str(number) for number in written])
            )
        text = mutate(text, rng)
        parsed = parse_order(text, size, style)
        (value,) = visual_jigsaw([text], [answer], [style])
        if parsed.order is None:
            tally["refused"] += 1
            assert value in (0.0, 0.2), (text, value)
            continue
        assert sorted(parsed.order) == list(range(1, size + 1)), text
        tally["valid"] += 1
        exact = value >= 1.0
        assert exact == (parsed.order == answer), (text, answer, value)
        if exact:
            tally["exact"] += 1
            assert contains_exactly_the_answer(text, answer, style), (text, answer)
    return tally


def test_twenty_thousand_mutated_completions():
    tally = fuzz(20_000, seed=0)
    assert min(tally.values()) > 1000  # the mutations are neither all harmless nor all fatal


@pytest.mark.slow
def test_a_million_mutated_completions():
    start = time.perf_counter()
    tally = fuzz(1_000_000, seed=1)
    print(f"{tally} in {time.perf_counter() - start:.0f} s")
    assert min(tally.values()) > 50_000
