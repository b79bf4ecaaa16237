"""How hard a puzzle is by itself, no model asked: how little tells its pieces apart.

In: a loaded row. Out: one number, the smaller the harder. Tiles and clips: the mean over pieces of the difference to
the piece most like it, 0 to 255 (root mean square of 16x16 pixel versions; of the middle frame for clips). Points: the
smallest step between neighbouring depths, as a share of the farther one, 0 to 1. None where neither can be told.
`labels` turns the numbers of one kind of puzzle into thirds: easy, middling, hard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image

SIDE = 16
LABELS = ("hard", "middling", "easy")


def contrast(row: Mapping[str, Any]) -> float | None:
    """What tells the pieces of a loaded row apart; see the module."""
    depths = (row.get("geometry") or {}).get("depths")
    if depths:
        return float(min((far - near) / far for near, far in pairwise(depths)))
    pieces = list(row.get("images") or ()) or [_middle(clip) for clip in row.get("videos") or ()]
    if len(pieces) != len(row["answer"]) or len(pieces) < 2:
        return None
    small = np.stack([np.asarray(piece.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)) for piece in pieces])
    flat = small.reshape(len(pieces), -1).astype(np.float64)
    apart = ((flat[:, None] - flat[None]) ** 2).mean(axis=2) ** 0.5
    np.fill_diagonal(apart, np.inf)
    return float(apart.min(axis=1).mean())


def _middle(clip: Any) -> Image.Image:
    return Image.fromarray(clip.frames[len(clip.frames) // 2])


def labels(contrasts: Sequence[float | None]) -> list[str | None]:
    """Thirds by contrast: `hard`, `middling` or `easy` each; None for None, and for all if there are fewer than 3.

    >>> labels([9.0, 1.0, None, 4.0])
    ['easy', 'hard', None, 'middling']
    """
    known = sorted(value for value in contrasts if value is not None)
    if len(known) < len(LABELS):
        return [None] * len(contrasts)
    bounds = [known[len(known) * third // 3] for third in (1, 2)]
    return [None if value is None else LABELS[sum(value >= bound for bound in bounds)] for value in contrasts]
