"""The image task: tiles in the order of the answer give the original picture in all configurations."""

import json
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from synthetic_media import encode, photo_pixels, source_of

from jigsaw.tasks import Puzzle, Reject, TaskError, get_task
from jigsaw.tasks.media.composite import sheet_boxes


def reassembled(puzzle, tiles):
    """The picture of the tiles in the order of the answer, as an array."""
    rows, columns = puzzle.geometry["grid"]
    ordered = [np.asarray(tiles[index - 1]) for index in puzzle.answer]
    return np.vstack([np.hstack(ordered[row * columns : (row + 1) * columns]) for row in range(rows)])


def region_of(puzzle, pixels):
    """The pixels of the original that the tiles show, without margins."""
    g = puzzle.geometry
    rows, columns = g["grid"]
    (w, h), (dx, dy) = g["cell"], g["inset"]
    return np.vstack(
        [
            np.hstack(
                [
                    pixels[g["top"] + r * h + dy : g["top"] + (r + 1) * h - dy][
                        :, g["left"] + c * w + dx : g["left"] + (c + 1) * w - dx
                    ]
                    for c in range(columns)
                ]
            )
            for r in range(rows)
        ]
    )


PIXELS = photo_pixels(403, 301)
SOURCE = source_of(encode(Image.fromarray(PIXELS)))
CASES = [
    (grid, crop, margin)
    for grid in ("1x2", "2x2", "3x3", "4x5", "8x8")
    for crop in ("center", "random", "none")
    for margin in (0, 0.1)
]


@pytest.mark.parametrize(("grid", "crop", "margin"), CASES)
def test_the_answer_reassembles_the_original_pixel_for_pixel(grid, crop, margin):
    task = get_task("image", grid=grid, crop=crop, margin=margin, max_tile=None, min_tile=4, flat="keep")
    for seed in range(20):
        puzzle = task.plan(SOURCE, Random(seed))
        tiles = task.render(puzzle, SOURCE).images
        assert np.array_equal(reassembled(puzzle, tiles), region_of(puzzle, PIXELS))


def test_augmented_tiles_reassemble_the_mirrored_and_recoloured_region():
    task = get_task("image", grid="2x3", crop="random", augment=True, max_tile=None, min_tile=4, flat="keep")
    augmentations = set()
    for seed in range(100):
        puzzle = task.plan(SOURCE, Random(seed))
        augment = puzzle.geometry["augment"]
        augmentations.add((augment["mirror"], *augment["channels"]))
        expected = region_of(puzzle, PIXELS)[:, :: -1 if augment["mirror"] else 1, augment["channels"]]
        assert np.array_equal(reassembled(puzzle, task.render(puzzle, SOURCE).images), expected)
    assert len(augmentations) == 12


def test_the_inverse_of_the_answer_does_not_reassemble_the_original():
    """The check above fails if `answer` is the shown order itself."""
    task = get_task("image", flat="keep")
    puzzles = [task.plan(SOURCE, Random(seed)) for seed in range(30)]
    wrong = [Puzzle(p.task, tuple(o + 1 for o in p.geometry["shown"]), p.geometry) for p in puzzles]
    right = [np.array_equal(reassembled(p, task.render(p, SOURCE).images), region_of(p, PIXELS)) for p in wrong]
    assert not all(right)
    assert [p.answer == w.answer for p, w in zip(puzzles, wrong, strict=True)] == right


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**9))
def test_resized_tiles_equal_the_resized_cells_in_the_order_of_the_answer(seed):
    task = get_task("image", grid="2x3", tile=20, min_tile=20, crop="random", flat="keep")
    puzzle = task.plan(SOURCE, Random(seed))
    g = puzzle.geometry
    photo = Image.fromarray(PIXELS).reduce(g["scale"]) if g["scale"] > 1 else Image.fromarray(PIXELS)
    region = region_of(puzzle, np.asarray(photo))
    width, height = g["cell"]
    for place, index in enumerate(puzzle.answer):
        row, column = divmod(place, 3)
        cell = region[row * height : (row + 1) * height, column * width : (column + 1) * width]
        expected = Image.fromarray(cell).resize((20, 20), Image.Resampling.BICUBIC)
        assert np.array_equal(np.asarray(expected), np.asarray(task.render(puzzle, SOURCE).images[index - 1]))


