"""Grids over a picture: the region that is cut, and its boxes in whole pixels.

In: the size of a picture, a grid, a crop rule. Out: a `Region`, whose boxes are in raster order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random
from typing import Annotated, Literal

from pydantic import AfterValidator

Crop = Literal["center", "random", "none"]
Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels, right and bottom outside."""

MAX_SIDE = 8
"""Most rows or columns of a grid."""

MOST_CELLS = 10_000
"""Most cells, rows times columns, of a grid in imported data, which limits the time of rendering."""

MAX_ASPECT = 200
"""Qwen2-VL's processors raise on images and frames of this ratio of sides."""


def too_long(size: tuple[int, int]) -> bool:
    """Whether a picture of that width and height is too long for image processors.

    >>> too_long((400, 3)), too_long((3, 900))
    (False, True)
    """
    return max(size) >= MAX_ASPECT * min(size)


def parse_grid(text: str) -> tuple[int, int]:
    """Rows and columns of a grid written `ROWSxCOLUMNS`.

    Raises:
        ValueError: it does not have that form, or is not between 1x2 and 8x8.

    >>> parse_grid("2x3")
    (2, 3)
    """
    match = re.fullmatch(r"([1-9])[xX×]([1-9])", text.strip())
    rows, columns = (int(match[1]), int(match[2])) if match else (0, 0)
    if not match or rows * columns < 2 or rows > MAX_SIDE or columns > MAX_SIDE:
        raise ValueError(f"a grid is ROWSxCOLUMNS from 1x2 to {MAX_SIDE}x{MAX_SIDE}, such as 3x3, not {text!r}")
    return rows, columns


def _canonical_grid(text: str) -> str:
    return "{}x{}".format(*parse_grid(text))


Grid = Annotated[str, AfterValidator(_canonical_grid)]
"""A grid in a configuration, `3x3`; validated when the configuration is created."""


@dataclass(frozen=True)
class Region:
    """The part of a picture that a grid covers: `rows` x `columns` cells of one size.

    Attributes:
        left, top: corner of the region in pixels.
        cell: width and height of a cell in pixels.
        inset: pixels cut from the left and right, and from the top and bottom, of every cell.
    """

    left: int
    top: int
    rows: int
    columns: int
    cell: tuple[int, int]
    inset: tuple[int, int] = (0, 0)

    @property
    def tile(self) -> tuple[int, int]:
        """Width and height in pixels of a cell without its margins."""
        return self.cell[0] - 2 * self.inset[0], self.cell[1] - 2 * self.inset[1]

    def boxes(self) -> list[Box]:
        """The tiles in raster order.

        >>> Region(left=1, top=0, rows=1, columns=2, cell=(4, 6), inset=(1, 1)).boxes()
        [(2, 1, 4, 5), (6, 1, 8, 5)]
        """
        (width, height), (tile_width, tile_height) = self.cell, self.tile
        corners = [
            (self.left + column * width + self.inset[0], self.top + row * height + self.inset[1])
            for row in range(self.rows)
            for column in range(self.columns)
        ]
        return [(x, y, x + tile_width, y + tile_height) for x, y in corners]


def largest_square_cell(size: tuple[int, int], grid: tuple[int, int]) -> int:
    """Side in pixels of the largest square cell of which `grid` (rows, columns) fits into `size` (width, height)."""
    (width, height), (rows, columns) = size, grid
    return min(width // columns, height // rows)


def overlap(one: Box, other: Box) -> bool:
    """Whether two boxes have a pixel in common.

    >>> overlap((0, 0, 4, 4), (3, 3, 6, 6)), overlap((0, 0, 4, 4), (4, 0, 8, 4))
    (True, False)
    """
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def choose_region(
    size: tuple[int, int], grid: tuple[int, int], crop: Crop, *, crop_scale: float, margin: float, rng: Random
) -> Region:
    """Lay a grid over a picture.

    `center`: the largest centred region of square cells. `random`: square cells of a random size, from `crop_scale`
    times the largest size to the largest, at a random position. `none`: the whole picture without the remainder of the
    division.

    Args:
        size: width and height in pixels.
        grid: rows and columns.
        crop_scale: smallest side of a random crop, as a fraction of the largest.
        margin: fraction of a cell cut from each of its edges.
        rng: used only if `crop` is `random`.
    """
    (width, height), (rows, columns) = size, grid
    if crop == "none":
        cell = (width // columns, height // rows)
    else:
        side = largest_square_cell(size, grid)
        if crop == "random":
            side = max(1, round(side * rng.uniform(crop_scale, 1.0)))
        cell = (side, side)
    spare = (width - columns * cell[0], height - rows * cell[1])
    left, top = (
        (rng.randint(0, spare[0]), rng.randint(0, spare[1])) if crop == "random" else (spare[0] // 2, spare[1] // 2)
    )
    inset = (int(cell[0] * margin), int(cell[1] * margin))
    return Region(left=left, top=top, rows=rows, columns=columns, cell=cell, inset=inset)
