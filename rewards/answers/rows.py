"""A batch of completions of any kind: what is read in each.

In: completions beside their columns. Out: a `ParsedAnswer` per row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jigsaw.rewards.answers.base import ParsedAnswer
from jigsaw.rewards.answers.kinds import kind_of_row
from jigsaw.rewards.completions import Completion, completion_text, per_row


def parsed_answers(completions: Sequence[Completion], columns: Mapping[str, Any]) -> Iterator[ParsedAnswer]:
    """What the answer kind of each row reads in its completion.

    Args:
        completions: strings or message lists.
        columns: `answer`, and `answer_kind`, `answer_args`, `answer_style` and `think_prefilled` where they matter.

    Raises:
        RewardError: a column is not as long as the completions, or a kind or style is unknown.

    >>> columns = {"answer": [[1, 2], 7], "answer_kind": [None, "number"], "answer_style": ["direct", "direct"]}
    >>> [parsed.value for parsed in parsed_answers(["2, 1", "7"], columns)]
    [[2, 1], Fraction(7, 1)]
    """
    count = len(completions)
    names = ("answer", "answer_kind", "answer_args", "answer_style", "think_prefilled")
    rows = zip(*(per_row(name, columns.get(name), count, None) for name in names), strict=True)
    for completion, (truth, name, args, style, opened) in zip(completions, rows, strict=True):
        text, way, prefilled = completion_text(completion), style or "think", bool(opened)
        kind = kind_of_row({"answer": truth, "answer_kind": name, "answer_args": args})
        yield kind.parse(text, way, think_prefilled=prefilled)
