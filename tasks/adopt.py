"""Puzzles whose geometry somebody else chose: tiles and points of other people's puzzle sets.

In: a source, the foreign geometry in our words, a random stream for the order (foreign sets shuffle when they are
loaded, so that theirs is nowhere recorded). Out: a puzzle that the task of that name renders, or a `Reject`.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from jigsaw.tasks.contract import AnswerStyle, Puzzle, Reject, Source
from jigsaw.tasks.permutations import answer_of, draw_shown
from jigsaw.tasks.photos import PhotoError, read_header, read_photo


def adopt_tiles(
    source: Source,
    rng: Random,
    *,
    grid: tuple[int, int],
    resize: tuple[int, int] | None,
    crop: tuple[int, int] | None,
    answer_style: AnswerStyle,
) -> Puzzle | Reject:
    """An image puzzle: the photo resized, its centre cropped, the crop cut.

    Args:
        grid: rows and columns.
        resize: width and height in pixels, or None to keep the photo's.
        crop: width and height of the centred crop, or None for the whole.
    """
    try:
        size = read_header(source.files["image"]).size
        read_photo(source.files["image"], 8)  # finds damaged files
    except PhotoError as error:
        return Reject(error.reason, str(error))
    (width, height), (rows, columns) = resize or size, grid
    crop_width, crop_height = crop or (width, height)
    cell = (crop_width // columns, crop_height // rows)
    if crop_width > width or crop_height > height or min(cell) < 1:
        detail = f"a crop of {crop_width}x{crop_height} in {rows}x{columns} tiles out of {width}x{height} pixels"
        return Reject("too_small", detail)
    shown = draw_shown(rows * columns, rng)
    geometry = {
        "scale": 1,
        "size": list(size),
        "left": (width - crop_width) // 2,
        "top": (height - crop_height) // 2,
        "grid": [rows, columns],
        "cell": list(cell),
        "inset": [0, 0],
        "tile": list(cell),
        "shown": list(shown),
        "layout": "separate",
    } | ({"resize": list(resize)} if resize else {})
    return Puzzle("image", answer_of(shown), geometry, answer_style)


def adopt_points(
    source: Source,
    rng: Random,
    *,
    points: Sequence[tuple[float, float]],
    radius: float,
    resize: tuple[int, int] | None,
    answer_style: AnswerStyle,
) -> Puzzle | Reject:
    """A depth puzzle without a depth map.

    Args:
        points: x and y in pixels of the picture, nearest first.
        radius: of the discs, in the same pixels.
        resize: width and height with which the picture is shown, or None to keep its own.
    """
    try:
        width, height = read_header(source.files["color"]).size
        read_photo(source.files["color"], 8)  # finds damaged files
    except PhotoError as error:
        return Reject(error.reason, str(error))
    if len(points) < 2 or not all(0 <= x < width and 0 <= y < height for x, y in points):
        return Reject("too_few_points", f"the {len(points)} points do not lie in a picture of {width}x{height}")
    size = resize or (width, height)
    across, down = size[0] / width, size[1] / height
    shown = draw_shown(len(points), rng)
    geometry = {
        "scale": 1,
        "source_size": [width, height],
        "size": list(size),
        "radius": max(6, round(radius * min(across, down))),
        "points": [[round(x * across), round(y * down)] for x, y in points],
        "depths": None,
        "shown": list(shown),
    }
    return Puzzle("depth", answer_of(shown), geometry, answer_style)
