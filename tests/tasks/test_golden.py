"""Golden test: the puzzles, ids and pixels of a seed are bit-equal to those whose hashes are in `golden.json`.

The same settings must build the same puzzle set in every version. After an intended change of puzzles, write the hashes
again and note the change in the change log:

    python tests/tasks/test_golden.py
"""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parent))

from synthetic_media import numbered_frame, photo_pixels, write_video

from jigsaw.data import build_puzzles, import_puzzles, load_puzzles
from jigsaw.data.sources import open_source, scan
from jigsaw.data.storage.identity import puzzle_id, puzzle_rng
from jigsaw.samples.rooms import export_rooms
from jigsaw.tasks import Puzzle, Source, canonical_config, find_task, get_task, task_names

GOLDEN = Path(__file__).with_name("golden.json")
ZOOM = f"{Path(__file__).parents[2] / 'examples' / 'task_plugin' / 'jigsaw_zoom.py'}:ZoomTask"
SEED, PER_SOURCE = 7, 2

SEGMENT = {"window": 2, "fps": 4, "min_side": 16, "multiple": 16, "decoder": "pyav"}

PLANS = {
    "image": ("image", {"grid": "3x3"}),
    "image, random crops": ("image", {"grid": "2x3", "crop": "random", "augment": True, "answer_style": "direct"}),
    "image, one sheet": ("image", {"grid": "2x2", "layout": "composite", "margin": 0.1, "tile": 56}),
    "image, whole": ("image", {"grid": "4x4", "crop": "none", "max_tile": 40, "flat": "classes", "identity": False}),
    "video": ("video", {"min_duration": 0, "decoder": "pyav"}),
    "video, tiles": ("video", {"clips": 2, "min_duration": 0, "grid": "2x2", "static": "classes", "decoder": "pyav"}),
    "video, windows": (
        "video",
        {
            "clips": 3,
            "min_duration": 0,
            "window": 6,
            "crop_scale": 0.6,
            "augment": True,
            "shown_as": "images",
            "decoder": "pyav",
            "answer_style": "boxed",
        },
    ),
    "depth": ("depth", {"points": 4}),
    "depth, no unit": ("depth", {"points": 5, "kind": "inverse", "max_side": 200, "radius": 8, "min_distance": 20}),
    "zoom, a plug-in": (ZOOM, {"side": 28}),
    "rotation": ("rotation", {"what": "tile", "grid": "2x2", "side": 84}),
    "flip": ("flip", {"side": 84}),
    "patch_fit": ("patch_fit", {"side": 84}),
    "relative_place": ("relative_place", {"side": 84}),
    "masked": ("masked", {"side": 84}),
    "odd_crop": ("odd_crop", {"side": 56}),
    "time_arrow": ("time_arrow", SEGMENT),
    "odd_clip": ("odd_clip", {**SEGMENT, "window": 4, "clips": 3}),
    "moment": ("moment", SEGMENT),
    "foreign_clip": ("foreign_clip", SEGMENT),
    "depth_regions": ("depth_regions", {"max_side": 160}),
    "nearer": ("nearer", {"max_side": 160, "radius": 6, "min_distance": 16}),
    "view_motion": ("view_motion", {"max_side": 160}),
    "camera_poses": ("camera_poses", {"max_side": 160, "map_side": 224}),
}


def _write_media(folder):
    """Uncompressed and lossless files, so that hashes do not depend on an encoder."""
    for number in range(2):
        Image.fromarray(photo_pixels(360 + number, 300, seed=number)).save(folder / f"{number}.bmp")
    depth = np.linspace(1, 6, 360, dtype=np.float32)[None, :].repeat(300, axis=0)
    depth[:, 200:] += 2
    np.save(folder / "depth.npy", depth)
    write_video(folder / "clip.mkv", frames=120, rate=10, codec="ffv1", picture=numbered_frame)
    write_video(folder / "other.mkv", frames=120, rate=10, codec="ffv1", picture=_other_frame)
    export_rooms(_rooms(folder), {"train": 1, "heldout": 0})


def _rooms(folder):
    """The folder of the rendered rooms, outside the folder of the photos, so that builds of the photos skip it."""
    return folder.with_name("rooms")


def _other_frame(number, size):
    return numbered_frame(number + 500, size)[:, ::-1]


def _sources(folder, kind):
    """Sources with fixed fingerprints, so that ids do not depend on an encoder."""
    if kind == "image":
        return [Source(f"{n}.bmp", f"photo-{n}", {"image": folder / f"{n}.bmp"}) for n in range(2)]
    if kind == "video":
        return [Source("clip.mkv", "clip", {"video": folder / "clip.mkv"})]
    if kind == "pair":
        return [Source("pair", "photos", {"image": folder / "0.bmp", "other": folder / "1.bmp"}, ("a", "b"))]
    if kind == "video_pair":
        return [Source("pair", "clips", {"video": folder / "clip.mkv", "other": folder / "other.mkv"}, ("a", "b"))]
    if kind == "posed":
        (path,) = scan(_rooms(folder), "posed")
        return [replace(open_source(_rooms(folder), path, "posed"), fingerprint="room")]
    return [Source("0.bmp::depth.npy", "pair", {"color": folder / "0.bmp", "depth": folder / "depth.npy"})]


