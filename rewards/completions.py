"""A batch of completions with its columns: the text of each completion and the order parsed from it.

TRL passes message lists for chat prompts and plain strings otherwise; columns are lists with one value per row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, TypeVar

from jigsaw.rewards.errors import RewardError
from jigsaw.rewards.parse import ParsedOrder, parse_order

T = TypeVar("T")
Completion = str | Sequence[Mapping[str, Any]]
"""A model's output: a string, or a message list such as `[{"role": "assistant", "content": "2, 3, 1"}]`."""

Columns = Mapping[str, Any]
"""Name -> one value per row. A trainer adds its state and its loggers, which have no value per row."""


def completion_text(completion: Completion) -> str:
    """The text of a completion: the string, or the concatenated text of its messages.

    Raises:
        RewardError: it is neither a string nor a list of messages.

    >>> completion_text([{"role": "assistant", "content": "2, 3, 1"}])
    '2, 3, 1'
    >>> completion_text([{"role": "assistant", "content": [{"type": "text", "text": "2, 3, 1"}]}])
    '2, 3, 1'
    """
    if isinstance(completion, str):
        return completion
    try:
        return "".join(_content_text(message["content"]) for message in completion)
    except (TypeError, KeyError, AttributeError):
        raise RewardError(
            f"a completion is {type(completion).__name__} {str(completion)[:60]!r}; "
            "it must be a string or a list of messages with `role` and `content`"
        ) from None


def _content_text(content: Any) -> str:
    """The text of one message: a string, None (a message that only calls tools) or typed parts."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content or () if part.get("type", "text") == "text")


def per_row(name: str, column: Sequence[T] | None, count: int, missing: T) -> Iterable[T]:
    """A column's values, or `missing` for every row if there is no such column.

    Raises:
        RewardError: the column does not have one value per row.
    """
    if column is None:
        return repeat(missing, count)
    if len(column) != count:
        raise RewardError(f"column {name} has {len(column)} values for {count} completions; one per row is needed")
    return column


def parsed_rows(
    completions: Sequence[Completion],
    answer: Sequence[Sequence[int]],
    answer_style: Sequence[str | None] | None = None,
    think_prefilled: Sequence[bool | None] | None = None,
) -> Iterator[ParsedOrder]:
    """The result of `parse_order` for each completion, row by row.

    Args:
        completions: strings or message lists.
        answer: the right orders; only their lengths are used.
        answer_style: one style per row; missing means `think`.
        think_prefilled: per row, whether the chat template has written `<think>`; missing means False.

    Raises:
        RewardError: a column is not as long as the completions, or a style is unknown.

    >>> [parsed.order for parsed in parsed_rows(["2, 1", "1"], [[1, 2], [1]], ["direct", "direct"])]
    [[2, 1], [1]]
    """
    count = len(completions)
    truths = per_row("answer", answer, count, ())
    styles = per_row("answer_style", answer_style, count, None)
    prefilled = per_row("think_prefilled", think_prefilled, count, None)
    for completion, truth, style, opened in zip(completions, truths, styles, prefilled, strict=True):
        text = completion if isinstance(completion, str) else completion_text(completion)
        yield parse_order(text, len(truth), style or "think", think_prefilled=bool(opened))


def rows_of(completions: Sequence[Any], columns: Columns, rows: Sequence[int]) -> tuple[Sequence[Any], dict[str, Any]]:
    """Some rows of a batch; columns without one value per row, such as the trainer's state, are kept unchanged."""
    count = len(completions)
    if len(rows) == count:
        return completions, dict(columns)
    taken = {
        name: [column[row] for row in rows] if isinstance(column, list | tuple) and len(column) == count else column
        for name, column in columns.items()
    }
    if "log_extra" in columns:  # TRL expects one value per row of the whole batch

        def log_extra(name: str, values: Sequence[Any]) -> None:
            spread: list[Any] = [None] * count
            for row, value in zip(rows, values, strict=True):
                spread[row] = value
            columns["log_extra"](name, spread)

        taken["log_extra"] = log_extra
    return [completions[row] for row in rows], taken


def name_of(row: int, columns: Columns) -> str:
    """The id of a row, or its position if rows have no ids."""
    return str(columns["id"][row]) if "id" in columns else f"{row} of the batch"