def test_the_same_seed_gives_the_same_puzzle_and_pixels_in_a_new_task():
    for seed in range(10):
        one, other = (get_task("image", crop="random", tile=28) for _ in range(2))
        other.plan(SOURCE, Random(99))  # a warm cache must not matter
        first, second = one.plan(SOURCE, Random(seed)), other.plan(SOURCE, Random(seed))
        assert first == second
        pairs = zip(one.render(first, SOURCE).images, other.render(second, SOURCE).images, strict=True)
        assert all(a.tobytes() == b.tobytes() for a, b in pairs)


def test_a_puzzle_renders_the_same_after_its_geometry_was_stored_as_json():
    task = get_task("image")
    puzzle = task.plan(SOURCE, Random(0))
    again = Puzzle(puzzle.task, puzzle.answer, json.loads(json.dumps(puzzle.geometry)), puzzle.answer_style)
    # Rendering uses only the geometry: a task with other settings renders the same tiles.
    tiles = get_task("image", grid="2x2", tile=9, min_tile=9).render(again, SOURCE).images
    assert [t.tobytes() for t in tiles] == [t.tobytes() for t in task.render(puzzle, SOURCE).images]


def test_every_tile_has_its_number_and_placeholder_in_the_prompt():
    for style in ("think", "direct", "boxed"):
        task = get_task("image", grid="2x2", answer_style=style)
        (turn,) = task.prompt(task.plan(SOURCE, Random(0)))
        parts = turn["content"]
        images = [i for i, part in enumerate(parts) if part == {"type": "image"}]
        label = "{}:" if style == "direct" else "Tile {}:"
        assert [parts[i - 1]["text"] for i in images] == [label.format(n) for n in range(1, 5)]
        assert all(set(part) == ({"type", "text"} if part["type"] == "text" else {"type"}) for part in parts)
        words = sum(len(part["text"].split()) for part in parts if part["type"] == "text")
        assert words < (30 if style == "direct" else 110)
    assert "\\boxed{2, 4, 1, 3}" in parts[-1]["text"]


def test_a_large_jpeg_for_small_tiles_is_decoded_at_a_fraction_of_its_size():
    data = encode(Image.fromarray(photo_pixels(1600, 1200)), "JPEG", quality=90)
    source = source_of(data)
    puzzle = get_task("image", tile=28).plan(source, Random(0))
    assert puzzle.geometry["scale"] == 8
    assert puzzle.geometry["size"] == [200, 150]


def test_the_exif_orientation_is_applied_at_every_scale():
    upright = Image.fromarray(photo_pixels(640, 400))
    exif = Image.Exif()
    exif[0x0112] = 6
    rotated = upright.transpose(Image.Transpose.ROTATE_90)
    data = encode(rotated, "JPEG", quality=95, exif=exif.tobytes())
    for scale_config in ({}, {"tile": 28}):
        task = get_task("image", grid="2x3", flat="keep", **scale_config)
        puzzle = task.plan(source_of(data), Random(0))
        assert puzzle.geometry["size"][0] > puzzle.geometry["size"][1]
        pixels = reassembled(puzzle, task.render(puzzle, source_of(data)).images).astype(float)
        assert pixels[:, -5:, 0].mean() > pixels[:, :5, 0].mean() + 100  # red grows to the right
        assert pixels[-5:, :, 1].mean() > pixels[:5, :, 1].mean() + 100  # green grows downward


def test_a_photo_whose_tiles_are_too_small_is_rejected():
    result = get_task("image", grid="8x8", min_tile=64).plan(SOURCE, Random(0))
    assert isinstance(result, Reject)
    assert (result.reason, result.final) == ("too_small", True)
    assert "37x37; min_tile=64 needs at least 64" in result.detail


def flat_sky_photo():
    pixels = photo_pixels(300, 300)
    pixels[:100] = (120, 170, 240)
    return source_of(encode(Image.fromarray(pixels)))


