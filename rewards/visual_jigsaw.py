"""The paper's reward (Visual Jigsaw, arXiv 2509.25190, method section): an order reward plus a format reward.

The exact order earns 1, another permutation earns `discount` times the fraction of right places, and anything else 0.
Well-formed text adds `format_weight`; badly formed text earns 0 in total. With the paper's values the maximum is 1.2,
and random orders on 3x3 puzzles earn 0.2222 (`jigsaw.rewards.chance`): a model at that level has learned only the
format.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import eq
from typing import Any

from jigsaw.rewards.completions import Completion, completion_text, parsed_rows, per_row
from jigsaw.rewards.coverage import orders_only
from jigsaw.rewards.errors import RewardError
from jigsaw.rewards.orders import check_answer, place_accuracy
from jigsaw.rewards.parse import find_order
from jigsaw.rewards.plugin import reward


def order_reward(
    order: Sequence[int] | None,
    answer: Sequence[int],
    classes: Sequence[int] | None = None,
    *,
    discount: float = 0.2,
    min_pieces_for_partial: int = 1,
) -> float:
    """The order part of the reward, in [0, 1].

    Args:
        order: shown indices, place by place; if it is not a permutation of 1..K, it earns 0.
        answer: the right order.
        classes: one class number per shown piece, or None; pieces of a class may be exchanged.
        discount: factor of the fraction of right places for an order that is not exact, in [0, 1].
        min_pieces_for_partial: puzzles with fewer pieces earn 1 or 0 only (the released code: 5; the paper: 1).

    Raises:
        RewardError: the answer is no permutation, or the number of classes is not K.

    >>> order_reward([2, 1, 3], [2, 3, 1]), order_reward([2, 3, 1], [2, 3, 1]), order_reward(None, [2, 3, 1])
    (0.06666666666666667, 1.0, 0.0)
    """
    check_answer(answer, classes)
    if order is None or sorted(order) != sorted(answer):
        return 0.0
    right = sum(map(eq, order, answer)) / len(answer) if classes is None else place_accuracy(order, answer, classes)
    if right == 1.0:
        return 1.0
    return discount * right if len(answer) >= min_pieces_for_partial else 0.0


def check_options(discount: float, format_weight: float) -> None:
    """Refuse options that are out of range.

    Raises:
        RewardError: one is out of range.
    """
    if not 0.0 <= discount <= 1.0:
        raise RewardError(f"discount is {discount}; it must be from 0 to 1")
    if not 0.0 <= format_weight < float("inf"):
        raise RewardError(f"format_weight is {format_weight}; it must be at least 0")


@reward
@orders_only
def visual_jigsaw(
    completions: Sequence[Completion],
    answer: Sequence[Sequence[int]],
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
    """The paper's reward: order, plus format where the style has one (method section).

    Args:
        completions: strings or message lists.
        answer: per row, the right order.
        answer_style: per row think, boxed or direct; missing means think.
        classes: per row None or one class number per shown piece.
        think_prefilled: per row whether the chat template has written `<think>`.
        discount: factor of the fraction of right places for an order that is not exact, in [0, 1].
        format_weight: added if the text is well formed, except in style direct; at least 0.
        min_pieces_for_partial: puzzles with fewer pieces earn no partial credit.
        format_gate: badly formed text earns 0. Without the gate its answer counts if it has exactly one.
        columns: other columns of the rows, not used.

    Returns:
        One value in [0, 1 + format_weight] per row.

    Raises:
        RewardError: an option is out of range, or a row's answer is not a permutation.

    >>> visual_jigsaw(["<think>sky</think><answer>2, 3, 1</answer>", "2, 3, 1"], [[2, 3, 1], [2, 3, 1]])
    [1.2, 0.0]
    >>> visual_jigsaw(["2, 1, 3"], [[2, 3, 1]], answer_style=["direct"], discount=0.3)
    [0.09999999999999999]
    """
    check_options(discount, format_weight)
    count = len(completions)
    parsed_orders = parsed_rows(completions, answer, answer_style, think_prefilled)
    styles = per_row("answer_style", answer_style, count, None)
    alike = per_row("classes", classes, count, None)
    rewards = []
    for parsed, completion, truth, style, kinds in zip(parsed_orders, completions, answer, styles, alike, strict=True):
        order = parsed.order
        if not (parsed.well_formed or format_gate):
            order = find_order(completion_text(completion), len(truth), style or "think").order
        value = order_reward(order, truth, kinds, discount=discount, min_pieces_for_partial=min_pieces_for_partial)
        if parsed.well_formed and style != "direct":
            value += format_weight
        rewards.append(value)
    return rewards
