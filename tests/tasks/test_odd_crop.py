"""The odd_crop task and its pairs of photos: the answer agrees with the pixels of both photos."""

from collections import Counter
from random import Random

import numpy as np
import pytest
from PIL import Image
from synthetic_media import encode, photo_pixels

from jigsaw.data import build_puzzles, load_puzzles
from jigsaw.data.sources import open_source, scan
from jigsaw.data.storage.identity import split_of
from jigsaw.tasks import Puzzle, Reject, Source, get_task
from jigsaw.testing import assert_task


def pair(one, other):
    """Two photos whose crops are shown without resizing."""
    files = {"image": encode(Image.fromarray(one)), "other": encode(Image.fromarray(other))}
    return Source("a::and::b", str(hash(one.tobytes() + other.tobytes())), files, ("a", "b"))


ONE, OTHER = photo_pixels(120, 100, seed=1), photo_pixels(120, 100, seed=2)[:, ::-1]


def is_in(picture, part):
    """Whether `part` is a crop of `picture`; the places with the colour of its first pixel are compared."""
    height, width = part.shape[:2]
    starts = np.argwhere((picture == part[0, 0]).all(axis=2))
    return any(np.array_equal(picture[y : y + height, x : x + width], part) for y, x in starts)


def test_the_answer_is_the_crop_of_the_other_photo():
    task = get_task("odd_crop", side=30, share=0.3)
    source = pair(ONE, OTHER)
    puzzles = [task.plan(source, Random(seed)) for seed in range(12)]
    for puzzle in puzzles:
        assert isinstance(puzzle, Puzzle)
        crops = [np.asarray(image) for image in task.render(puzzle, source).images]
        assert [is_in(ONE, crop) for crop in crops].count(True) == 3
        odd = [is_in(OTHER, crop) for crop in crops]
        assert odd.count(True) == 1 and puzzle.answer == str(odd.index(True) + 1)
    assert len({puzzle.answer for puzzle in puzzles}) == 4


@pytest.mark.parametrize(
    ("source", "config", "reason"),
    [
        (Source("a", "a", pair(ONE, OTHER).files, ("a", "a")), {}, "ambiguous"),
        (pair(ONE, np.full_like(ONE, 90)[:20]), {}, "too_small"),
        (pair(ONE, OTHER), {"crops": 8, "share": 0.5}, "no_room"),
        (pair(np.full_like(ONE, 90), OTHER), {}, "ambiguous"),
    ],
)
def test_photos_without_a_unique_answer_are_rejected(source, config, reason):
    result = get_task("odd_crop", side=30, **config).plan(source, Random(0))
    assert isinstance(result, Reject) and result.reason == reason


@pytest.mark.parametrize("count", [0, 1, 2, 5, 7, 8, 9, 20])
def test_every_photo_is_the_first_of_one_pair_and_the_second_of_one(tmp_path, count):
    for number in range(count):
        (tmp_path / f"{number:02}.png").write_bytes(encode(Image.new("RGB", (4, 4), (number, 0, 0))))
    pairs = [path.split("::and::") for path in scan(tmp_path, "pair")]
    assert len(pairs) == (count if count > 1 else 0)
    for side in (0, 1):
        assert set(Counter(paths[side] for paths in pairs).values()) <= {1}
    assert all(one != other for one, other in pairs)


def test_both_photos_of_a_pair_are_on_one_side_of_the_split(tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(16):
        pixels = photo_pixels(120, 100, seed=number)[:: (-1) ** number]
        (tmp_path / "photos" / f"{number:02}.png").write_bytes(encode(Image.fromarray(pixels)))
    contents = {}
    for side in ("train", "heldout"):
        options = {"config": {"side": 30}, "split": side, "heldout": 0.5, "workers": 1, "progress": False}
        build_puzzles("odd_crop", tmp_path / "photos", tmp_path / side, **options)
        paths = [row["source"]["path"] for row in load_puzzles(tmp_path / side).with_format(None)]
        sources = [open_source(tmp_path / "photos", path, "pair") for path in paths]
        contents[side] = {content for source in sources for content in source.contents}
        assert {split_of(content, 0.5) for content in contents[side]} == {side}
    assert not contents["train"] & contents["heldout"]


def test_a_pair_with_only_one_path_is_refused(tmp_path):
    with pytest.raises(OSError, match="two paths, separated by ::and::"):
        open_source(tmp_path, "a.png", "pair")


def test_the_task_meets_the_contract():
    assert_task("odd_crop", side=56)
