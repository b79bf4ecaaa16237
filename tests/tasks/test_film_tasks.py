"""Arrow of time, odd clip and moment: the answer is derived again from numbers that the frames of the video carry."""

from itertools import pairwise
from random import Random

import numpy as np
import pytest
from made_media import number_in, numbered_frame, source_of, write_video

from jigsaw.rewards.answers import check_answer_of
from jigsaw.tasks import Puzzle, Reject, TaskError, get_task
from jigsaw.testing import assert_task

FILM = {"decoder": "pyav", "multiple": 16, "min_side": 16}


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """30 seconds of 10 frames a second, each of which carries its number."""
    path = write_video(tmp_path_factory.mktemp("film") / "film.mkv", frames=300, codec="ffv1", picture=numbered_frame)
    return source_of(path.read_bytes(), "video", "film.mkv")


def planned(source, name, count, **config):
    task = get_task(name, **FILM, **config)
    puzzles = [task.plan(source, Random(seed)) for seed in range(count)]
    assert all(isinstance(puzzle, Puzzle) for puzzle in puzzles), puzzles
    return task, puzzles


def numbers(task, puzzle, source):
    """Per clip the numbers that its frames carry."""
    return [[number_in(frame) for frame in clip.frames] for clip in task.render(puzzle, source).videos]


def test_the_direction_of_time_is_read_off_the_frames(film):
    task, puzzles = planned(film, "time_arrow", 12, window=4)
    for puzzle in puzzles:
        ((first, *_, last),) = numbers(task, puzzle, film)
        assert puzzle.answer == ("A" if first < last else "B")
    assert {puzzle.answer for puzzle in puzzles} == {"A", "B"}


@pytest.mark.parametrize("change", ["shuffled", "reversed"])
def test_the_odd_clip_alone_has_its_frames_out_of_order(film, change):
    task, puzzles = planned(film, "odd_clip", 12, window=8, clips=3, change=change)
    for puzzle in puzzles:
        clips = numbers(task, puzzle, film)
        in_order = [all(one < other for one, other in pairwise(clip)) for clip in clips]
        assert in_order.count(False) == 1 and puzzle.answer == str(in_order.index(False) + 1)
        backwards = clips[in_order.index(False)][::-1]
        assert (backwards == sorted(backwards)) == (change == "reversed")
    assert {puzzle.answer for puzzle in puzzles} == {"1", "2", "3"}


@pytest.mark.parametrize("change", ["reversed", "faster", "foreign"])
def test_the_changed_part_is_found_again_in_the_steps_between_frames(film, change):
    """At 2 frames a second of 10, a step of 5 is the video as it is."""
    task, puzzles = planned(film, "moment", 12, window=8, change=change)
    for puzzle in puzzles:
        (clip,) = numbers(task, puzzle, film)
        steps = np.diff(clip)
        assert len(clip) == 16 and puzzle.answer_args == {"duration": 8.0}
        start, end = (round(2 * second) for second in puzzle.answer)
        inside = steps[start : end - 1]
        usual = {"reversed": -5, "faster": 10, "foreign": 5}[change]
        assert np.abs(inside - usual).max() <= 1, (clip, puzzle.answer)
        outside = [*steps[: max(0, start - 1)], *steps[end:]]
        assert np.abs(np.array(outside) - 5).max() <= 1, (clip, puzzle.answer)
        borders = [steps[at] for at in (start - 1, end - 1) if 0 <= at < len(steps)]
        assert change == "faster" or all(abs(step - 5) > 1 for step in borders)
        check_answer_of(vars(puzzle))
    assert len({tuple(puzzle.answer) for puzzle in puzzles}) > 3


def test_a_foreign_part_is_from_outside_of_what_is_shown(film):
    task, puzzles = planned(film, "moment", 12, window=8, change="foreign")
    for puzzle in puzzles:
        (clip,) = numbers(task, puzzle, film)
        start, end = (round(2 * second) for second in puzzle.answer)
        rest = [*clip[:start], *clip[end:]]
        assert not any(min(rest) <= number <= max(rest) for number in clip[start:end])


@pytest.mark.parametrize("name", ["time_arrow", "odd_clip", "moment"])
@pytest.mark.parametrize(("frames", "reason"), [(20, "too_short"), (250, "static")])
def test_a_video_that_gives_no_certain_answer_is_rejected(tmp_path, name, frames, reason):
    path = write_video(tmp_path / "v.mkv", frames=frames, codec="ffv1", picture=lambda _, size: numbered_frame(5, size))
    made = get_task(name, **FILM).plan(source_of(path.read_bytes(), "video"), Random(0))
    assert isinstance(made, Reject) and made.reason == reason


def test_a_video_of_few_frames_is_rejected(tmp_path):
    path = write_video(tmp_path / "v.mkv", frames=30, rate=1, codec="ffv1")
    made = get_task("time_arrow", **FILM, window=8, fps=4).plan(source_of(path.read_bytes(), "video"), Random(0))
    assert isinstance(made, Reject) and made.reason == "too_few_frames"


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("odd_clip", {"window": 4, "clips": 4}, "2 frames for each of 4 clips, too few"),
        ("moment", {"shortest": 0.5, "longest": 0.3}, "longest=0.3 is less than shortest=0.5"),
        ("moment", {"window": 2, "shortest": 0.25}, "less than two frames"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_when_it_is_made(name, config, message):
    with pytest.raises(TaskError, match=message):
        get_task(name, **config)


@pytest.mark.parametrize(
    "name", ["odd_clip", *(pytest.param(n, marks=pytest.mark.slow) for n in ("time_arrow", "moment"))]
)
def test_the_contract_holds(name):
    assert_task(name, window=10, **FILM)
