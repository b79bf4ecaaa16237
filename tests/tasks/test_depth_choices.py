"""The nearer and depth_regions tasks: the answer agrees with the drawn marks and the depth map."""

from itertools import pairwise
from random import Random

import numpy as np
import pytest
from PIL import Image
from synthetic_media import encode, photo_pixels

from jigsaw.tasks import Puzzle, Reject, Source, get_task
from jigsaw.testing import assert_task

WIDTH, HEIGHT = 240, 180


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A picture whose depth rises from 1 m at the left to 7 m at the right, in six steps."""
    folder = tmp_path_factory.mktemp("pair")
    depth = (1 + np.arange(WIDTH) // 40).astype(np.float32)[None].repeat(HEIGHT, axis=0)
    np.save(folder / "depth.npy", depth)
    picture = encode(Image.fromarray(photo_pixels(WIDTH, HEIGHT)))
    return Source("a::b", "pair", {"color": picture, "depth": folder / "depth.npy"}), depth


def planned(pair, name, count, **config):
    task = get_task(name, **config)
    puzzles = [task.plan(pair[0], Random(seed)) for seed in range(count)]
    assert all(isinstance(puzzle, Puzzle) for puzzle in puzzles), puzzles
    return task, puzzles


@pytest.mark.parametrize("points", [2, 3])
def test_the_answer_is_the_point_with_the_smallest_depth(pair, points):
    task, puzzles = planned(pair, "nearer", 12, points=points)
    for puzzle in puzzles:
        pieces = task.pieces(puzzle, task.render(puzzle, pair[0]))
        depths = [pair[1][int(y), int(x)] for x, y in pieces.points]
        assert puzzle.answer == str(int(np.argmin(depths)) + 1) and puzzle.num_pieces == points
        changed = np.abs(pieces.picture.astype(int) - photo_pixels(WIDTH, HEIGHT)).sum(axis=2) > 0
        assert all(changed[int(y), int(x) - pieces.radius + 2] for x, y in pieces.points), (
            "there is a disc on each point"
        )
    assert len({puzzle.answer for puzzle in puzzles}) == points


def test_the_answer_lists_the_regions_from_the_nearest_to_the_farthest(pair):
    task, puzzles = planned(pair, "depth_regions", 12, points=3)
    for puzzle in puzzles:
        pieces = task.pieces(puzzle, task.render(puzzle, pair[0]))
        boxes = [puzzle.geometry["regions"][rank] for rank in puzzle.geometry["shown"]]
        inside = [pair[1][top:bottom, left:right] for left, top, right, bottom in boxes]
        assert list(puzzle.answer) == [int(at) + 1 for at in np.argsort([depth.mean() for depth in inside])]
        ordered = [inside[index - 1] for index in puzzle.answer]
        for near, far in pairwise(ordered):
            assert np.percentile(near, 95) + 0.2 < np.percentile(far, 5)
        for left, top, right, bottom in boxes:
            frame = [pieces.picture[bottom - 1, (left + right) // 2], pieces.picture[(top + bottom) // 2, right - 1]]
            assert all((pixel == (255, 0, 0)).all() for pixel in frame)


def test_regions_are_found_where_only_a_few_fit(tmp_path):
    """Four small areas have depth values, and each has room for only one region."""
    depth = np.full((HEIGHT, WIDTH), np.nan, dtype=np.float32)
    for at, (x, y) in enumerate([(5, 5), (200, 10), (20, 140), (180, 130)]):
        depth[y : y + 34, x : x + 34] = 1 + at
    np.save(tmp_path / "islands.npy", depth)
    picture = encode(Image.fromarray(photo_pixels(WIDTH, HEIGHT)))
    source = Source("a::b", "islands", {"color": picture, "depth": tmp_path / "islands.npy"})
    task = get_task("depth_regions", smallest=0.1, largest=0.15)
    puzzles = [task.plan(source, Random(seed)) for seed in range(5)]
    assert [isinstance(puzzle, Puzzle) for puzzle in puzzles].count(True) >= 4


def test_regions_of_equal_depth_are_rejected(pair, tmp_path):
    np.save(tmp_path / "flat.npy", np.full((HEIGHT, WIDTH), 2, dtype=np.float32))
    source = Source("a::b", "flat", {**pair[0].files, "depth": tmp_path / "flat.npy"})
    result = get_task("depth_regions").plan(source, Random(0))
    assert isinstance(result, Reject) and result.reason == "too_few_points"


@pytest.mark.parametrize(
    ("name", "config"), [("nearer", {}), pytest.param("depth_regions", {"points": 2}, marks=pytest.mark.slow)]
)
def test_the_tasks_meet_the_contract(name, config):
    assert_task(name, **config)
