"""Rendered landscapes: deterministic, different in the two splits, warm on the right and bright at the top."""

import filecmp
from pathlib import Path
from random import Random

import numpy as np
import pytest

from jigsaw.data.sources import open_source, scan
from jigsaw.errors import JigsawError
from jigsaw.samples import landscapes
from jigsaw.samples.builtin import require_source, source_folder
from jigsaw.samples.landscapes import draw_landscape, export_landscapes
from jigsaw.tasks import Puzzle, get_task

COUNTS = {"train": 3, "heldout": 2}


def test_pictures_are_deterministic_and_differ_by_number_and_seed():
    first, again, other, seeded = (
        np.asarray(draw_landscape(seed, number, 40)) for seed, number in ((0, 1), (0, 1), (0, 2), (1, 1))
    )
    assert first.shape == (40, 40, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, seeded)


def test_exports_are_equal_have_no_duplicates_and_give_puzzles(tmp_path: Path):
    for name in ("a", "b"):
        export_landscapes(tmp_path / name, COUNTS)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.png"))
    assert len(files) == 5
    for file in files:
        assert filecmp.cmp(tmp_path / "a" / file, tmp_path / "b" / file, shallow=False)
    assert len({(tmp_path / "a" / file).read_bytes() for file in files}) == 5

    task = get_task("image", grid="2x2", tile=28)
    for path in scan(tmp_path / "a", "image"):
        source = open_source(tmp_path / "a", path, "image")
        puzzle = task.plan(source, Random(0))
        assert isinstance(puzzle, Puzzle), puzzle


def test_existing_pictures_are_not_rendered_again(tmp_path: Path):
    export_landscapes(tmp_path, COUNTS)
    first = tmp_path / "train" / "0000.png"
    first.write_bytes(b"mine")
    (tmp_path / "train" / "0001.png").unlink()
    export_landscapes(tmp_path, COUNTS)
    assert first.read_bytes() == b"mine"
    assert (tmp_path / "train" / "0001.png").is_file()


def test_brightness_differs_from_top_to_bottom_and_colour_from_left_to_right():
    for number in range(40):
        picture = np.asarray(draw_landscape(0, number, 56), dtype=float)
        left, right = picture[:, :28].mean((0, 1)), picture[:, 28:].mean((0, 1))
        assert picture[:28].mean() > picture[28:].mean() + 10
        assert right[0] - right[2] > left[0] - left[2] + 10


def test_a_recipe_may_use_the_landscapes_as_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(landscapes, "COUNTS", {"train": 1, "heldout": 1})
    folder = source_folder("landscapes", "image", tmp_path)
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png")) == [
        "heldout/0000.png",
        "train/0000.png",
    ]
    with pytest.raises(JigsawError, match="landscapes has no video sources; use samples, big-buck-bunny"):
        require_source("landscapes", "video")


def test_a_file_at_the_path_of_the_folder_is_refused(tmp_path: Path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(JigsawError, match=r"taken.*cannot write the landscapes"):
        export_landscapes(tmp_path / "taken")
