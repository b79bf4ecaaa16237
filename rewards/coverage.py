"""Which rows a reward scores: those of its tasks (`only`), and those whose kind of answer it can score.

A reward or metric that is marked with `orders_only` scores orders. On rows with another kind of answer such a metric
has no value, and such a reward is refused, because a row without a reward would count as any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from jigsaw.rewards.completions import Columns, name_of
from jigsaw.rewards.errors import RewardError

if TYPE_CHECKING:
    from jigsaw.rewards.compose import Component

F = TypeVar("F", bound=Callable[..., Any])


def orders_only(function: F) -> F:
    """Mark a reward or metric that scores orders only."""
    function.orders_only = True  # type: ignore[attr-defined]
    return function


def covered_rows(component: Component, count: int, columns: Columns) -> Sequence[int]:
    """The rows of a batch that a component scores.

    Args:
        component: the reward or metric.
        count: rows of the batch.
        columns: `answer_kind` and, if the component names tasks, `task`.

    Raises:
        RewardError: the rows have no column `task`, or the component is a reward for orders only and a row has another
            kind of answer.
    """
    rows: Sequence[int] = range(count)
    if (only := component.spec.only) is not None:
        if "task" not in columns:
            raise RewardError(
                f"reward {component.name} is for {', '.join(only)} only, but the rows have no column task"
            )
        rows = [row for row in rows if columns["task"][row] in only]
    kinds = columns.get("answer_kind")
    if kinds is None or not _takes_orders_only(component):
        return rows
    if not component.is_metric:
        for row in rows:
            _check_kind(component, kinds[row], name_of(row, columns))
    return [row for row in rows if kinds[row] in (None, "order")]


def check_coverage(rewards: Sequence[Component], kinds: Mapping[tuple[str, str], str]) -> None:
    """Refuse rows that no reward can score.

    Args:
        rewards: the components that are optimised.
        kinds: task and answer kind of the rows -> the id of one such row.

    Raises:
        RewardError: a reward for orders applies to a row of another kind, or no reward applies to a task.
    """
    for (task, kind), row in kinds.items():
        scoring = [part for part in rewards if part.spec.only is None or task in part.spec.only]
        if rewards and not scoring:
            raise RewardError(
                f"no reward scores row {row} of task {task}; add one, such as {{use: answer, only: [{task}]}}"
            )
        for part in scoring:
            if _takes_orders_only(part):
                _check_kind(part, kind, row)


def _takes_orders_only(component: Component) -> bool:
    function = component.plugin.function
    return bool(getattr(function.func if isinstance(function, partial) else function, "orders_only", False))


def _check_kind(component: Component, kind: str | None, row: str) -> None:
    if kind not in (None, "order"):
        raise RewardError(
            f"reward {component.name} scores orders only, but the answer of row {row} is of kind {kind}; "
            "use the reward `answer`, or restrict it to tasks with orders (only: [image])"
        )
