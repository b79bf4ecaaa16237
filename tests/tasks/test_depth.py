"""The depth task: the answer sorts the points by measured depth, points keep their distances, all formats are read."""

import io
import json
from itertools import combinations, pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from synthetic_media import encode, photo_pixels

from jigsaw.tasks import Reject, Source, get_task
from jigsaw.tasks.media.depthmaps import DepthError, DepthMeaning, read_depth, resample_nearest
from jigsaw.tasks.media.marks import disc

WIDTH, HEIGHT = 320, 240


def ramp():
    """Depth from 1 to 6 m, left to right, with a square of missing values and a step edge."""
    depth = np.tile(np.linspace(1, 6, WIDTH, dtype=np.float32), (HEIGHT, 1))
    depth[100:140, 150:190] = np.nan
    depth[:40] += 2
    return depth


def png16(depth, per_metre=1000):
    return encode(Image.fromarray(np.nan_to_num(depth * per_metre).round().astype(np.uint16)))


def pair(depth, size=(WIDTH, HEIGHT), path="color.png::depth.png", seed=0, **more):
    color = encode(Image.fromarray(photo_pixels(*size, seed=seed)))
    data = depth if isinstance(depth, bytes) else png16(depth)
    fingerprint = str(hash((color, data, str(more))))
    return Source(path=path, fingerprint=fingerprint, files={"color": color, "depth": data} | more)


SCENE = pair(ramp())


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**9))
def test_the_answer_sorts_the_points_by_measured_depth_and_points_keep_the_rules(seed):
    task = get_task("depth")
    puzzle = task.plan(SCENE, Random(seed))
    g = puzzle.geometry
    labelled = [g["points"][rank] for rank in g["shown"]]  # labelled[j] is the point with the number j + 1
    truth = np.nan_to_num(ramp())
    ordered = [labelled[index - 1] for index in puzzle.answer]
    depths = [truth[y, x] for x, y in ordered]
    assert all(b - a > 0.19 for a, b in pairwise(depths))
    assert depths == pytest.approx(g["depths"], abs=0.01)
    radius = g["radius"]
    for (x, y), (u, v) in combinations(labelled, 2):
        distance = ((x - u) ** 2 + (y - v) ** 2) ** 0.5
        assert distance >= 40
        assert distance > 2 * radius + 2
    for x, y in labelled:
        assert radius <= x < WIDTH - radius
        assert radius <= y < HEIGHT - radius
        near = ramp()[y - 3 : y + 4, x - 3 : x + 4]
        assert np.isfinite(near).all(), "away from missing values"
        assert np.ptp(near) < 0.4, "away from depth edges"


def test_the_inverse_of_the_answer_does_not_sort_the_depths():
    task, wrong = get_task("depth"), 0
    for seed in range(20):
        puzzle = task.plan(SCENE, Random(seed))
        depths = puzzle.geometry["depths"]
        inverse = [depths[puzzle.geometry["shown"][original]] for original in puzzle.geometry["shown"]]
        wrong += inverse != sorted(inverse)
    assert wrong > 10


def test_every_point_has_its_number_drawn_on_it():
    """The pixels of each disc equal those of its own number and of no other number."""
    task = get_task("depth")
    puzzle = task.plan(SCENE, Random(4))
    (shown,) = task.render(puzzle, SCENE).images
    plain = Image.open(io.BytesIO(SCENE.files["color"])).convert("RGB")
    radius = puzzle.geometry["radius"]
    for position, rank in enumerate(puzzle.geometry["shown"]):
        x, y = puzzle.geometry["points"][rank]
        box = (x - radius, y - radius, x + radius + 1, y + radius + 1)
        matches = []
        for number in range(1, 7):
            mark = disc(number, radius)
            expected = plain.crop(box)
            expected.paste(mark.convert("RGB"), (0, 0), mask=mark.getchannel("A"))
            matches.append(np.array_equal(np.asarray(expected), np.asarray(shown.crop(box))))
        assert matches == [number == position + 1 for number in range(1, 7)]


def luminance(color):
    """Relative luminance of sRGB 0 to 255, by WCAG 2."""
    share = np.asarray(color) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("radius", [9, 32, 100])
