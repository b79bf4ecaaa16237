"""Pieces that cannot be told apart: flat sky, a blank wall, a repeated texture.

In: pictures of the pieces. Out: a class number per piece, equal for pieces that look the same. A cut is ambiguous where
two pieces look the same: such a puzzle is rejected, or its classes are recorded so that rewards can treat the pieces of
a class as interchangeable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from tasks.grids import Box

SIGNATURE_SIDE = 16
"""Pieces are compared at this many pixels a side: finer differences are texture and noise, which place nothing."""

FloatArray = np.ndarray[Any, np.dtype[np.float32]]


def signatures(picture: Image.Image, boxes: Sequence[Box | tuple[float, float, float, float]]) -> FloatArray:
    """Small versions of the boxes of a picture, shape `(K, 16, 16, 3)`, values 0 to 255."""
    side = (SIGNATURE_SIDE, SIGNATURE_SIDE)
    small = [np.asarray(picture.resize(side, Image.Resampling.BOX, box=box), dtype=np.float32) for box in boxes]
    return np.stack(small)


def mean_difference(one: FloatArray, other: FloatArray) -> float:
    """Root mean square difference: what tells tiles apart is most of their area."""
    return float(np.sqrt(np.mean((one.astype(np.float64) - other) ** 2)))


def peak_difference(one: FloatArray, other: FloatArray) -> float:
    """Mean of the largest 2% of the absolute differences: a small thing that moves tells clips apart."""
    differences = np.sort(np.abs(one.astype(np.float64) - other), axis=None)
    return float(differences[-max(1, len(differences) // 50) :].mean())


def look_alike_classes(
    pieces: FloatArray,
    tolerance: float,
    difference: Callable[[FloatArray, FloatArray], float] = mean_difference,
) -> tuple[int, ...]:
    """A class per piece; within a class every two pieces differ by less than `tolerance`.

    Args:
        pieces: shape `(K, ...)`, the pieces in one common form.
        tolerance: difference, in the units of `pieces`, below which two pieces look the same.
        difference: how two pieces are compared.

    Returns:
        Class numbers from 0 in order of first appearance; all different when every piece is unlike every other.

    >>> look_alike_classes(np.array([[0.0], [50.0], [1.0]], dtype=np.float32), tolerance=4.0)
    (0, 1, 0)
    """
    members: list[list[int]] = []
    classes: list[int] = []
    for index, piece in enumerate(pieces):
        for number, others in enumerate(members):
            # Every member must be near, or a smooth gradient would chain the whole sky into one class.
            if all(difference(piece, pieces[other]) < tolerance for other in others):
                others.append(index)
                classes.append(number)
                break
        else:
            classes.append(len(members))
            members.append([index])
    return tuple(classes)
