"""The view_motion and camera_poses tasks: answers agree with the pose files, the pixels and the depth."""

import itertools
import re
from math import atan2, cos, degrees, hypot, radians, sin
from random import Random

import numpy as np
import pytest
from PIL import Image

from jigsaw.data.sources import open_source, scan
from jigsaw.samples.rooms import export_rooms
from jigsaw.tasks import Puzzle, Reject, Source, get_task
from jigsaw.tasks.media.poses import Cameras, PoseError, read_intrinsics, read_pose, upwards
from jigsaw.testing import assert_task

SEEDS = range(6)


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """The folder and the source of a rendered room, in whose world z points up."""
    root = tmp_path_factory.mktemp("rooms")
    export_rooms(root, {"train": 1, "heldout": 0})
    (path,) = scan(root, "posed")
    return root / path.removesuffix("/pose"), open_source(root, path, "posed")


def planned(source, name, **config):
    task = get_task(name, **config)
    puzzles = [task.plan(source, Random(seed)) for seed in SEEDS]
    assert all(isinstance(puzzle, Puzzle) for puzzle in puzzles), puzzles
    return task, puzzles


def frame_of(folder, image):
    """The name of the frame whose picture is `image`."""
    (frame,) = (
        file.stem
        for file in (folder / "color").iterdir()
        if np.array_equal(np.asarray(Image.open(file)), np.asarray(image))
    )
    return frame


def matrix(folder, frame):
    return np.loadtxt(folder / "pose" / f"{frame}.txt")


def heading(pose):
    """Heading in degrees, from the world's y axis to the right; z is up."""
    return degrees(atan2(pose[0, 2], pose[1, 2]))


STEP = re.compile(r"([\d.]+) m (forward|backward|to the right|to the left|up|down)")
TURN = re.compile(r"(turn|tilt) (\d+) degrees (to the right|to the left|up|down)")


def motions_in(prompt):
    """For each motion in a prompt: metres ahead, to the right and up, and degrees to the right and up."""
    motions = []
    for line in re.findall(r"^\d+\. (.*)$", prompt, re.MULTILINE):
        steps = {way: float(metres) for metres, way in STEP.findall(line)}
        turns = {way: float(angle) for _, angle, way in TURN.findall(line)}
        motions.append(
            [
                steps.get("forward", 0) - steps.get("backward", 0),
                steps.get("to the right", 0) - steps.get("to the left", 0),
                steps.get("up", 0) - steps.get("down", 0),
                turns.get("to the right", 0) - turns.get("to the left", 0),
                turns.get("up", 0) - turns.get("down", 0),
            ]
        )
    return motions


def text_of(task, puzzle):
    return "\n".join(part.get("text", "") for turn in task.prompt(puzzle) for part in turn["content"])


def test_the_motions_in_the_prompt_agree_with_the_pose_files(room):
    folder, source = room
    task, puzzles = planned(source, "view_motion")
    for puzzle in puzzles:
        first, *views = (frame_of(folder, image) for image in task.render(puzzle, source).images)
        motions = motions_in(text_of(task, puzzle))
        assert len(motions) == len(views) == 4
        start, angle = matrix(folder, first), radians(heading(matrix(folder, first)))
        for motion, index in zip(motions, puzzle.answer, strict=True):
            end = matrix(folder, views[index - 1])
            east, north, up = end[:3, 3] - start[:3, 3]
            ahead, right = east * sin(angle) + north * cos(angle), east * cos(angle) - north * sin(angle)
            turn = (heading(end) - heading(start) + 180) % 360 - 180
            tilt = degrees(np.arcsin(end[2, 2])) - degrees(np.arcsin(start[2, 2]))
            assert motion == pytest.approx([ahead, right, up, turn, tilt], abs=2.51)
            assert motion[:3] == pytest.approx([ahead, right, up], abs=0.051)
        for one, other in itertools.combinations(motions, 2):
            moved, turned = np.subtract(one[:3], other[:3]), np.subtract(one[3:], other[3:])
            assert hypot(*moved) > 0.15 or hypot(*turned) > 10
    assert len({puzzle.answer for puzzle in puzzles}) > 3


def camera(heading_degrees, elevation_degrees):
    """The axes right, down and ahead, as columns, of a camera without roll in a world whose z points up."""
    a, e = radians(heading_degrees), radians(elevation_degrees)
    ahead = np.array([sin(a) * cos(e), cos(a) * cos(e), sin(e)])
    right = np.array([cos(a), -sin(a), 0])
    return np.stack([right, np.cross(ahead, right), ahead], axis=1)


