"""The time_arrow, odd_clip, foreign_clip and moment tasks: the answer agrees with the numbers in the video's frames."""

from itertools import pairwise
from random import Random

import numpy as np
import pytest
from synthetic_media import number_in, numbered_frame, source_of, write_video

from jigsaw.rewards.answers import check_answer_of
from jigsaw.tasks import Puzzle, Reject, Source, TaskError, get_task
from jigsaw.testing import assert_task

CONFIG = {"decoder": "pyav", "multiple": 16, "min_side": 16}


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A video of 30 seconds at 10 frames per second; each frame shows its number."""
    path = write_video(tmp_path_factory.mktemp("video") / "video.mkv", frames=300, codec="ffv1", picture=numbered_frame)
    return source_of(path.read_bytes(), "video", "video.mkv")


def planned(source, name, count, **config):
    task = get_task(name, **CONFIG, **config)
    puzzles = [task.plan(source, Random(seed)) for seed in range(count)]
    assert all(isinstance(puzzle, Puzzle) for puzzle in puzzles), puzzles
    return task, puzzles


def numbers(task, puzzle, source):
    """For each clip, the numbers that its frames show."""
    return [[number_in(frame) for frame in clip.frames] for clip in task.render(puzzle, source).videos]


def test_the_answer_is_the_direction_of_time(video):
    task, puzzles = planned(video, "time_arrow", 12, window=4)
    for puzzle in puzzles:
        ((first, *_, last),) = numbers(task, puzzle, video)
        assert puzzle.answer == ("A" if first < last else "B")
    assert {puzzle.answer for puzzle in puzzles} == {"A", "B"}


@pytest.mark.parametrize("change", ["shuffled", "reversed"])
def test_only_the_odd_clip_has_its_frames_out_of_order(video, change):
    task, puzzles = planned(video, "odd_clip", 12, window=8, clips=3, change=change)
    for puzzle in puzzles:
        clips = numbers(task, puzzle, video)
        in_order = [all(one < other for one, other in pairwise(clip)) for clip in clips]
        assert in_order.count(False) == 1 and puzzle.answer == str(in_order.index(False) + 1)
        backwards = clips[in_order.index(False)][::-1]
        assert (backwards == sorted(backwards)) == (change == "reversed")
    assert {puzzle.answer for puzzle in puzzles} == {"1", "2", "3"}


def offset_frame(number, size):
    """A frame of the second video, whose numbers begin at 500."""
    return numbered_frame(number + 500, size)


@pytest.fixture(scope="module")
def two_videos(video, tmp_path_factory):
    """A pair of the video and one of another aspect ratio; each frame shows its number."""
    folder = tmp_path_factory.mktemp("videos")
    path = write_video(folder / "b.mkv", frames=200, codec="ffv1", size=(160, 160), picture=offset_frame)
    files = {"video": video.files["video"], "other": path.read_bytes()}
    return Source("video.mkv::and::b.mkv", "both", files, ("a", "b"))


def padded_frame(frame):
    """A frame of the second video, padded to its height before cropping; its number is in the upper half."""
    padded = np.zeros((160, *frame.shape[1:]), dtype=np.uint8)
    padded[(160 - len(frame)) // 2 :][: len(frame)] = frame
    return padded


def test_the_answer_is_the_clip_of_the_other_video(two_videos):
    task, puzzles = planned(two_videos, "foreign_clip", 16, window=8)
    for puzzle in puzzles:
        clips = task.render(puzzle, two_videos).videos
        assert {clip.frames.shape for clip in clips} == {(4, 96, 160, 3)}, "all clips have one size and length"
        begins = []
        for clip in clips:
            steps = np.diff([number_in(frame) for frame in clip.frames])
            begins.append(number_in(clip.frames[0]) if np.abs(steps - 5).max() <= 1 else None)
        (odd,) = (at for at, clip in enumerate(clips) if 500 <= number_in(padded_frame(clip.frames[0])) < 700)
        assert puzzle.answer == str(odd + 1)
        rest = sorted(begin for at, begin in enumerate(begins) if at != odd)
        assert np.abs(np.diff(rest) - 20).max() <= 1, "the other clips follow each other"
    assert {puzzle.answer for puzzle in puzzles} == {"1", "2", "3", "4"}


def test_two_copies_of_a_video_and_unusable_videos_are_rejected(two_videos):
    task = get_task("foreign_clip", **CONFIG, window=8)
    copies = Source("a", "copies", two_videos.files, ("a", "a"))
    broken = Source("a", "broken", {**two_videos.files, "other": b"no"}, ("a", "b"))
    for source, reason in ((copies, "ambiguous"), (broken, "unreadable")):
        result = task.plan(source, Random(0))
        assert isinstance(result, Reject) and result.reason == reason
    result = get_task("foreign_clip", **CONFIG, window=60).plan(two_videos, Random(0))
    assert (
        isinstance(result, Reject)
        and result.reason == "too_short"
        and "the video has 30.0 s; window=60 and clips=4 need at least 45 s" in result.detail
    )


@pytest.mark.parametrize("change", ["reversed", "faster", "foreign"])
def test_the_answer_is_the_interval_in_which_the_steps_between_frames_change(video, change):
    """With 2 of 10 frames per second, unchanged parts have steps of 5."""
    task, puzzles = planned(video, "moment", 12, window=8, change=change)
    for puzzle in puzzles:
        (clip,) = numbers(task, puzzle, video)
        steps = np.diff(clip)
        assert len(clip) == 16 and puzzle.answer_args == {"duration": 8.0}
        start, end = (round(2 * second) for second in puzzle.answer)
        inside = steps[start : end - 1]
        expected = {"reversed": -5, "faster": 10, "foreign": 5}[change]
        assert np.abs(inside - expected).max() <= 1, (clip, puzzle.answer)
        outside = [*steps[: max(0, start - 1)], *steps[end:]]
        assert np.abs(np.array(outside) - 5).max() <= 1, (clip, puzzle.answer)
        borders = [steps[at] for at in (start - 1, end - 1) if 0 <= at < len(steps)]
        assert change == "faster" or all(abs(step - 5) > 1 for step in borders)
        check_answer_of(vars(puzzle))
    assert len({tuple(puzzle.answer) for puzzle in puzzles}) > 3


def test_a_foreign_part_is_from_outside_the_shown_part(video):
    task, puzzles = planned(video, "moment", 12, window=8, change="foreign")
    for puzzle in puzzles:
        (clip,) = numbers(task, puzzle, video)
        start, end = (round(2 * second) for second in puzzle.answer)
        rest = [*clip[:start], *clip[end:]]
        assert not any(min(rest) <= number <= max(rest) for number in clip[start:end])


@pytest.mark.parametrize("name", ["time_arrow", "odd_clip", "moment"])
@pytest.mark.parametrize(("frames", "reason"), [(20, "too_short"), (250, "static")])
def test_a_video_without_a_unique_answer_is_rejected(tmp_path, name, frames, reason):
    path = write_video(tmp_path / "v.mkv", frames=frames, codec="ffv1", picture=lambda _, size: numbered_frame(5, size))
    result = get_task(name, **CONFIG).plan(source_of(path.read_bytes(), "video"), Random(0))
    assert isinstance(result, Reject) and result.reason == reason


def test_a_video_with_too_few_frames_is_rejected(tmp_path):
    path = write_video(tmp_path / "v.mkv", frames=30, rate=1, codec="ffv1")
    result = get_task("time_arrow", **CONFIG, window=8, fps=4).plan(source_of(path.read_bytes(), "video"), Random(0))
    assert isinstance(result, Reject) and result.reason == "too_few_frames"


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("odd_clip", {"window": 4, "clips": 4}, "2 frames for each of 4 clips, too few"),
        ("moment", {"shortest": 0.5, "longest": 0.3}, "longest=0.3 is less than shortest=0.5"),
        ("moment", {"window": 2, "shortest": 0.25}, "less than two frames"),
    ],
)
def test_an_impossible_configuration_is_refused(name, config, message):
    with pytest.raises(TaskError, match=message):
        get_task(name, **config)


@pytest.mark.parametrize(
    "name", ["foreign_clip", *(pytest.param(n, marks=pytest.mark.slow) for n in ("odd_clip", "time_arrow", "moment"))]
)
def test_the_tasks_meet_the_contract(name):
    assert_task(name, window=10, **CONFIG)
