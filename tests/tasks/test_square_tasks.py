"""The patch_fit, relative_place and masked tasks: the answer agrees with the shown pixels."""

from collections import Counter
from random import Random

import numpy as np
import pytest
from PIL import Image
from synthetic_media import encode, photo_pixels, source_of

from jigsaw.tasks import Puzzle, Reject, TaskError, get_task
from jigsaw.testing import assert_task

SIDE = 120
GREY = (127, 127, 127)


def planned(name, count, **config):
    """The task, source and puzzles of a photo whose centre is shown without resizing, and the pixels of that centre."""
    pixels = photo_pixels(SIDE + 20, SIDE)
    task = get_task(name, side=SIDE, crop="center", **config)
    source = source_of(encode(Image.fromarray(pixels)))
    puzzles = [task.plan(source, Random(seed)) for seed in range(count)]
    assert all(isinstance(puzzle, Puzzle) for puzzle in puzzles)
    return task, source, puzzles, pixels[:, 10:-10]


def shown(task, puzzle, source):
    return [np.asarray(image) for image in task.render(puzzle, source).images]


def position_of(photo, part):
    """Top and left of the only place where a part is in a picture."""
    windows = np.lib.stride_tricks.sliding_window_view(photo, part.shape)[:, :, 0]
    places = np.argwhere((windows == part).all(axis=(2, 3, 4)))
    assert len(places) == 1
    return tuple(int(each) for each in places[0])


def grey_box(picture):
    """Top, left, bottom and right of the grey area."""
    rows, columns = np.nonzero((picture == GREY).all(axis=2))
    return rows.min(), columns.min(), rows.max() + 1, columns.max() + 1


@pytest.mark.parametrize("likeness", ["near", "spread", "far"])
def test_the_answer_is_the_patch_from_the_hole(likeness):
    task, source, puzzles, photo = planned("patch_fit", 12, patches=4, likeness=likeness)
    for puzzle in puzzles:
        picture, *patches = shown(task, puzzle, source)
        top, left, bottom, right = grey_box(picture)
        fits = [np.array_equal(photo[top:bottom, left:right], patch) for patch in patches]
        assert fits.count(True) == 1 and puzzle.answer == str(fits.index(True) + 1)
        outside = np.ones(picture.shape[:2], dtype=bool)
        outside[top:bottom, left:right] = False
        assert np.array_equal(picture[outside], photo[outside]), "nothing else is hidden"
    assert len({puzzle.answer for puzzle in puzzles}) == 4


def test_a_margin_leaves_the_hole_empty_around_the_patch():
    task, source, (puzzle,), photo = planned("patch_fit", 1, hole=0.3, margin=0.2)
    picture, *patches = shown(task, puzzle, source)
    top, left, bottom, right = grey_box(picture)
    assert (bottom - top, right - left) == (36, 36) and patches[0].shape == (22, 22, 3)
    inside = photo[top + 7 : bottom - 7, left + 7 : right - 7]
    assert np.array_equal(patches[int(puzzle.answer) - 1], inside)


def test_wrong_patches_are_more_similar_with_likeness_near():
    def mean_difference(likeness):
        task, source, puzzles, _ = planned("patch_fit", 6, likeness=likeness)
        differences = []
        for puzzle in puzzles:
            _, *patches = (image.astype(int) for image in shown(task, puzzle, source))
            right = patches.pop(int(puzzle.answer) - 1)
            differences += [np.abs(patch - right).mean() for patch in patches]
        return np.mean(differences)

    assert mean_difference("near") < mean_difference("spread") < mean_difference("far")


@pytest.mark.parametrize("directions", [4, 8])
def test_the_answer_is_the_direction_between_the_tiles_in_the_photo(directions):
    task, source, puzzles, photo = planned("relative_place", 40, directions=directions)
    for puzzle in puzzles:
        first, second = (position_of(photo, tile) for tile in shown(task, puzzle, source))
        down, across = np.sign(second[0] - first[0]), np.sign(second[1] - first[1])
        words = ["", "below", "above"][down], ["", "to the right", "to the left"][across]
        texts = puzzle.answer_args["texts"]
        direction = texts[puzzle.answer_args["options"].index(puzzle.answer)]
        assert direction == " and ".join(word for word in words if word)
        assert max(abs(second[0] - first[0]), abs(second[1] - first[1])) == 36 + 9, "the gap is a quarter of a tile"
    assert len({puzzle.answer for puzzle in puzzles}) == directions


def test_the_answer_lists_the_tiles_of_the_empty_cells():
    task, source, puzzles, photo = planned("masked", 10, grid="2x3", masked=3)
    for puzzle in puzzles:
        picture, *tiles = shown(task, puzzle, source)
        cells = [(y, x) for y in (0, 60) for x in (0, 40, 80)]
        empty = [at for at in cells if (picture[at[0] : at[0] + 60, at[1] : at[1] + 40] == GREY).all()]
        right = [photo[y : y + 60, x : x + 40] for y, x in empty]
        order = [next(n for n, tile in enumerate(tiles, 1) if np.array_equal(tile, there)) for there in right]
        assert puzzle.answer == tuple(order) and puzzle.answer_kind == "order" and puzzle.num_pieces == 3
    assert len({puzzle.answer for puzzle in puzzles}) > 1


@pytest.mark.parametrize("name", ["patch_fit", "relative_place", "masked"])
def test_a_flat_photo_is_rejected_as_ambiguous(name):
    result = get_task(name, side=SIDE).plan(source_of(encode(Image.new("RGB", (150, 150), "teal"))), Random(0))
    assert isinstance(result, Reject) and result.reason == "ambiguous"


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("patch_fit", {"side": 28, "hole": 0.25}, "give patches of 7 pixels, but 14 are needed"),
        ("relative_place", {"tile": 0.45, "gap": 0.5}, "two tiles do not fit into the square"),
        ("relative_place", {"directions": 6}, "directions=6 is neither 4 nor 8"),
        ("masked", {"grid": "1x2", "masked": 3}, "masked=3, but grid=1x2 has 2 cells"),
        ("masked", {"side": 28, "grid": "3x3"}, "tiles of less than 14 pixels"),
    ],
)
def test_an_impossible_configuration_is_refused(name, config, message):
    with pytest.raises(TaskError, match=message):
        get_task(name, **config)


def test_all_answers_are_about_equally_frequent():
    _, _, puzzles, _ = planned("relative_place", 200, directions=4)
    counts = Counter(puzzle.answer for puzzle in puzzles)
    assert min(counts.values()) > 30


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("patch_fit", {"hole": 0.3}),
        pytest.param("relative_place", {}, marks=pytest.mark.slow),
        pytest.param("masked", {"masked": 2}, marks=pytest.mark.slow),
    ],
)
def test_the_tasks_meet_the_contract(name, config):
    assert_task(name, side=84, **config)
