"""Display of video frames: orientation from the display matrix, size from the pixel aspect ratio. Pure functions.

In: the nine numbers of a display matrix, the stored size, and the sample aspect ratio. Out: an `Orientation`, and the
size in square pixels.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

Frames = np.ndarray[Any, np.dtype[np.uint8]]

_SQUARE = 0.01
"""Pixels within 1% of a square count as square, because headers contain rounded ratios."""
_STRAIGHT = 0.02
"""A matrix whose off-axis numbers are below 2% of the others is a multiple of quarter turns."""
_MOST_STRETCH = 8
"""A pixel aspect ratio above 8 or below 1/8 is a sign of damage."""


@dataclass(frozen=True)
class Orientation:
    """The operation that makes a stored frame upright: exchange rows and columns, then mirror.

    Attributes:
        transpose: exchange rows and columns.
        mirror: left to right.
        flip: upside down.
    """

    transpose: bool = False
    mirror: bool = False
    flip: bool = False

    def apply(self, frame: Frames) -> Frames:
        """The upright frame of a stored one, shape `(height, width, 3)`; contiguous."""
        upright = frame.swapaxes(0, 1) if self.transpose else frame
        upright = upright[:, ::-1] if self.mirror else upright
        upright = upright[::-1] if self.flip else upright
        return np.ascontiguousarray(upright)

    def __str__(self) -> str:
        """The operation in words: `turned by 90 degrees counter-clockwise`, `mirrored`, ..."""
        turns = {(True, False, True): 90, (False, True, True): 180, (True, True, False): 270}
        degrees = turns.get((self.transpose, self.mirror, self.flip))
        if degrees is not None:
            return f"turned by {degrees} degrees counter-clockwise"
        return "turned and mirrored" if self.transpose else "mirrored" if self.mirror or self.flip else "upright"


UPRIGHT = Orientation()


def orientation_of(matrix: bytes | None) -> Orientation | None:
    """The orientation of a display matrix; None if it is not a multiple of quarter turns.

    Args:
        matrix: nine 32-bit integers `a b u c d v x y w`; a stored pixel `(p, q)` is shown at
            `(a p + c q + x, b p + d q + y)` (ISO/IEC 14496-12, 6.2.2). None, or zeros: upright.
    """
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix[:36]) if matrix else (1, 0, 0, 0, 1, 0, 0, 0, 1)
    along, across = (abs(a), abs(d)), (abs(b), abs(c))
    if not any((*along, *across)):
        return UPRIGHT
    if min(along) > 0 and max(across) <= _STRAIGHT * min(along):
        return Orientation(mirror=a < 0, flip=d < 0)
    if min(across) > 0 and max(along) <= _STRAIGHT * min(across):
        return Orientation(transpose=True, mirror=c < 0, flip=b < 0)
    return None


def displayed_size(stored: tuple[int, int], aspect: Fraction | None, orientation: Orientation) -> tuple[int, int]:
    """Width and height in square pixels, upright; the shorter side of the pixels is stretched.

    Args:
        stored: width and height in stored pixels.
        aspect: width of a pixel divided by its height; None or 0 if the file has none.
        orientation: orientation of the frame.

    Raises:
        ValueError: the aspect ratio is not plausible.

    >>> displayed_size((720, 480), Fraction(32, 27), UPRIGHT)
    (853, 480)
    """
    width, height = stored
    if aspect and abs(float(aspect) - 1) > _SQUARE:
        if not 1 / _MOST_STRETCH <= aspect <= _MOST_STRETCH:
            raise ValueError(f"pixels of {aspect.numerator}:{aspect.denominator}")
        width, height = (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
    return (height, width) if orientation.transpose else (width, height)


def same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes have the same aspect ratio, allowing for rounding to even sizes."""
    return abs(one[0] * other[1] - one[1] * other[0]) <= 0.04 * one[0] * other[1]
