"""A batch of completions of any kind, row by row: the text, the right answer and its kind, and the parsed answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jigsaw.rewards.answers.base import AnswerKind, ParsedAnswer
from jigsaw.rewards.answers.kinds import kind_of_row
from jigsaw.rewards.completions import Completion, completion_text, per_row

_COLUMNS = ("answer", "answer_kind", "answer_args", "classes", "answer_style", "think_prefilled")


class AnswerRow(NamedTuple):
    """One completion with what its row says about the answer."""

    text: str
    answer: Any
    kind: AnswerKind
    style: str
    think_prefilled: bool

    def parsed(self) -> ParsedAnswer:
        """The answer that the completion gives."""
        return self.kind.parse(self.text, self.style, think_prefilled=self.think_prefilled)


def answer_rows(
    completions: Sequence[Completion], columns: Mapping[str, Any], **order_options: Any
) -> Iterator[AnswerRow]:
    """The rows of a batch.

    Args:
        completions: strings or message lists.
        columns: `answer`, and optionally `answer_kind`, `answer_args`, `classes`, `answer_style` and `think_prefilled`.
        order_options: partial credit of orders; see `kind_of_row`.

    Raises:
        RewardError: a column is not as long as the completions, or a kind is unknown.
    """
    values = (per_row(name, columns.get(name), len(completions), None) for name in _COLUMNS)
    for completion, *own in zip(completions, *values, strict=True):
        row = dict(zip(_COLUMNS, own, strict=True))
        style, prefilled = row["answer_style"] or "think", bool(row["think_prefilled"])
        yield AnswerRow(completion_text(completion), row["answer"], kind_of_row(row, **order_options), style, prefilled)


def parsed_answers(completions: Sequence[Completion], columns: Mapping[str, Any]) -> Iterator[ParsedAnswer]:
    """The answer in each completion, read by the kind of its row; arguments and errors are those of `answer_rows`.

    >>> columns = {"answer": [[1, 2], 7], "answer_kind": [None, "number"], "answer_style": ["direct", "direct"]}
    >>> [parsed.value for parsed in parsed_answers(["2, 1", "7"], columns)]
    [[2, 1], Fraction(7, 1)]
    """
    return (row.parsed() for row in answer_rows(completions, columns))
