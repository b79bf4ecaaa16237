"""Detection of pieces that look the same, such as flat sky, a blank wall or a repeated texture.

In: pictures of the pieces. Out: a class number per piece, equal for pieces that look the same. A puzzle with such
pieces is ambiguous: it is rejected, or its classes are recorded so that rewards treat the pieces of a class as
interchangeable.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from jigsaw.tasks.media.grids import Box
from jigsaw.tasks.media.video_display import Frames

SIGNATURE_SIDE = 16
"""Pieces are compared at this many pixels a side; finer differences are texture and noise."""

TOLERANCE = 6.0
"""Two pictures look the same below this root mean square difference, 0 to 255, at 16x16 pixels."""

Differences = np.ndarray[Any, np.dtype[np.float64]]


def signatures(picture: Image.Image, boxes: Sequence[Box | tuple[float, float, float, float]]) -> Frames:
    """The boxes of an RGB picture reduced to 16x16 pixels, shape `(K, 16, 16, 3)`."""
    side = (SIGNATURE_SIDE, SIGNATURE_SIDE)
    return np.stack([np.asarray(picture.resize(side, Image.Resampling.BOX, box=box)) for box in boxes])


def reduced(pictures: Iterable[Image.Image]) -> Frames:
    """Whole RGB pictures reduced to 16x16 pixels, shape `(K, 16, 16, 3)`."""
    return np.concatenate([signatures(picture, [(0, 0, *picture.size)]) for picture in pictures])


def mean_differences(pieces: Frames) -> Differences:
    """Root mean square difference of every two pieces, shape `(K, K)`; for tiles, which differ in most of their area.

    >>> mean_differences(np.array([[0, 0], [3, 4]], dtype=np.uint8)).round(3).tolist()
    [[0.0, 3.536], [3.536, 0.0]]
    """
    # Whole numbers in float64: the products are exact, hence the same on every machine.
    flat = pieces.reshape(len(pieces), -1).astype(np.float64)
    products = flat @ flat.T
    squares = np.diag(products)
    return np.sqrt((squares[:, None] + squares - 2 * products) / flat.shape[1])


def look_alike(pictures: Sequence[Image.Image]) -> bool:
    """Whether any two of the pictures look the same."""
    apart = mean_differences(reduced(pictures))
    np.fill_diagonal(apart, np.inf)
    return bool(apart.min() < TOLERANCE)


def peak_differences(pieces: Frames) -> Differences:
    """Mean of the largest 2% of the absolute differences of every two pieces, shape `(K, K)`.

    For clips, which may differ only by a small object that moves.
    """
    flat = pieces.reshape(len(pieces), -1).astype(np.int16)
    most = max(1, flat.shape[1] // 50)
    apart = [np.partition(np.abs(flat - piece), -most, axis=1)[:, -most:].mean(axis=1) for piece in flat]
    return np.stack(apart)


def look_alike_classes(differences: Differences, tolerance: float) -> tuple[int, ...]:
    """A class per piece; every two pieces of a class differ by less than `tolerance`.

    Args:
        differences: of every two pieces, shape `(K, K)`.
        tolerance: difference below which two pieces look the same.

    Returns:
        Class numbers from 0 in order of first appearance; all different if no two pieces look the same.

    >>> look_alike_classes(mean_differences(np.array([[0], [50], [1]], dtype=np.uint8)), tolerance=4.0)
    (0, 1, 0)
    """
    members: list[list[int]] = []
    classes: list[int] = []
    for index, apart in enumerate(differences.tolist()):
        for number, others in enumerate(members):
            # All members must be similar; otherwise a smooth gradient would put the whole sky into one class.
            if all(apart[other] < tolerance for other in others):
                others.append(index)
                classes.append(number)
                break
        else:
            classes.append(len(members))
            members.append([index])
    return tuple(classes)
