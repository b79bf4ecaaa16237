"""The order scores as rewards and metrics: a batch of completions in, one value per row out.

All parse the order with `parse_order` and are 0 if there is none, also for badly formed text. An `exponent` above 1
raises a score to that power, so that a few right places earn little. The scores have no format weight; combine them
with `format`. `valid` and `exact` are the rates that an evaluation reports.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from jigsaw.rewards import orders
from jigsaw.rewards.answers.rows import AnswerRow, answer_rows
from jigsaw.rewards.completions import Completion, parsed_rows, per_row
from jigsaw.rewards.coverage import orders_only
from jigsaw.rewards.errors import RewardError
from jigsaw.rewards.plugin import metric

Grid = tuple[int, int]
Orders = Sequence[Sequence[int]]
Styles = Sequence[str | None] | None
Classes = Sequence[Sequence[int] | None] | None
Flags = Sequence[bool | None] | None
Geometry = Mapping[str, Any] | str


def grid_of(geometry: Geometry | None, num_pieces: int) -> Grid | None:
    """The grid of a row's places, from its `geometry` column.

    Args:
        geometry: a mapping with the key `grid`, `[rows, columns]` (loaded rows), or its JSON text (stored rows). Other
            values are ignored.
        num_pieces: K. A grid with another number of cells is ignored: it may be the tiles of each clip.

    Returns:
        `(rows, columns)`, or None for places in a row.

    >>> grid_of('{"grid": [2, 3]}', 6), grid_of({"grid": [2, 3]}, 6), grid_of('{"grid": [2, 3]}', 5), grid_of(None, 6)
    ((2, 3), (2, 3), None, None)
    """
    grid: Any = geometry.get("grid") if isinstance(geometry, Mapping) else _grid_in(geometry or "{}")
    try:
        rows, columns = grid
    except (ValueError, TypeError):
        return None
    counts = isinstance(rows, int) and isinstance(columns, int) and rows > 0
    return (rows, columns) if counts and rows * columns == num_pieces else None


@lru_cache(maxsize=4096)
def _grid_in(geometry: str) -> Any:
    """The `grid` in a geometry's JSON text; None if there is none."""
    try:
        return json.loads(geometry)["grid"]
    except (ValueError, KeyError, TypeError):
        return None


def _order_score(score: Callable[..., float], summary: str) -> Callable[..., list[float]]:
    """A reward from the score of one order: it parses and scores every row, and passes keyword options on.

    Args:
        score: `score(order, answer, classes, **options)`. If it has the option `grid`, it gets the grid of each row.
        summary: the reward's docstring.
    """
    own = [each for each in inspect.signature(score).parameters.values() if each.kind is each.KEYWORD_ONLY]
    on_grid = any(each.name == "grid" for each in own)

    def scored(
        completions: Sequence[Completion],
        answer: Orders,
        answer_style: Styles = None,
        classes: Classes = None,
        think_prefilled: Flags = None,
        geometry: Sequence[Geometry | None] | None = None,
        *,
        grid: Any = None,
        exponent: float = 1.0,
        **columns: Any,
    ) -> list[float]:
        if not 0.0 < exponent < float("inf"):
            raise RewardError(f"exponent is {exponent}; it must be above 0")
        options = {each.name: columns[each.name] for each in own if each.name in columns}
        parsed = parsed_rows(completions, answer, answer_style, think_prefilled)
        alike = per_row("classes", classes, len(completions), None)
        if not on_grid:
            rows = zip(parsed, answer, alike, strict=True)
            return [score(row.order, truth, kinds, **options) ** exponent for row, truth, kinds in rows]
        cut = zip(parsed, answer, alike, _grids(answer, geometry, grid), strict=True)
        return [score(row.order, truth, kinds, grid=own, **options) ** exponent for row, truth, kinds, own in cut]

    hidden = () if on_grid else ("geometry", "grid")
    read = [each for name, each in inspect.signature(scored).parameters.items() if name not in hidden]
    options = [each for each in own if each.name != "grid"]
    scored.__signature__ = inspect.Signature([*read[:-1], *options, read[-1]])  # type: ignore[attr-defined]
    scored.__name__ = scored.__qualname__ = score.__name__
    scored.__doc__ = summary
    return orders_only(scored)


def _grids(answer: Orders, geometry: Sequence[Geometry | None] | None, grid: Any) -> list[Grid | None]:
    """The grid of each row: the option `grid` if it has one cell per piece, else the grid of the row's geometry."""
    own: Grid | None = None
    if grid is not None:
        if isinstance(grid, str) or len(grid) != 2 or not all(isinstance(side, int) and side > 0 for side in grid):
            raise RewardError(f"grid is {grid!r}; it must be two counts, [rows, columns]")
        own = (grid[0], grid[1])
    texts = per_row("geometry", geometry, len(answer), None)
    return [
        own if own and own[0] * own[1] == len(truth) else grid_of(text, len(truth))
        for text, truth in zip(texts, answer, strict=True)
    ]


place_accuracy = _order_score(
    orders.place_accuracy,
    "The fraction of places with the right piece; with an exponent above 1 a smooth curve towards exact.",
)
neighbor_accuracy = _order_score(
    orders.neighbor_accuracy,
    "The fraction of neighbouring places whose pieces are true neighbours: right and below on a grid, else in a row. "
    "The grid is the option `grid` if it has one cell per piece, else that of the row's `geometry`.",
)
kendall_tau = _order_score(
    orders.kendall_tau, "The fraction of pairs of pieces in the right sequence (Kendall's tau scaled to 0..1)."
)
footrule = _order_score(
    orders.footrule, "One minus the sum of displacements over its maximum (Spearman's footrule scaled to 0..1)."
)
longest_run = _order_score(orders.longest_run, "The longest run of right places over the number of pieces.")
smoothed = _order_score(
    orders.smoothed, "Credit that falls by the factor `decay` with every step of displacement, on the grid or in a row."
)


def exact(
    completions: Sequence[Completion],
    answer: Sequence[Any],
    answer_style: Styles = None,
    classes: Classes = None,
    think_prefilled: Flags = None,
    answer_kind: Sequence[str | None] | None = None,
    answer_args: Sequence[Any] | None = None,
    **columns: Any,
) -> list[float]:
    """1 if the answer is right (pieces of a class may be exchanged, an overlap must be large enough), else 0."""
    rows = _rows(completions, answer, answer_style, think_prefilled, answer_kind, answer_args, classes)
    return [float(row.kind.is_right(row.parsed().value, row.answer)) for row in rows]


@metric
def valid(
    completions: Sequence[Completion],
    answer: Sequence[Any],
    answer_style: Styles = None,
    think_prefilled: Flags = None,
    answer_kind: Sequence[str | None] | None = None,
    answer_args: Sequence[Any] | None = None,
    **columns: Any,
) -> list[float]:
    """1 if the completion has exactly one answer of its row's kind in the right form, right or wrong; else 0."""
    rows = _rows(completions, answer, answer_style, think_prefilled, answer_kind, answer_args, None)
    return [float(row.parsed().reason == "ok") for row in rows]


def _rows(completions: Sequence[Completion], *columns: Any) -> Iterator[AnswerRow]:
    names = ("answer", "answer_style", "think_prefilled", "answer_kind", "answer_args", "classes")
    return answer_rows(completions, dict(zip(names, columns, strict=True)))
