"""Grids: tiles are inside the picture and do not overlap, and the region follows the crop rule."""

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jigsaw.tasks.media.grids import choose_region, parse_grid

sides = st.integers(64, 3000)
grids = st.tuples(st.integers(1, 8), st.integers(2, 8))
margins = st.floats(0, 0.4)


@given(sides, sides, grids, st.sampled_from(["center", "random", "none"]), margins, st.integers(0, 10**6))
def test_tiles_have_one_size_are_inside_and_do_not_overlap(width, height, grid, crop, margin, seed):
    region = choose_region((width, height), grid, crop, crop_scale=0.3, margin=margin, rng=Random(seed))
    boxes = region.boxes()
    assert len(boxes) == grid[0] * grid[1]
    assert {(right - left, bottom - top) for left, top, right, bottom in boxes} == {region.tile}
    assert all(0 <= left < right <= width and 0 <= top < bottom <= height for left, top, right, bottom in boxes)
    rows = [boxes[row * grid[1] : (row + 1) * grid[1]] for row in range(grid[0])]
    for row in rows:
        assert all(a[2] <= b[0] and a[1] == b[1] for a, b in pairwise(row))
    assert all(a[0][3] <= b[0][1] and a[0][0] == b[0][0] for a, b in pairwise(rows))


@given(sides, sides, grids)
def test_without_a_crop_less_than_a_pixel_per_cell_is_lost(width, height, grid):
    region = choose_region((width, height), grid, "none", crop_scale=1, margin=0, rng=Random(0))
    boxes = region.boxes()
    assert boxes[-1][2] - boxes[0][0] > width - grid[1]
    assert boxes[-1][3] - boxes[0][1] > height - grid[0]


@given(sides, sides, grids)
def test_a_centred_crop_has_square_cells_and_the_maximal_size(width, height, grid):
    region = choose_region((width, height), grid, "center", crop_scale=1, margin=0, rng=Random(0))
    assert region.cell[0] == region.cell[1]
    assert (region.cell[0] + 1) * grid[1] > width or (region.cell[0] + 1) * grid[0] > height
    assert abs(2 * region.left + grid[1] * region.cell[0] - width) <= 1


@pytest.mark.parametrize("text", ["1x1", "9x9", "0x3", "3", "3x", "axb", "", "3x3x3", "-1x3", "1x9"])
def test_an_invalid_grid_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="such as 3x3"):
        parse_grid(text)
