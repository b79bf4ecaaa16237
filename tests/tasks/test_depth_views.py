"""Depth maps of rotated photos, depth maps without a unit, and file formats that are refused."""

import importlib.util
import io
from random import Random

import numpy as np
import pytest
from PIL import Image
from synthetic_media import encode, photo_pixels

from jigsaw.tasks import Reject, Source, get_task
from jigsaw.tasks.media.depthmaps import DepthError, DepthMeaning, read_depth
from jigsaw.tasks.media.photos import PhotoHeader
from jigsaw.tasks.registry import canonical_config

BACK = {  # EXIF orientation -> the transposition of an upright picture that a camera stores
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def field(width, height):
    """Depth in metres that differs between places, however the map is rotated."""
    rng = np.random.default_rng(3)
    cells = np.repeat(np.repeat(rng.uniform(0.8, 7.5, (6, 6)), height // 6, 0), width // 6, 1)
    cells[: height // 6] = np.repeat(np.linspace(0.8, 2, 6), width // 6)
    return cells.astype(np.float32)


def stored_map(depth, orientation, form):
    rotated = np.asarray(Image.fromarray(depth).transpose(BACK[orientation]) if orientation in BACK else depth)
    if form == "npy":
        stream = io.BytesIO()
        np.save(stream, rotated)
        return stream.getvalue()
    return encode(Image.fromarray((rotated * 1000).astype(np.uint16)))


def scene(size, orientation, *, rotated=True, form="png"):
    """A photo in sensor orientation and its depth map, rotated like the photo or upright."""
    depth = field(*size)
    photo = Image.fromarray(photo_pixels(*size))
    exif = Image.Exif()
    exif[0x0112] = orientation
    color = encode(photo.transpose(BACK[orientation]) if orientation in BACK else photo, "JPEG", exif=exif.tobytes())
    data = stored_map(depth, orientation if rotated else 1, form)
    files = {"color": color, "depth": data}
    return depth, Source(path="color.jpg::depth", fingerprint=str(hash((color, data))), files=files)


def ordered_depths(puzzle, depth):
    geometry = puzzle.geometry
    shown = [geometry["points"][rank] for rank in geometry["shown"]]
    return [float(depth[y, x]) for x, y in (shown[number - 1] for number in puzzle.answer)]


SQUARE, WIDE = (480, 480), (480, 360)


@pytest.mark.parametrize("form", ["png", "npy"])
@pytest.mark.parametrize("orientation", BACK)
def test_a_depth_map_with_the_orientation_of_the_photo_is_rotated_with_it(orientation, form):
    for size in (SQUARE, WIDE):
        depth, source = scene(size, orientation, form=form)
        puzzle = get_task("depth", points=4, depth_orientation="photo").plan(source, Random(0))
        depths = ordered_depths(puzzle, depth)
        assert depths == sorted(depths)
        assert depths == pytest.approx(puzzle.geometry["depths"], abs=0.01)


@pytest.mark.parametrize("orientation", BACK)
def test_a_depth_map_that_is_declared_upright_is_not_rotated(orientation):
    for size in (SQUARE, WIDE):
        depth, source = scene(size, orientation, rotated=False)
        puzzle = get_task("depth", points=4, depth_orientation="upright").plan(source, Random(0))
        assert ordered_depths(puzzle, depth) == pytest.approx(puzzle.geometry["depths"], abs=0.01)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("rotated", [True, False])
def test_the_orientation_of_a_depth_map_is_inferred_from_its_shape_if_possible(orientation, rotated):
    depth, source = scene(WIDE, orientation, rotated=rotated)
    puzzle = get_task("depth", points=4).plan(source, Random(0))
    assert ordered_depths(puzzle, depth) == pytest.approx(puzzle.geometry["depths"], abs=0.01)


@pytest.mark.parametrize(("size", "orientation"), [(SQUARE, 6), (SQUARE, 5), (WIDE, 3), (WIDE, 2), (SQUARE, 4)])
def test_an_ambiguous_orientation_is_rejected_with_the_remedy(size, orientation):
    _, source = scene(size, orientation)
    result = get_task("depth", points=4).plan(source, Random(0))
    assert isinstance(result, Reject)
    assert result.reason == "orientation"
    assert "set depth_orientation=photo" in result.detail


def test_the_exif_orientation_of_a_depth_map_is_used():
    depth = field(*SQUARE)
    exif = Image.Exif()
    exif[0x0112] = 6
    sideways = Image.fromarray((depth * 1000).astype(np.uint16)).transpose(BACK[6])
    picture = PhotoHeader(size=SQUARE, quick_to_scale=True, orientation=6)
    read = read_depth(encode(sideways, exif=exif.tobytes()), DepthMeaning(), picture)
    assert np.abs(read - depth).max() < 0.001


def test_photos_without_orientation_need_no_setting():
    depth, source = scene(SQUARE, 1)
    puzzle = get_task("depth", points=4).plan(source, Random(0))
    assert ordered_depths(puzzle, depth) == pytest.approx(puzzle.geometry["depths"], abs=0.01)
    assert "relative" not in puzzle.geometry


@pytest.mark.parametrize("store", ["16 bits", "8 bits", "float"])
@pytest.mark.parametrize("kind", ["inverse", "relative"])
def test_depth_without_a_unit_is_ordered_by_its_kind(kind, store):
    depth = field(*SQUARE)
    share = (depth - depth.min()) / np.ptp(depth)
    value = 1 - share if kind == "inverse" else share
    stream = io.BytesIO()
    if store == "float":
        np.save(stream, value.astype(np.float32) * 31 - 7)  # networks give any range, also below 0
    else:
        top, kind_of_number = (65535, np.uint16) if store == "16 bits" else (255, np.uint8)
        stream.write(encode(Image.fromarray((value * top).astype(kind_of_number))))
    color = encode(Image.fromarray(photo_pixels(*SQUARE)))
    source = Source(
        path="a::b",
        fingerprint=str(hash((color, stream.getvalue()))),
        files={"color": color, "depth": stream.getvalue()},
    )
    task = get_task("depth", points=4, kind=kind, relative_gap=0.1)
    puzzle = task.plan(source, Random(0))
    depths = ordered_depths(puzzle, depth)
    assert depths == sorted(depths)
    assert puzzle.geometry["relative"] is True
    assert min(np.diff(puzzle.geometry["depths"])) > 0.1
    ((title, _),) = task.explain(puzzle, source)
    assert title.startswith("Relative depth")


def test_keys_added_later_do_not_change_ids():
    plain = canonical_config(get_task("depth"))
    assert "depth_orientation" not in plain
    assert "relative_gap" not in plain
    assert "depth_orientation" in canonical_config(get_task("depth", depth_orientation="photo"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (encode(Image.fromarray(photo_pixels(9, 9)), "JPEG"), "JPEG is not a depth format, since its compression"),
        (encode(Image.fromarray(photo_pixels(9, 9)), "WEBP"), "WebP is not a depth format"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5 is not a depth format"),
        (b"MATLAB 5.0 MAT-file, Platform" + bytes(99), "MATLAB is not a depth format"),
        (b"words", "no known depth format"),
    ],
)
def test_formats_without_depth_are_refused_by_name(data, message):
    with pytest.raises(DepthError, match=message):
        read_depth(data, DepthMeaning())


@pytest.mark.skipif(importlib.util.find_spec("OpenEXR") is not None, reason="OpenEXR is installed")
def test_the_error_for_openexr_names_the_package_that_reads_it():
    with pytest.raises(DepthError, match="need the package OpenEXR"):
        read_depth(b"v/1\x01" + bytes(99), DepthMeaning())


def test_openexr_is_read_if_the_package_is_installed(tmp_path):
    openexr = pytest.importorskip("OpenEXR")
    depth = field(*WIDE)
    channels = {"Z": openexr.Channel("Z", depth, 1, 1), "R": openexr.Channel("R", depth * 0, 1, 1)}
    openexr.File({"type": openexr.scanlineimage}, channels).write(str(tmp_path / "a.exr"))
    for file in (tmp_path / "a.exr", (tmp_path / "a.exr").read_bytes()):
        assert np.array_equal(read_depth(file, DepthMeaning()), depth)