def _hash(*values):
    digest = hashlib.sha256()
    for value in values:
        digest.update(value if isinstance(value, bytes) else json.dumps(value, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def _rounded(value):
    """Rounds numbers of cameras, since the last digit of trigonometric functions depends on the processor."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return round(value, 6) if isinstance(value, float) else value


def _pixels(images, clips):
    for image in images:
        yield f"{image.mode} {image.size}"
        yield image.tobytes()
    for clip in clips:
        yield [list(clip.frames.shape), clip.times.round(9).tolist(), clip.fps]
        yield clip.frames.tobytes()


def planned_hashes(folder, name):
    """Per planned puzzle: the hash of its record and prompt, and the hash of its pixels."""
    spec, config = PLANS[name]
    task = get_task(spec, **config)
    hashes = []
    for source in _sources(folder, task.source_kind):
        for index in range(PER_SOURCE):
            identity = puzzle_id(task.name, canonical_config(task), source.fingerprint, SEED, index)
            puzzle = task.plan(source, puzzle_rng(identity))
            assert isinstance(puzzle, Puzzle), f"{name}: {puzzle}"
            media = task.render(puzzle, source)
            record = [identity, puzzle.task, puzzle.answer, _rounded(dict(puzzle.geometry)), puzzle.answer_style]
            record.append(puzzle.classes)
            if puzzle.answer_kind != "order":  # the golden values of orders are older than other kinds
                record += [puzzle.answer_kind, dict(puzzle.answer_args)]
            hashes.append(f"{_hash(record, task.prompt(puzzle))} {_hash(*_pixels(media.images, media.videos))}")
    return hashes


def _set_hashes(path):
    stored = load_puzzles(path).with_format(None)
    assert set(stored["answer_kind"]) == {"order"} and not any([*stored["answer_args"], *stored["answer_value"]])
    later = ["answer_kind", "answer_args", "answer_value"]  # columns that were added after the golden values
    stored = stored.remove_columns(["images", "videos", "origin", *later])
    loaded = load_puzzles(path)
    media = [(row.get("images") or (), row.get("videos") or ()) for row in loaded]
    return [f"{_hash(dict(row))} {_hash(*_pixels(*shown))}" for row, shown in zip(stored, media, strict=True)]


def built_hashes(folder, out):
    """Hashes of the rows and pixels of a puzzle set that workers built, in the order of its parts."""
    config = {"grid": "2x2", "crop": "random"}
    build_puzzles("image", folder, out, config=config, per_source=2, seed=SEED, parts=2, workers=2, progress=False)
    return _set_hashes(out)


def imported_hashes(folder, out):
    """Hashes of the rows and pixels of imported puzzles."""
    tiles = "".join(f"Tile {number}: <image>\n" for number in range(1, 5))
    image = {"path": "0.bmp", "resize_size": [200, 160], "crop_size": [160, 120], "jigsaw_config": [2, 2]}
    points = {"path": "1.bmp", "points": [[40.0, 30.0], [100.0, 200.0], [200.0, 300.0]]}
    hashes = []
    for number, (kind, image_fields, text) in enumerate(
        [
            ("image_jigsaw", image, f"{tiles}Answer in \\boxed{{}}."),
            ("depth_jigsaw", points, "<image> Which is nearest?"),
        ]
    ):
        row = {"data_source": kind, "prompt": [{"role": "user", "content": text}], "images": [image_fields]}
        file = out.parent / f"{kind}.parquet"
        pq.write_table(pa.Table.from_pylist([row]), file)
        target = out.parent / f"imported-{number}"
        import_puzzles("visual-jigsaw", file, target, media_root=folder, seed=SEED, workers=1, progress=False)
        hashes += _set_hashes(target)
    return hashes


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    _write_media(folder)
    return folder


@pytest.fixture(scope="module")
def golden():
    return json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("name", PLANS)
def test_a_seed_gives_the_same_puzzles_ids_and_pixels(media, golden, name):
    assert planned_hashes(media, name) == golden[name]


def test_every_task_that_makes_puzzles_has_golden_values():
    assert {name for name in task_names() if not find_task(name).STORED} <= {task for task, _ in PLANS.values()}


def test_a_built_set_has_the_same_rows_and_pixels(media, golden, tmp_path):
    assert built_hashes(media, tmp_path / "set") == golden["a built set"]


def test_imported_puzzles_have_the_same_rows_and_pixels(media, golden, tmp_path):
    assert imported_hashes(media, tmp_path / "set") == golden["imported"]


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        media_folder = Path(scratch) / "media"
        media_folder.mkdir()
        _write_media(media_folder)
        hashes = {name: planned_hashes(media_folder, name) for name in PLANS}
        hashes["a built set"] = built_hashes(media_folder, Path(scratch) / "set")
        hashes["imported"] = imported_hashes(media_folder, Path(scratch) / "import")
    GOLDEN.write_text(json.dumps(hashes, indent=1) + "\n")
