"""Pieces that cannot be told apart: flat sky, a blank wall, a repeated texture.

In: pictures of the pieces. Out: a class number per piece, equal for pieces that look the same. A cut is ambiguous where
two pieces look the same: such a puzzle is rejected, or its classes are recorded so that rewards can treat the pieces of
a class as interchangeable.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def look_alike_classes(pieces: FloatArray, tolerance: float) -> tuple[int, ...]:
    """A class per piece; within a class every two pieces differ by less than `tolerance`.

    Args:
        pieces: shape `(K, ...)`, the pieces in one common form.
        tolerance: root mean square difference, in the units of `pieces`, below which two pieces look the same.

    Returns:
        Class numbers from 0 in order of first appearance; all different when every piece is unlike every other.

    >>> look_alike_classes(np.array([[0.0], [50.0], [1.0]], dtype=np.float32), tolerance=4.0)
    (0, 1, 0)
    """
    flat = pieces.reshape(len(pieces), -1).astype(np.float64)
    members: list[list[int]] = []
    classes: list[int] = []
    for index, piece in enumerate(flat):
        for number, others in enumerate(members):
            # Every member must be near, or a smooth gradient would chain the whole sky into one class.
            if all(np.sqrt(np.mean((piece - flat[other]) ** 2)) < tolerance for other in others):
                others.append(index)
                classes.append(number)
                break
        else:
            classes.append(len(members))
            members.append([index])
    return tuple(classes)
