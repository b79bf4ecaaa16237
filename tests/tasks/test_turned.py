"""The rotation and flip tasks: the answer agrees with the shown pixels and those of the photo."""

from collections import Counter
from random import Random

import numpy as np
import pytest
from PIL import Image
from synthetic_media import encode, photo_pixels, source_of

from jigsaw.tasks import Puzzle, Reject, get_task
from jigsaw.testing import assert_task

SIDE = 60
NUMPY = {
    "not turned": lambda pixels: pixels,
    "a quarter turn clockwise": lambda pixels: np.rot90(pixels, k=-1),
    "a half turn": lambda pixels: pixels[::-1, ::-1],
    "a quarter turn counterclockwise": np.rot90,
    "not mirrored": lambda pixels: pixels,
    "left to right": lambda pixels: pixels[:, ::-1],
    "upside down": lambda pixels: pixels[::-1],
}
"""The changes, implemented independently with numpy."""


def planned(name, count, **config):
    """The task, source and puzzles of a photo whose centre is shown without resizing, and the pixels of that centre."""
    pixels = photo_pixels(SIDE + 20, SIDE)
    task = get_task(name, side=SIDE, crop="center", **config)
    source = source_of(encode(Image.fromarray(pixels)))
    puzzles = [task.plan(source, Random(seed)) for seed in range(count)]
    assert all(isinstance(puzzle, Puzzle) for puzzle in puzzles)
    return task, source, puzzles, pixels[:, 10:-10]


@pytest.mark.parametrize("name", ["rotation", "flip"])
def test_the_answer_is_the_change_of_the_picture(name):
    task, source, puzzles, photo = planned(name, 40)
    for puzzle in puzzles:
        (image,) = task.render(puzzle, source).images
        texts = puzzle.answer_args["texts"]
        fits = [words for words in texts if np.array_equal(NUMPY[words](photo), np.asarray(image))]
        assert fits == [texts[puzzle.answer_args["options"].index(puzzle.answer)]]
    counts = Counter(puzzle.answer for puzzle in puzzles)
    assert set(counts) == set(puzzles[0].answer_args["options"]), "every answer occurs"


@pytest.mark.parametrize("name", ["rotation", "flip"])
def test_the_answer_is_the_changed_tile(name):
    task, source, puzzles, photo = planned(name, 30, what="tile", grid="2x3")
    for puzzle in puzzles:
        (image,) = task.render(puzzle, source).images
        differs = np.abs(np.asarray(image).astype(int) - photo).sum(axis=2) > 0
        tiles = [differs[y : y + 30, x : x + 20].mean() for y in (0, 30) for x in (0, 20, 40)]
        assert [share > 0.5 for share in tiles].count(True) == 1
        assert puzzle.answer == str(int(np.argmax(tiles)) + 1)
    assert len({puzzle.answer for puzzle in puzzles}) == 6


def test_the_prompt_lists_the_options_and_the_answer_format():
    task, _, (puzzle, *_), _ = planned("rotation", 1)
    words = task.prompt(puzzle)[0]["content"][-1]["text"]
    assert "A: not turned, B: a quarter turn clockwise" in words and "one of A, B, C or D" in words
    assert all("A: not turned" in variant.question for variant in task.variants(puzzle))


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (Image.new("RGB", (100, 100), "teal"), "ambiguous"),
        (Image.fromarray(photo_pixels(100, SIDE - 1)), "too_small"),
    ],
)
def test_a_photo_without_a_unique_answer_is_rejected(image, reason):
    result = get_task("rotation", side=SIDE).plan(source_of(encode(image)), Random(0))
    assert isinstance(result, Reject) and result.reason == reason


@pytest.mark.parametrize(
    ("name", "config"),
    [("rotation", {}), pytest.param("flip", {"what": "tile", "grid": "3x3"}, marks=pytest.mark.slow)],
)
def test_the_tasks_meet_the_contract(name, config):
    assert_task(name, side=SIDE, **config)