def test_the_motion_and_the_depth_of_the_first_view_predict_the_pixels_of_the_right_view(room):
    """The points of the first view are moved as the prompt says; the answer is the view that then fits best."""
    folder, source = room
    task, puzzles = planned(source, "view_motion", min_overlap=0.35)
    (fx, _, cx, _), (_, fy, cy, _) = np.loadtxt(folder / "intrinsic" / "intrinsic_color.txt")[:2]
    right = 0
    for puzzle in puzzles:
        first, *views = (np.asarray(image).astype(float) for image in task.render(puzzle, source).images)
        name = frame_of(folder, task.render(puzzle, source).images[0])
        depth = np.asarray(Image.open(folder / "depth" / f"{name}.png")) / 1000
        y, x = np.mgrid[0 : depth.shape[0], 0 : depth.shape[1]]
        rays = np.stack([(x + 0.5 - cx) / fx, (y + 0.5 - cy) / fy, np.ones_like(depth)], axis=-1)
        elevation = degrees(np.arcsin(matrix(folder, name)[2, 2]))
        points = (rays * depth[..., None]).reshape(-1, 3) @ camera(0, elevation).T
        for motion, index in zip(motions_in(text_of(task, puzzle)), puzzle.answer, strict=True):
            ahead, aside, up, turn, tilt = motion
            local = (points - [aside, ahead, up]) @ camera(turn, elevation + tilt)
            front = local[:, 2] > 0.1
            u = np.where(front, local[:, 0] / local[:, 2] * fx + cx, -1)
            v = np.where(front, local[:, 1] / local[:, 2] * fy + cy, -1)
            inside = (u >= 0) & (v >= 0) & (u < depth.shape[1]) & (v < depth.shape[0])
            at = (v[inside].astype(int), u[inside].astype(int))
            moved = first.reshape(-1, 3)[inside]
            misfit = [np.median(np.abs(view[at] - moved).sum(axis=1)) for view in views]
            right += int(np.argmin(misfit)) + 1 == index
    assert right >= 0.9 * 4 * len(puzzles)


def red_pixels(picture):
    """A mask of the pixels with the colour of a map's marks, shape `(height, width)`."""
    pixels = np.asarray(picture).astype(int)
    return (pixels[..., 0] > 240) & (pixels[..., 1] < 30) & (pixels[..., 2] < 30)


def test_cameras_on_the_map_have_the_positions_and_directions_of_the_pose_files(room):
    folder, source = room
    task, puzzles = planned(source, "camera_poses")
    for puzzle in puzzles:
        drawn, *views = task.render(puzzle, source).images
        red = red_pixels(drawn)
        frames = [matrix(folder, frame_of(folder, views[index - 1])) for index in puzzle.answer]
        plan, _ = task.map(source, drawn.width)
        spots = plan.at(np.array([frame[:3, 3] for frame in frames]))
        metres = [np.linalg.norm(one[:2, 3] - other[:2, 3]) for one, other in itertools.combinations(frames, 2)]
        pixels = [np.linalg.norm(one - other) for one, other in itertools.combinations(spots, 2)]
        assert np.allclose(np.divide(pixels, metres), plan.scale)
        radius, first = drawn.width // 45, heading(frames[0])
        across, down = plan.way(np.array([sin(radians(first)), cos(radians(first)), 0]))
        up_first = degrees(atan2(across, -down))
        for frame, (x, y) in zip(frames, spots, strict=True):
            ring = [(x + radius * cos(a), y + radius * sin(a)) for a in np.linspace(0, 6.2, 24)]
            assert np.mean([red[int(v), int(u)] for u, v in ring]) > 0.3, "there is a disc on the camera"
            angle = radians(heading(frame) - first + up_first)
            tip = (x + 2.1 * radius * sin(angle), y - 2.1 * radius * cos(angle))
            back = (x - 2.1 * radius * sin(angle), y + 2.1 * radius * cos(angle))
            assert red[int(tip[1]), int(tip[0])] and not red[int(back[1]), int(back[0])]
    assert len({puzzle.answer for puzzle in puzzles}) > 3


def test_the_map_shows_the_floor_in_the_colours_of_the_frames(room):
    """A floor point in a frame has about the colour of the map at its position."""
    _, source = room
    task = get_task("camera_poses")
    plan, drawn = task.map(source, 448)
    shown = np.asarray(drawn).astype(int)
    scene = task.scene(source)
    low = min(scene.points(0, task.depth(source, scene, scene.names[0]))[:, 2])
    same = total = 0
    for number, name in enumerate(scene.names):
        points = scene.points(number, task.depth(source, scene, name))
        colors = np.asarray(task.picture(source, scene, name, scene.sparse)).reshape(-1, 3).astype(int)
        floor = points[:, 2] < low + 0.02
        for (x, y), color in zip(plan.at(points[floor]), colors[floor], strict=True):
            if 0 <= x < 448 and 0 <= y < 448:
                total += 1
                same += np.abs(shown[int(y), int(x)] - color).sum() < 90
    assert total > 1000 and same / total > 0.75


def changed(room, **files):
    """The source with some of its files replaced."""
    _, source = room
    return Source(source.path, "changed" + str(sorted(files)), {**source.files, **files})