@pytest.mark.parametrize("ground", ["white", "black", "red", "yellow"])
def test_numbers_are_legible_on_any_background_at_any_size(ground, radius):
    """White on the disc has a contrast of 3 to 1, and the discs of two numbers differ clearly."""
    side, discs = 2 * radius + 1, []
    for number in range(1, 13):
        mark, marked = disc(number, radius), Image.new("RGB", (side, side), ground)
        marked.paste(mark.convert("RGB"), (0, 0), mask=mark.getchannel("A"))
        drawn = np.asarray(marked)
        light, fill = luminance(drawn).max(), luminance(drawn[radius, 2])  # next to the number, inside the rim
        assert (light + 0.05) / (fill + 0.05) >= 3
        discs.append(drawn.astype(int))
    for one, other in combinations(discs, 2):
        assert (np.abs(one - other).max(axis=2) > 60).sum() >= radius // 2, "pixels that clearly differ"


@pytest.mark.parametrize("points", [2, 12])
def test_a_puzzle_may_have_two_to_twelve_points(points):
    task = get_task("depth", points=points, radius=8, min_gap=0.1)
    puzzle = task.plan(SCENE, Random(0))
    assert puzzle.num_pieces == points
    assert task.prompt(puzzle)[0]["content"][0] == {"type": "image"}


@pytest.mark.parametrize("side", [120, 240, 1500])
def test_discs_are_inside_the_picture_and_do_not_touch_at_any_resolution(side):
    size = (side * 4 // 3, side)
    task = get_task("depth", points=3)
    puzzle = task.plan(pair(ramp(), size=size), Random(1))
    g = puzzle.geometry
    assert max(g["size"]) <= 1024
    assert g["radius"] >= 9
    for x, y in g["points"]:
        assert g["radius"] <= x < g["size"][0] - g["radius"]
        assert g["radius"] <= y < g["size"][1] - g["radius"]
    for (x, y), (u, v) in combinations(g["points"], 2):
        assert ((x - u) ** 2 + (y - v) ** 2) ** 0.5 > 2 * g["radius"] + 2


def depth_file(kind):
    stream, depth = io.BytesIO(), ramp()
    metres = np.nan_to_num(depth)
    if kind == "npy":
        np.save(stream, depth)
    elif kind == "npz":
        np.savez_compressed(stream, arr=np.where(np.isnan(depth), np.inf, depth))
    elif kind == "tiff":
        Image.fromarray(metres).save(stream, "TIFF")
    elif kind == "pfm":
        stream.write(f"Pf\n{WIDTH} {HEIGHT}\n-1.0\n".encode() + metres[::-1].astype("<f4").tobytes())
    elif kind == "pfm_big_endian":
        stream.write(f"Pf\n{WIDTH} {HEIGHT}\n1.0\n".encode() + metres[::-1].astype(">f4").tobytes())
    elif kind == "channel":
        np.save(stream, depth[None])
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["npy", "npz", "tiff", "pfm", "pfm_big_endian", "channel"])
def test_depth_in_metres_is_read_from_every_format(kind):
    assert np.allclose(read_depth(depth_file(kind), DepthMeaning()), ramp(), equal_nan=True)


def test_integer_depths_are_millimetres_by_default():
    assert np.allclose(read_depth(png16(ramp()), DepthMeaning()), ramp(), atol=0.001, equal_nan=True)
    tum = png16(ramp(), per_metre=5000)
    assert np.allclose(read_depth(tum, DepthMeaning(unit=1 / 5000)), ramp(), atol=0.001, equal_nan=True)


def test_disparity_becomes_depth_by_focal_length_and_baseline():
    meaning = DepthMeaning(kind="disparity", focal=1000.0, baseline=0.2, offset=30.0)
    stream = io.BytesIO()
    np.save(stream, np.array([[20.0, 70.0], [np.inf, 0.0]], dtype=np.float32))
    assert np.allclose(read_depth(stream.getvalue(), meaning), [[4.0, 2.0], [np.nan, np.nan]], equal_nan=True)
    with pytest.raises(DepthError, match=r"focal .* baseline"):
        read_depth(stream.getvalue(), DepthMeaning(kind="disparity"))


