"""Drawn scenes: exact depth, the same every time, apart in train and held-out."""

import filecmp
from pathlib import Path
from random import Random

import numpy as np
import pytest

from jigsaw.data.sources import open_source, scan
from jigsaw.errors import JigsawError
from jigsaw.samples.builtin import source_folder
from jigsaw.samples.scenes import Box, Pattern, Plane, Scene, Sphere, cast, draw_scene, export_scenes
from jigsaw.tasks import Puzzle, get_task

GREY = Pattern("plain", 1.0, np.full((2, 3), 0.5))


def seen(*surfaces, horizon=0.5):
    """Depth in metres of a scene with a camera one metre above the floor."""
    lamp = np.array([0.0, 1.0, 0.0])
    scene = Scene(surfaces=surfaces, origin=np.array([0.0, 1.0, 0.0]), horizon=horizon, focal=1.0, lamp=lamp)
    return np.asarray(cast(scene, side=101)[1]) / 1000


def test_depth_of_a_wall_is_its_distance_everywhere():
    wall = Plane(np.array([0.0, 0.0, -1.0]), -4.0, GREY)
    assert seen(wall) == pytest.approx(np.full((101, 101), 4.0), abs=1e-3)


def test_a_floor_comes_nearer_towards_the_bottom():
    floor = Plane(np.array([0.0, 1.0, 0.0]), 0.0, GREY)
    column = seen(floor)[60:, 50]
    rows = (np.arange(60, 101) + 0.5) / 101 - 0.5
    assert column == pytest.approx(1.0 / rows, rel=1e-3)
    more_floor = seen(floor, horizon=0.3)[60:, 50]
    assert (more_floor < column).all()


def test_a_sphere_and_a_box_are_in_front_of_the_wall():
    wall = Plane(np.array([0.0, 0.0, -1.0]), -8.0, GREY)
    ball = Sphere(np.array([0.0, 1.0, 3.0]), 0.5, GREY)
    depth = seen(wall, ball)
    assert depth[50, 50] == pytest.approx(2.5, abs=1e-2)
    assert depth[0, 0] == pytest.approx(8.0, abs=1e-3)
    box = Box(np.array([0.0, 1.0, 3.0]), np.array([0.5, 0.5, 0.25]), 0.0, GREY)
    assert seen(wall, box)[50, 50] == pytest.approx(2.75, abs=1e-3)
    turned = Box(box.middle, np.array([0.5, 0.5, 0.5]), np.pi / 4, GREY)
    assert seen(wall, turned)[50, 50] == pytest.approx(3 - np.sqrt(0.5), abs=1e-2)


def test_numbers_give_unlike_scenes_and_the_same_one_again():
    first, again, other = (np.asarray(cast(draw_scene(0, number), 42)[0]) for number in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_exports_are_equal_and_give_depth_puzzles_whose_answers_hold(tmp_path: Path):
    counts = {"train": 3, "heldout": 2}
    for name in ("a", "b"):
        export_scenes(tmp_path / name, counts)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.png"))
    assert len(files) == 2 * 5
    assert filecmp.cmpfiles(tmp_path / "a", tmp_path / "b", files, shallow=False)[0] == files
    task = get_task("depth", points=2, max_side=84, radius=8, min_distance=19)
    root, puzzles = tmp_path / "a" / "train", []
    for path in scan(root, "rgbd"):
        made = task.plan(open_source(root, path, "rgbd"), Random(0))
        if isinstance(made, Puzzle):
            puzzles.append(made)
        else:
            assert made.reason == "too_few_points"
    assert puzzles
    for puzzle in puzzles:
        near, far = puzzle.geometry["depths"]
        assert near + 0.2 < far < 9.5


def test_a_name_without_such_sources_is_refused(tmp_path: Path):
    with pytest.raises(JigsawError, match="source scenes has no video sources; use samples, big-buck-bunny"):
        source_folder("scenes", "video", tmp_path)


def test_a_picture_that_another_process_is_writing_is_not_touched(tmp_path: Path):
    theirs = tmp_path / "train" / "color" / ".0000.png"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"half of it")
    export_scenes(tmp_path, {"train": 1, "heldout": 0})
    assert theirs.read_bytes() == b"half of it"
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == [theirs.name, "0000.png", "0000.png"]
