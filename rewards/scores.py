"""Each order score as a reward or metric of its own: a batch of completions in, one value per row out.

All read the order with `parse_order` and are 0 where there is none, badly formed text included. `exponent` bends a
score into a smooth curve: above 1 it pays little for a few right places and more and more towards the whole; 1 leaves
it as it is. They carry no format weight; compose them with `format`. `valid` and `exact` are the rates that an
evaluation reports.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from jigsaw.rewards import orders
from jigsaw.rewards.completions import Completion, parsed_rows, per_row
from jigsaw.rewards.errors import RewardError
from jigsaw.rewards.plugin import metric

Grid = tuple[int, int]
Orders = Sequence[Sequence[int]]
Styles = Sequence[str | None] | None
Classes = Sequence[Sequence[int] | None] | None
Flags = Sequence[bool | None] | None
Geometry = Mapping[str, Any] | str


def grid_of(geometry: Geometry | None, num_pieces: int) -> Grid | None:
    """The grid of a row's places, out of its `geometry` column.

    Args:
        geometry: a mapping with the key `grid`, `[rows, columns]` (loaded rows), its JSON text (stored rows), or
            anything else.
        num_pieces: K. A grid of another number of cells says nothing about the places (the tiles of each clip, say).

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
    """The `grid` in a geometry's JSON text; None where there is none."""
    try:
        return json.loads(geometry)["grid"]
    except (ValueError, KeyError, TypeError):
        return None


def _scored(
    rows: tuple[Sequence[Completion], Orders, Styles, Flags],
    classes: Classes,
    exponent: float,
    score: Callable[..., float],
    grids: Sequence[Grid | None] | None = None,
) -> list[float]:
    """`score ** exponent` of every row, given with its grid where `grids` is."""
    if not 0.0 < exponent < float("inf"):
        raise RewardError(f"exponent is {exponent}; it must be above 0")
    alike = per_row("classes", classes, len(rows[0]), None)
    if grids is None:
        return [
            score(parsed.order, truth, kinds) ** exponent
            for parsed, truth, kinds in zip(parsed_rows(*rows), rows[1], alike, strict=True)
        ]
    return [
        score(parsed.order, truth, kinds, grid=grid) ** exponent
        for parsed, truth, kinds, grid in zip(parsed_rows(*rows), rows[1], alike, grids, strict=True)
    ]


def _grids(answer: Orders, geometry: Sequence[Geometry | None] | None, grid: Any) -> list[Grid | None]:
    """The grid of every row: the option `grid` where it has a cell per piece, else what its geometry says."""
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


def exact(
    completions: Sequence[Completion],
    answer: Orders,
    answer_style: Styles = None,
    classes: Classes = None,
    think_prefilled: Flags = None,
    **columns: Any,
) -> list[float]:
    """1 if the order is exactly right (pieces of a class may be exchanged), else 0."""
    return _scored((completions, answer, answer_style, think_prefilled), classes, 1.0, orders.exact)


def place_accuracy(
    completions: Sequence[Completion],
    answer: Orders,
    answer_style: Styles = None,
    classes: Classes = None,
    think_prefilled: Flags = None,
    *,
    exponent: float = 1.0,
    **columns: Any,
) -> list[float]:
    """The fraction of places that hold their piece; with an exponent above 1 a smooth curve towards exact."""
    return _scored((completions, answer, answer_style, think_prefilled), classes, exponent, orders.place_accuracy)


def neighbor_accuracy(
    completions: Sequence[Completion],
    answer: Orders,
    answer_style: Styles = None,
    classes: Classes = None,
    think_prefilled: Flags = None,
    geometry: Sequence[Geometry | None] | None = None,
    *,
    grid: Sequence[int] | None = None,
    exponent: float = 1.0,
    **columns: Any,
) -> list[float]:
    """The fraction of neighbouring places whose pieces are true neighbours: right and below on a grid, else in a row.

    The grid is the option `grid` for puzzles of as many pieces as it has cells, else that of the row's `geometry`.
    """
    rows = (completions, answer, answer_style, think_prefilled)
    return _scored(rows, classes, exponent, orders.neighbor_accuracy, _grids(answer, geometry, grid))


def kendall_tau(
    completions: Sequence[Completion],
    answer: Orders,
    answer_style: Styles = None,
    classes: Classes = None,
    think_prefilled: Flags = None,
    *,
    exponent: float = 1.0,
    **columns: Any,
) -> list[float]:
    """The fraction of pairs of pieces in the right sequence (Kendall's tau scaled to 0..1)."""
    return _scored((completions, answer, answer_style, think_prefilled), classes, exponent, orders.kendall_tau)


def footrule(
    completions: Sequence[Completion],
    answer: Orders,
    answer_style: Styles = None,
    classes: Classes = None,
    think_prefilled: Flags = None,
    *,
    exponent: float = 1.0,
    **columns: Any,
) -> list[float]:
    """One minus the sum of displacements over its maximum (Spearman's footrule scaled to 0..1)."""
    return _scored((completions, answer, answer_style, think_prefilled), classes, exponent, orders.footrule)


def longest_run(
    completions: Sequence[Completion],
    answer: Orders,
    answer_style: Styles = None,
    classes: Classes = None,
    think_prefilled: Flags = None,
    *,
    exponent: float = 1.0,
    **columns: Any,
) -> list[float]:
    """The longest run of right places over the number of pieces."""
    return _scored((completions, answer, answer_style, think_prefilled), classes, exponent, orders.longest_run)


def smoothed(
    completions: Sequence[Completion],
    answer: Orders,
    answer_style: Styles = None,
    classes: Classes = None,
    think_prefilled: Flags = None,
    geometry: Sequence[Geometry | None] | None = None,
    *,
    decay: float = 0.5,
    grid: Sequence[int] | None = None,
    exponent: float = 1.0,
    **columns: Any,
) -> list[float]:
    """Credit that falls by the factor `decay` with every step of displacement, on the grid or in a row."""

    def score(*args: Any, grid: Grid | None) -> float:
        return orders.smoothed(*args, grid=grid, decay=decay)

    rows = (completions, answer, answer_style, think_prefilled)
    return _scored(rows, classes, exponent, score, _grids(answer, geometry, grid))


@metric
def valid(
    completions: Sequence[Completion],
    answer: Orders,
    answer_style: Styles = None,
    think_prefilled: Flags = None,
    **columns: Any,
) -> list[float]:
    """1 if the completion holds exactly one permutation of 1..K in the right form, right or wrong; else 0."""
    rows = parsed_rows(completions, answer, answer_style, think_prefilled)
    return [float(parsed.order is not None) for parsed in rows]
