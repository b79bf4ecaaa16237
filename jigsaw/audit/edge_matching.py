"""A classical puzzle solver: pieces are put where their borders continue each other. No model, no training.

In: the pieces of a puzzle as pixels. Out: an order. Tiles are matched across their borders, clips between the last
frame of one and the first of the next. What a border would be one pixel on is extrapolated linearly, as in the
compatibility of Pomeranz et al. (CVPR 2011); places are filled in raster order by a beam search.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

BEAM = 300
"""Arrangements kept at every place; on 2x2 that is all of them."""

Array = np.ndarray[Any, np.dtype[np.float64]]


def match_edges(pieces: Sequence[Any], grid: tuple[int, int] | None) -> list[int]:
    """The order in which borders fit best.

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
        return fill((1, len(stack)), _misfit(*flat), np.zeros((len(stack), len(stack))))
    tiles = stack.mean(axis=1)
    right = _misfit(_beyond(tiles[:, :, -1], tiles[:, :, -2:][:, :, 0]), _flat(tiles[:, :, 0]))
    below = _misfit(_beyond(tiles[:, -1], tiles[:, -2:][:, 0]), _flat(tiles[:, 0]))
    return fill(grid, right, below)


def _beyond(border: Array, inside: Array) -> Array:
    """What the line of pixels after a border would be."""
    return _flat(2 * border - inside)


def _flat(lines: Array) -> Array:
    return lines.reshape(len(lines), -1)


def _misfit(ends: Array, starts: Array) -> Array:
    """How badly piece j follows piece i, shape (K, K): mean absolute difference over that of the row's rival.

    The ratio to the best *other* follower makes a fit that stands out count, and flat borders, which fit anything, not.
    """
    size = len(ends)
    apart = np.stack([np.abs(starts - end).mean(axis=1) for end in ends])
    np.fill_diagonal(apart, np.inf)
    if size < 3:
        return apart
    two_best = np.partition(apart, 1, axis=1)[:, :2]
    rival = np.where(apart == two_best[:, :1], two_best[:, 1:], two_best[:, :1])
    found: Array = apart / (rival + 1e-6)
    return np.minimum(found, 1e6)


def fill(grid: tuple[int, int], right: Array, below: Array) -> list[int]:
    """Shown indices by place, from 1, with the least sum of misfits that a beam search finds.

    Args:
        grid: rows and columns.
        right: `right[i, j]`: misfit of j to the right of i.
        below: likewise below it.
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
