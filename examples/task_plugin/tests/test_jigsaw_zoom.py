"""Tests of a task plug-in: the contract, and the properties of this task."""

from pathlib import Path
from random import Random

import pytest

from jigsaw.data.sources import open_source
from jigsaw.tasks import TaskError, get_task
from jigsaw.testing import assert_task, write_sources

ZOOM = "jigsaw_zoom:ZoomTask"


@pytest.fixture
def photo(tmp_path: Path):
    """A generated photo."""
    write_sources("image", tmp_path)
    return open_source(tmp_path, "photo-0.png", "image")


def test_it_meets_the_contract():
    """Everything that `jigsaw tasks check` tests, with non-default options."""
    assert_task(ZOOM, side=56, views=5)


def test_views_close_in_by_the_answer(photo):
    """In the order of the answer, each view is a part of the previous one."""
    task = get_task(ZOOM, side=56)
    puzzle = task.plan(photo, Random(1))
    order = [puzzle.geometry["shown"][index - 1] for index in puzzle.answer]
    assert order == [0, 1, 2, 3]
    assert {image.size for image in task.render(puzzle, photo).images} == {(56, 56)}


def test_a_small_photo_is_rejected(photo):
    """The closest view may not be enlarged."""
    assert get_task(ZOOM, side=400).plan(photo, Random(0)).reason == "too_small"


def test_a_step_beyond_its_range_is_refused():
    """The message names the key."""
    with pytest.raises(TaskError, match="step"):
        get_task(ZOOM, step=1.5)