def test_the_configuration_overrides_the_disparity_scale_of_a_camera_file():
    stream = io.BytesIO()
    np.save(stream, 200.0 / ramp() - 30.0)
    camera = json.dumps({"focal_length_px": 1000, "baseline_m": 0.2, "disparity_offset_px": 30, "note": "x"}).encode()
    scene = pair(stream.getvalue(), path="color.png::disparity.npy", camera=camera)
    puzzle = get_task("depth").plan(scene, Random(0))
    x, y = puzzle.geometry["points"][0]
    assert puzzle.geometry["depths"][0] == pytest.approx(ramp()[y, x], abs=0.001)
    doubled = get_task("depth", baseline=0.1).plan(scene, Random(0))
    x, y = doubled.geometry["points"][0]
    assert doubled.geometry["depths"][0] == pytest.approx(ramp()[y, x] / 2, abs=0.001)
    assert get_task("depth").plan(pair(stream.getvalue(), path="c::disparity.npy"), Random(0)).reason == "bad_depth"


def test_a_depth_map_of_another_size_is_resampled_without_interpolation():
    depth = np.array([[1.0, 5.0], [2.0, np.nan]], dtype=np.float32)
    large = resample_nearest(depth, (6, 6))
    assert set(large[np.isfinite(large)]) == {1.0, 5.0, 2.0}
    assert np.isnan(large[3:, 3:]).all()
    puzzle = get_task("depth").plan(pair(ramp(), size=(WIDTH * 2, HEIGHT * 2)), Random(0))
    (x, y), metres = puzzle.geometry["points"][0], puzzle.geometry["depths"][0]
    assert metres == pytest.approx(ramp()[y // 2, x // 2], abs=0.05)


def flat(value):
    return np.full((HEIGHT, WIDTH), value, dtype=np.float32)


@pytest.mark.parametrize(
    ("depth", "reason"),
    [
        (flat(np.nan), "no_depth"),
        (flat(25.0), "out_of_range"),
        (flat(0.05), "out_of_range"),
        (flat(2.0), "too_few_points"),
        (np.random.default_rng(0).uniform(1, 9, (HEIGHT, WIDTH)).astype(np.float32), "too_few_points"),
        (ramp()[:, :100], "size_mismatch"),
        (b"", "bad_depth"),
        (b"text", "bad_depth"),
        (png16(ramp())[: len(png16(ramp())) // 2], "bad_depth"),
        (encode(Image.new("RGB", (WIDTH, HEIGHT))), "bad_depth"),
    ],
)
def test_an_unusable_depth_map_is_rejected_with_a_reason(depth, reason):
    result = get_task("depth").plan(pair(depth), Random(0))
    assert isinstance(result, Reject)
    assert result.reason == reason
    if reason == "out_of_range":
        assert "depth_unit" in result.detail


def test_a_broken_picture_with_valid_depth_is_unreadable():
    broken = Source("a::b", "x", {"color": b"nothing", "depth": png16(ramp())})
    assert get_task("depth").plan(broken, Random(0)).reason == "unreadable"


def test_pickles_and_giant_arrays_in_numpy_files_are_refused():
    objects, giant = io.BytesIO(), io.BytesIO()
    np.save(objects, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DepthError, match="allow_pickle"):
        read_depth(objects.getvalue(), DepthMeaning())
    np.lib.format.write_array_header_1_0(giant, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)})
    with pytest.raises(DepthError, match="too large"):
        read_depth(giant.getvalue(), DepthMeaning())


def test_an_npz_of_several_arrays_needs_a_key():
    stream = io.BytesIO()
    np.savez(stream, depth=ramp(), mask=np.ones((2, 2)))
    with pytest.raises(DepthError, match="depth, mask with npz_key"):
        read_depth(stream.getvalue(), DepthMeaning())
    assert np.allclose(read_depth(stream.getvalue(), DepthMeaning(key="depth")), ramp(), equal_nan=True)


@pytest.mark.parametrize("pairs", ["nonsense", "a::b", "{}.jpg", "{}{}::{}"])
def test_a_pattern_for_pairs_needs_two_paths_with_a_shared_part(pairs):
    with pytest.raises(ValueError, match="or two paths like"):
        get_task("depth", pairs=pairs)


def test_a_range_whose_minimum_exceeds_its_maximum_is_refused():
    with pytest.raises(ValueError, match="must be above"):
        get_task("depth", min_depth=5, max_depth=2)


def test_a_picture_with_a_too_large_aspect_ratio_is_rejected():
    wide = np.tile(np.linspace(1, 9, 9000, dtype=np.float32), (40, 1))
    result = get_task("depth", max_side=None, radius=6, points=2).plan(pair(wide, size=(9000, 40)), Random(0))
    assert (result.reason, result.detail) == ("too_long", "the picture is 9000x40 pixels, shown as 9000x40")
