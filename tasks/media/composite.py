"""Several numbered tiles in one picture, for models that take a single image.

In: tiles of one size. Out: a white sheet with separate tiles in rows, each under its number, and the boxes of the
tiles, so that they can be cut out again.
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from jigsaw.tasks.media.grids import Box
from jigsaw.tasks.media.marks import label

MIN_BAND = 14
"""Least height in pixels of the band with a number."""


def sheet_boxes(tile: tuple[int, int], rows: int, columns: int) -> tuple[tuple[int, int], list[Box]]:
    """Size of the sheet and the tiles' boxes in shown order, all in pixels.

    >>> size, boxes = sheet_boxes((28, 28), 1, 2)
    >>> size, boxes
    ((68, 50), [(4, 18, 32, 46), (36, 18, 64, 46)])
    """
    width, height = tile
    gap = max(4, width // 24)
    band = max(MIN_BAND, height // 8)
    step = (width + gap, height + band + gap)
    corners = [(gap + column * step[0], gap + band + row * step[1]) for row in range(rows) for column in range(columns)]
    size = (gap + columns * step[0], gap + rows * step[1])
    return size, [(x, y, x + width, y + height) for x, y in corners]


def sheet(tiles: Sequence[Image.Image], rows: int, columns: int) -> Image.Image:
    """The tiles on one sheet, numbered from 1 in rows."""
    size, boxes = sheet_boxes(tiles[0].size, rows, columns)
    page = Image.new("RGB", size, "white")
    for number, (tile, (left, top, _, _)) in enumerate(zip(tiles, boxes, strict=True), start=1):
        page.paste(tile, (left, top))
        band = (tile.width, max(MIN_BAND, tile.height // 8))
        page.paste(label(number, band), (left, top - band[1]))
    return page
