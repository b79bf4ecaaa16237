"""The reward `answer`: parses and scores the answer of a row by its kind, and adds the format weight.

On orders it equals `visual_jigsaw` exactly, so that one entry of a recipe scores a mixture of puzzles and questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jigsaw.rewards.answers.rows import answer_rows
from jigsaw.rewards.completions import Completion
from jigsaw.rewards.plugin import reward
from jigsaw.rewards.visual_jigsaw import check_options


@reward
def answer(
    completions: Sequence[Completion],
    answer: Sequence[Any],
    answer_kind: Sequence[str | None] | None = None,
    answer_args: Sequence[Mapping[str, Any] | str | None] | None = None,
    answer_style: Sequence[str | None] | None = None,
    classes: Sequence[Sequence[int] | None] | None = None,
    think_prefilled: Sequence[bool | None] | None = None,
    *,
    discount: float = 0.2,
    format_weight: float = 0.2,
    min_pieces_for_partial: int = 1,
    format_gate: bool = True,
    **columns: Any,
) -> list[float]:
    """The score of each row's answer by its kind, plus the format weight where the style has a format.

    Args:
        completions: strings or message lists.
        answer: per row, the right answer in the form of its kind.
        answer_kind: per row order, choice, number, interval, box, text or math; missing means order.
        answer_args: per row the arguments of its kind.
        answer_style: per row think, boxed or direct; missing means think.
        classes: per row None or, for orders, one class number per shown piece.
        think_prefilled: per row whether the chat template has written `<think>`.
        discount: factor of the fraction of right places for an order that is not exact, in [0, 1].
        format_weight: added if the text is well formed, except in style direct; at least 0.
        min_pieces_for_partial: orders of fewer pieces earn no partial credit.
        format_gate: badly formed text earns 0. Without the gate its answer counts if it has exactly one.
        columns: other columns of the rows, not used.

    Returns:
        One value in [0, 1 + format_weight] per row.

    Raises:
        RewardError: an option is out of range, or a row's answer is not of its kind.

    >>> text = "<think>sky</think><answer>B</answer>"
    >>> answer([text], ["B"], ["choice"], [{"options": ["A", "B"]}])
    [1.2]
    """
    check_options(discount, format_weight)
    columns |= {
        "answer": answer,
        "answer_kind": answer_kind,
        "answer_args": answer_args,
        "answer_style": answer_style,
        "classes": classes,
        "think_prefilled": think_prefilled,
    }
    rewards = []
    for row in answer_rows(completions, columns, discount=discount, min_pieces_for_partial=min_pieces_for_partial):
        row.kind.check(row.answer)
        parsed = row.parsed()
        value = parsed.value
        if not (parsed.well_formed or format_gate):
            value = row.kind.find(row.text, row.style).value
        earned = row.kind.score(value, row.answer)
        rewards.append(earned + format_weight if parsed.well_formed and row.style != "direct" else earned)
    return rewards
