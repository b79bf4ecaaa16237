"""Agreement of reasoning and answer: whether the answer is the last one that the reasoning names.

A model can answer correctly although its reasoning concludes something else, and rewards of the answer do not notice
(PuzzleCraft measures it). The metric is 1 if the last order or option within `<think>` is the answer, 0 if it is
another one, and has no value if the reasoning names none or the answer is of another kind. In a recipe, `gate:
agreement` sets a reward to 0 where the two differ.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from jigsaw.rewards.answers.choice import NOUNS, Choice
from jigsaw.rewards.answers.order import Order
from jigsaw.rewards.answers.rows import answer_rows
from jigsaw.rewards.completions import Completion
from jigsaw.rewards.parse import last_order, thinking_of
from jigsaw.rewards.plugin import metric


@metric
def agreement(
    completions: Sequence[Completion],
    answer: Sequence[Any],
    answer_kind: Sequence[str | None] | None = None,
    answer_args: Sequence[Any] | None = None,
    answer_style: Sequence[str | None] | None = None,
    think_prefilled: Sequence[bool | None] | None = None,
    **columns: Any,
) -> list[float | None]:
    """1 if the last order or option in the reasoning is the completion's answer, 0 if not, None if there is none.

    >>> agreement(["<think>It must be 2, 1, 3.</think><answer>2, 1, 3</answer>"], [[1, 2, 3]])
    [1.0]
    >>> options = [{"options": ["A", "B"]}]
    >>> agreement(["<think>So option B.</think><answer>A</answer>"], ["A"], ["choice"], options)
    [0.0]
    """
    columns |= {
        "answer": answer,
        "answer_kind": answer_kind,
        "answer_args": answer_args,
        "answer_style": answer_style,
        "think_prefilled": think_prefilled,
    }
    values: list[float | None] = []
    for row in answer_rows(completions, columns):
        answered = row.parsed().value
        thinking = None if row.style == "direct" else thinking_of(row.text, think_prefilled=row.think_prefilled)
        named = None if thinking is None or answered is None else named_last(thinking, row.kind)
        values.append(None if named is None else float(named == answered))
    return values


def named_last(thinking: str, kind: Any) -> Any:
    """The last order or option that a text names unambiguously; None if there is none. Time is linear in the text.

    >>> named_last("First I thought 1, 2, 3. No: 3 -> 1 -> 2, as the sky is on top.", Order(num_pieces=3))
    [3, 1, 2]
    >>> named_last("A dog is in picture 2, so (A) is wrong and the answer is B.", Choice(options=("A", "B")))
    'B'
    """
    if isinstance(kind, Order):
        return last_order(thinking, kind.num_pieces)
    if isinstance(kind, Choice):
        last = None
        for match in _naming(kind.options).finditer(thinking):
            last = next(group for group in match.groups() if group is not None)
        labels = {label.casefold(): label for label in kind.options}
        return None if last is None else labels[last.casefold()]
    return None


@lru_cache(maxsize=256)
def _naming(options: tuple[str, ...]) -> re.Pattern[str]:
    """Matches the label of an option after a noun ("option B", "the answer is B"), in brackets, or as a full line."""
    label = "|".join(sorted(map(re.escape, options), key=len, reverse=True))
    noun = rf"\b(?i:{NOUNS})\b(?:\s(?:is|must\sbe|should\sbe|would\sbe))?:?\s"
    return re.compile(
        rf"{noun}\(?({label})\b(?!\s?[,-]?\s?\d)|\(({label})\)|^[ \t]*({label})[.)]?[ \t]*$", re.MULTILINE
    )
