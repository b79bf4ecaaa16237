"""Scenes of posed frames: scanning of folders and tars, errors that name the file, and counts of lost frames."""

import shutil
import tarfile

import numpy as np
import pytest

from jigsaw.data import build_puzzles, check_puzzles, load_puzzles
from jigsaw.data.sources import open_source, scan
from jigsaw.data.sources.posed_scenes import FRAMES, LOST
from jigsaw.data.sources.recognition import Problem, Skipped
from jigsaw.errors import JigsawError
from jigsaw.samples.builtin import source_folder
from jigsaw.samples.rooms import export_rooms


@pytest.fixture(scope="module")
def rendered_rooms(tmp_path_factory):
    root = tmp_path_factory.mktemp("rendered_rooms")
    export_rooms(root, {"train": 1, "heldout": 1}, frames=8)
    return root


@pytest.fixture
def rooms(rendered_rooms, tmp_path):
    """A copy of two rooms of 8 frames each."""
    return shutil.copytree(rendered_rooms, tmp_path / "rooms")


@pytest.fixture
def room(rooms):
    return rooms / "train" / "room-000"


def listing(source):
    skipped = Skipped()
    entries = list(scan(source, "posed", skipped=skipped))
    problems = [entry for entry in entries if isinstance(entry, Problem)]
    return [entry for entry in entries if isinstance(entry, str)], problems, dict(skipped)


def test_a_scene_is_found_by_its_poses_in_any_folder(rooms, room):
    assert listing(rooms) == (["heldout/room-000/pose", "train/room-000/pose"], [], {})
    assert listing(room) == (["pose"], [], {})
    (room / "notes.txt").write_text("x")
    (room / "intrinsic" / "intrinsic_color.txt").rename(room / "intrinsics.txt")
    assert listing(room) == (["pose"], [], {".txt": 1})
    files = open_source(room, "pose", "posed").files
    assert len(files) == 1 + 3 * 8 and files["pose/7"] == room / "pose" / "7.txt"


def test_a_scene_is_found_in_a_tar_and_in_a_list(rooms, tmp_path):
    with tarfile.open(tmp_path / "rooms.tar", "w") as archive:
        archive.add(rooms / "train", "train")
    assert listing(tmp_path / "rooms.tar") == (["rooms.tar::train/room-000/pose"], [], {})
    inside = open_source(tmp_path, "rooms.tar::train/room-000/pose", "posed")
    outside = open_source(rooms, "train/room-000/pose", "posed")
    assert inside.fingerprint == outside.fingerprint
    (rooms / "list.txt").write_text("train/room-000/pose\n")
    assert listing(rooms / "list.txt")[0] == ["train/room-000/pose"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 0 0 0\n0 1 0 0\n0 0 1 0\n", "3 rows of 4 numbers, not 4x4"),
        ("2 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n", "are not a rotation"),
        ("1 0 0 nan\n0 1 0 0\n0 0 1 0\n0 0 0 1\n", "infinite or NaN"),
    ],
)
def test_a_malformed_pose_is_reported_and_the_other_frames_are_used(rooms, room, content, message):
    (room / "pose" / "3.txt").write_text(content)
    paths, (problem,), _ = listing(room)
    assert paths == ["pose"] and (problem.path, problem.reason) == ("pose/3.txt", "bad_pose")
    assert message in problem.detail
    assert "pose/3" not in open_source(room, "pose", "posed").files


def test_frames_without_tracking_are_counted_and_not_used(room):
    for frame in (2, 5):
        (room / "pose" / f"{frame}.txt").write_text("-inf -inf -inf -inf\n" * 4)
    assert listing(room) == (["pose"], [], {LOST: 2})
    assert {"pose/2", "pose/5"}.isdisjoint(open_source(room, "pose", "posed").files)


def test_a_frame_without_picture_or_depth_is_reported(room):
    (room / "depth" / "1.png").unlink()
    (room / "color" / "2.png").unlink()
    _, problems, _ = listing(room)
    assert [(each.path, each.detail) for each in problems] == [
        ("pose/1.txt", "it has no depth map"),
        ("pose/2.txt", "it has no picture"),
    ]


def test_a_scene_without_intrinsics_or_with_two_frames_is_refused(room):
    for frame in range(2, 8):
        (room / "pose" / f"{frame}.txt").unlink()
    paths, (problem,), _ = listing(room)
    assert paths == [] and "2 frames have a picture, a depth map and a pose; at least 3 are needed" in problem.detail
    shutil.rmtree(room / "intrinsic")
    paths, (problem,), _ = listing(room)
    assert (
        paths == [] and "there are no intrinsics: the scene has none of intrinsic/intrinsic_color.txt" in problem.detail
    )
    with pytest.raises(OSError, match="not a usable scene of posed frames"):
        open_source(room, "pose", "posed")


def test_frames_of_a_long_scene_are_sampled_evenly_in_numerical_order(room):
    pose = (room / "pose" / "0.txt").read_text()
    for frame in range(300):
        (room / "pose" / f"{frame}.txt").write_text(pose)
        for kind in ("color", "depth"):
            if not (room / kind / f"{frame}.png").exists():
                (room / kind / f"{frame}.png").symlink_to("0.png")
    frames = [int(role[5:]) for role in open_source(room, "pose", "posed").files if role.startswith("pose/")]
    assert len(frames) == FRAMES and frames[0] == 0 and frames[-1] == 299
    assert set(np.diff(frames)) <= {4, 5}


@pytest.mark.parametrize("task", ["view_motion", "camera_poses"])
def test_a_set_of_posed_frames_is_built_checked_and_loaded(rooms, tmp_path, task):
    summary = build_puzzles(task, rooms, tmp_path / "set", config={"views": 3}, per_source=2, workers=1, progress=False)
    rows = load_puzzles(tmp_path / "set")
    assert len(rows) == summary.counts.puzzles == 4 and len(rows[0]["images"]) == 4
    assert check_puzzles(tmp_path / "set", workers=1, progress=False).ok


def test_the_error_for_a_folder_without_scenes_describes_a_scene(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"")
    with pytest.raises(JigsawError, match=r"has no scene of posed frames; .* \(1 other file was skipped: 1 .png\)"):
        build_puzzles("view_motion", tmp_path / "photos", tmp_path / "set", progress=False)


def test_a_recipe_may_use_the_rooms_as_its_source(rendered_rooms, tmp_path, monkeypatch):
    monkeypatch.setattr("jigsaw.samples.builtin.export_rooms", lambda out: shutil.copytree(rendered_rooms, out))
    assert listing(source_folder("rooms", "posed", tmp_path))[0] == ["heldout/room-000/pose", "train/room-000/pose"]


def test_rendered_rooms_are_deterministic_and_differ_between_the_splits(rendered_rooms, tmp_path):
    export_rooms(tmp_path, {"train": 1, "heldout": 0}, frames=8)
    for name in ("color/5.png", "depth/5.png", "pose/5.txt"):
        one, other, held_out = (
            (root / name).read_bytes()
            for root in (
                tmp_path / "train/room-000",
                rendered_rooms / "train/room-000",
                rendered_rooms / "heldout/room-000",
            )
        )
        assert one == other != held_out