def test_tiles_that_look_the_same_are_rejected_or_recorded_as_one_class():
    sky = flat_sky_photo()
    result = get_task("image").plan(sky, Random(0))
    assert isinstance(result, Reject)
    assert (result.reason, result.detail) == ("ambiguous", "tiles 1 = 2 = 3 (raster order) look the same")
    puzzle = get_task("image", flat="classes").plan(sky, Random(0))
    by_place = [puzzle.classes[index - 1] for index in puzzle.answer]
    assert by_place[0] == by_place[1] == by_place[2]
    assert len(set(by_place)) == 7
    assert get_task("image", flat="keep").plan(sky, Random(0)).classes is None
    assert get_task("image").plan(SOURCE, Random(0)).classes is None


def test_with_identity_false_the_tiles_are_never_shown_in_the_right_order():
    task = get_task("image", grid="1x2", identity=False)
    assert {task.plan(SOURCE, Random(seed)).answer for seed in range(30)} == {(2, 1)}


def test_rendering_refuses_a_changed_photo():
    task = get_task("image")
    puzzle = task.plan(SOURCE, Random(0))
    other = source_of(encode(Image.fromarray(photo_pixels(200, 200))))
    with pytest.raises(ValueError, match="was cut from"):
        task.render(puzzle, other)


def test_a_composite_shows_every_tile_unchanged_below_its_number():
    task, apart = (get_task("image", layout=layout, tile=48) for layout in ("composite", "separate"))
    puzzle, same = (each.plan(SOURCE, Random(3)) for each in (task, apart))
    (page,) = task.render(puzzle, SOURCE).images
    size, boxes = sheet_boxes((48, 48), 3, 3)
    assert page.size == size
    tiles = apart.render(same, SOURCE).images
    assert [page.crop(box).tobytes() for box in boxes] == [tile.tobytes() for tile in tiles]
    for left, top, right, _ in boxes:
        assert page.crop((left, top - 14, right, top)).convert("L").getextrema()[0] < 64, "the number is above the tile"
    placeholders = [part for part in task.prompt(puzzle)[0]["content"] if part["type"] == "image"]
    assert len(placeholders) == 1


@pytest.mark.parametrize(
    ("size", "config", "reason"),
    [
        ((12000, 100), {"grid": "1x2", "crop": "none"}, "too_small"),  # shown as 448x7
        ((12000, 28), {"grid": "1x2", "crop": "none"}, "too_small"),
        ((100, 9000), {"grid": "2x1", "crop": "none", "margin": 0.1}, "too_small"),
        ((12000, 100), {"grid": "2x2", "crop": "none", "tile": 56, "min_tile": 56}, "too_small"),  # 50 px as cut
        ((12000, 28), {"grid": "1x2", "crop": "none", "max_tile": None}, "too_long"),
        ((12000, 100), {"grid": "1x2", "crop": "none", "max_tile": 4096, "min_tile": 8}, None),
        ((12000, 50), {"grid": "1x2", "crop": "none", "max_tile": 4096, "min_tile": 8, "layout": "composite"}, None),
        ((60, 30000), {"grid": "8x1", "crop": "none", "max_tile": None, "layout": "composite"}, "too_long"),
        ((900, 100), {"grid": "1x2", "crop": "none"}, None),
        ((900, 100), {"grid": "1x3", "crop": "random", "crop_scale": 0.2}, "too_small"),
        ((900, 100), {"grid": "1x3", "crop": "random", "crop_scale": 0.5}, None),
    ],
)
def test_size_limits_apply_to_tiles_before_and_after_resizing(size, config, reason):
    rng = np.random.default_rng(0)
    source = source_of(encode(Image.fromarray(rng.integers(0, 255, (*size[::-1], 3), dtype=np.uint8))))
    task = get_task("image", flat="keep", **config)
    result = task.plan(source, Random(0))
    assert (result.reason if isinstance(result, Reject) else None) == reason
    if reason is None:
        shown = [side for tile in task.render(result, source).images for side in tile.size]
        assert min(shown) >= task.config.min_tile
        assert max(shown) < 200 * min(shown)


@pytest.mark.parametrize("config", [{"tile": 14}, {"max_tile": 20}, {"tile": 60, "min_tile": 64}])
def test_a_configured_tile_size_below_min_tile_is_refused(config):
    with pytest.raises(TaskError, match="is below min_tile="):
        get_task("image", **config)
