"""Rendered RGB-D scenes: exact depth, deterministic, and different in the two splits."""

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


def depth_of(*surfaces, horizon=0.5):
    """Depth in metres of a scene with a camera one metre above the floor."""
    lamp = np.array([0.0, 1.0, 0.0])
    scene = Scene(surfaces=surfaces, origin=np.array([0.0, 1.0, 0.0]), horizon=horizon, focal=1.0, lamp=lamp)
    return np.asarray(cast(scene, side=101)[1]) / 1000


def test_the_depth_of_a_wall_is_its_distance_everywhere():
    wall = Plane(np.array([0.0, 0.0, -1.0]), -4.0, GREY)
    assert depth_of(wall) == pytest.approx(np.full((101, 101), 4.0), abs=1e-3)


def test_a_floor_comes_nearer_towards_the_bottom():
    floor = Plane(np.array([0.0, 1.0, 0.0]), 0.0, GREY)
    column = depth_of(floor)[60:, 50]
    rows = (np.arange(60, 101) + 0.5) / 101 - 0.5
    assert column == pytest.approx(1.0 / rows, rel=1e-3)
    more_floor = depth_of(floor, horizon=0.3)[60:, 50]
    assert (more_floor < column).all()


def test_a_sphere_and_a_box_are_in_front_of_the_wall():
    wall = Plane(np.array([0.0, 0.0, -1.0]), -8.0, GREY)
    ball = Sphere(np.array([0.0, 1.0, 3.0]), 0.5, GREY)
    depth = depth_of(wall, ball)
    assert depth[50, 50] == pytest.approx(2.5, abs=1e-2)
    assert depth[0, 0] == pytest.approx(8.0, abs=1e-3)
    box = Box(np.array([0.0, 1.0, 3.0]), np.array([0.5, 0.5, 0.25]), 0.0, GREY)
    assert depth_of(wall, box)[50, 50] == pytest.approx(2.75, abs=1e-3)
    rotated_box = Box(box.middle, np.array([0.5, 0.5, 0.5]), np.pi / 4, GREY)
    assert depth_of(wall, rotated_box)[50, 50] == pytest.approx(3 - np.sqrt(0.5), abs=1e-2)


def test_scenes_are_deterministic_and_differ_by_number():
    first, again, other = (np.asarray(cast(draw_scene(0, number), 42)[0]) for number in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_exports_are_equal_and_give_depth_puzzles_with_right_answers(tmp_path: Path):
    counts = {"train": 3, "heldout": 2}
    for name in ("a", "b"):
        export_scenes(tmp_path / name, counts)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.png"))
    assert len(files) == 2 * 5
    assert filecmp.cmpfiles(tmp_path / "a", tmp_path / "b", files, shallow=False)[0] == files
    task = get_task("depth", points=2, max_side=84, radius=8, min_distance=19)
    root, puzzles = tmp_path / "a" / "train", []
    for path in scan(root, "rgbd"):
        result = task.plan(open_source(root, path, "rgbd"), Random(0))
        if isinstance(result, Puzzle):
            puzzles.append(result)
        else:
            assert result.reason == "too_few_points"
    assert puzzles
    for puzzle in puzzles:
        near, far = puzzle.geometry["depths"]
        assert near + 0.2 < far < 9.5


def test_scenes_have_no_video_sources(tmp_path: Path):
    with pytest.raises(JigsawError, match="source scenes has no video sources; use samples, big-buck-bunny"):
        source_folder("scenes", "video", tmp_path)


def test_a_picture_that_another_process_is_writing_is_not_changed(tmp_path: Path):
    unfinished = tmp_path / "train" / "color" / ".0000.png"
    unfinished.parent.mkdir(parents=True)
    unfinished.write_bytes(b"half of it")
    export_scenes(tmp_path, {"train": 1, "heldout": 0})
    assert unfinished.read_bytes() == b"half of it"
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == [unfinished.name, "0000.png", "0000.png"]
