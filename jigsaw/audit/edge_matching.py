"""A classical puzzle solver, which matches the borders of pieces. It uses no model and no training.

In: the pieces of a puzzle as pixels. Out: an order. Tiles are matched across their borders, clips between the last
frame of one and the first frame of the next. The pixels after a border are extrapolated linearly, as in the
compatibility of Pomeranz et al. (CVPR 2011). A beam search fills the places in raster order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

BEAM = 300
"""Width of the beam; on 2x2 it includes all arrangements."""

Array = np.ndarray[Any, np.dtype[np.float64]]


def match_edges(pieces: Sequence[Any], grid: tuple[int, int] | None) -> list[int]:
    """The order with the best matching borders.

    Args:
        pieces: uint8 arrays of one shape `(T, height, width, 3)`, in shown order; tiles have T = 1.
        grid: rows and columns of the places; None for clips in a row.

    Returns:
        Shown indices by place, from 1.
    """
    stack = np.stack(pieces).astype(np.float64)
    if grid is None:
        ends = stack[:, -1] if stack.shape[1] < 2 else 2 * stack[:, -1] - stack[:, -2]
        flat = ends.reshape(len(stack), -1), stack[:, 0].reshape(len(stack), -1)
        return fill((1, len(stack)), _costs(*flat), np.zeros((len(stack), len(stack))))
    tiles = stack.mean(axis=1)
    right = _costs(_beyond(tiles[:, :, -1], tiles[:, :, -2:][:, :, 0]), _flat(tiles[:, :, 0]))
    below = _costs(_beyond(tiles[:, -1], tiles[:, -2:][:, 0]), _flat(tiles[:, 0]))
    return fill(grid, right, below)


def _beyond(border: Array, inside: Array) -> Array:
    """The extrapolated line of pixels after a border."""
    return _flat(2 * border - inside)


def _flat(lines: Array) -> Array:
    return lines.reshape(len(lines), -1)


def _costs(ends: Array, starts: Array) -> Array:
    """The cost of piece j after piece i, shape (K, K): mean difference, divided by that of the best other piece.

    The ratio gives weight to clear matches, and little weight to flat borders, which match any piece.
    """
    size = len(ends)
    apart = np.stack([np.abs(starts - end).mean(axis=1) for end in ends])
    np.fill_diagonal(apart, np.inf)
    if size < 3:
        return apart
    two_best = np.partition(apart, 1, axis=1)[:, :2]
    rival = np.where(apart == two_best[:, :1], two_best[:, 1:], two_best[:, :1])
    ratio: Array = apart / (rival + 1e-6)
    return np.minimum(ratio, 1e6)


def fill(grid: tuple[int, int], right: Array, below: Array) -> list[int]:
    """Shown indices by place, from 1, with the lowest sum of costs that a beam search finds.

    Args:
        grid: rows and columns.
        right: `right[i, j]` is the cost of j to the right of i.
        below: `below[i, j]` is the cost of j below i.
    """
    size, columns = len(right), grid[1]
    states = np.arange(size)[:, None]
    costs = np.zeros(size)
    for place in range(1, size):
        step = np.zeros((len(states), size))
        if place % columns:
            step += right[states[:, -1]]
        if place >= columns:
            step += below[states[:, -columns]]
        step[np.arange(len(states))[:, None], states] = np.inf
        total = (costs[:, None] + step).reshape(-1)
        kept = np.argsort(total, kind="stable")[: min(BEAM, int(np.isfinite(total).sum()))]
        states = np.concatenate([states[kept // size], (kept % size)[:, None]], axis=1)
        costs = total[kept]
    return [int(piece) + 1 for piece in states[0]]