@pytest.mark.parametrize("name", ["view_motion", "camera_poses"])
def test_unusable_scenes_are_rejected_with_a_reason(room, name):
    folder, source = room
    task = get_task(name)
    small = Image.open(folder / "color" / "0.png").resize((100, 75))
    small.save(folder.parent / "small.png")
    for other, reason in (
        (changed(room, **{"pose/3": b"1 0 0"}), "bad_pose"),
        (changed(room, intrinsics=b"{}"), "bad_pose"),
        (changed(room, **{role: b"no depth" for role in source.files if role.startswith("depth/")}), "bad_depth"),
        (changed(room, **{f"color/{at}": folder.parent / "small.png" for at in range(1, 16)}), "size_mismatch"),
        (
            changed(room, **{role: folder / "color" / "0.png" for role in source.files if role.startswith("color/")}),
            "ambiguous",
        ),
    ):
        result = task.plan(other, Random(0))
        assert isinstance(result, Reject) and result.reason == reason, result
    few = {role: file for role, file in source.files.items() if role[-2:] in ("/0", "/1", "/2", "cs")}
    result = task.plan(Source("few", "few", few), Random(0))
    assert isinstance(result, Reject) and result.reason == "too_few_views"


GOOD = "1 0 0 1\n0 1 0 2\n0 0 1 3\n0 0 0 1\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 0 0 1\n0 1 0 2\n0 0 1 3\n", "3 rows of 4 numbers, not 4x4"),
        ("", "it has no numbers"),
        (GOOD.replace("3", "three"), "could not convert"),
        (GOOD.replace("1 0 0 1", "-1 0 0 1"), "mirror the scene"),
        (GOOD.replace("1 0 0 1", "2 0 0 1"), "not a rotation"),
        (GOOD.replace("0 0 0 1", "0 0 1 1"), "its last row is 0 0 1 1, not 0 0 0 1"),
        (GOOD.replace("3", "nan"), "some of its numbers are infinite or NaN"),
    ],
)
def test_an_invalid_pose_is_refused(text, message):
    with pytest.raises(PoseError, match=message):
        read_pose(text.encode())


@pytest.mark.parametrize("number", ["-inf", "nan"])
def test_a_pose_of_infinite_or_nan_values_is_none(number):
    assert read_pose(f"{number} {number} {number} {number}\n".encode() * 4) is None
    assert read_pose(f"{number} {number} {number} {number}\n".encode() * 3 + b"0 0 0 1") is None


@pytest.mark.parametrize(
    "text",
    [
        "500 0 320\n0 510 240\n0 0 1",
        "500 0 320 0\n0 510 240 0\n0 0 1 0\n0 0 0 1",
        '{"focal_length_px": 500, "principal_point_px": [320, 240]}',
    ],
)
def test_intrinsics_are_read_from_a_matrix_or_a_camera_file(text):
    fx, fy, cx, cy = read_intrinsics(text.encode())
    assert (fx, cx, cy) == (500, 320, 240) and fy in (500, 510)


@pytest.mark.parametrize("text", ["0 0 0\n0 0 0\n0 0 1", "5 5", '{"focal_length_px": 5}', "{"])
def test_invalid_intrinsics_are_refused(text):
    with pytest.raises(PoseError):
        read_intrinsics(text.encode())


def test_the_up_direction_is_estimated_for_any_axis(room):
    folder, _ = room
    poses = np.stack([np.loadtxt(file) for file in sorted((folder / "pose").iterdir())])
    assert upwards(poses) @ [0, 0, 1] > 0.999
    turned = np.array([[1, 0, 0, 5], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])
    assert upwards(turned @ poses) @ turned[:3, :3] @ [0, 0, 1] > 0.999
    own = upwards(poses[:1])
    assert own @ -poses[0, :3, 1] == pytest.approx(1), "for one camera, its own up direction is used"


def test_a_motion_does_not_depend_on_the_axes_of_the_world(room):
    folder, _ = room
    poses = np.stack([np.loadtxt(folder / "pose" / f"{at}.txt") for at in range(8)])
    turned = np.array([[0, 0, 1, 5], [1, 0, 0, -2], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    one = Cameras(poses, np.array([0, 0, 1.0])).motion(2, 5)
    other = Cameras(turned @ poses, turned[:3, 2]).motion(2, 5)
    assert one == pytest.approx(other, abs=1e-3)


def test_cameras_with_a_large_roll_are_not_used(room):
    folder, _ = room
    poses = np.stack([np.loadtxt(folder / "pose" / f"{at}.txt") for at in range(3)])
    poses[1, :3, :3] = poses[1, :3, :3] @ [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    poses[2, :3, :3] = np.array([[1, 0, 0], [0, -1, 0], [0, 0, -1]])
    assert Cameras(poses, np.array([0, 0, 1.0])).usable() == [0]


@pytest.mark.parametrize("name", ["view_motion", pytest.param("camera_poses", marks=pytest.mark.slow)])
def test_the_tasks_meet_the_contract(name):
    assert_task(name, views=3)
