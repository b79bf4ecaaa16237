"""The video task: the answer sorts the clips by time, and the frames are those of the geometry."""

from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from synthetic_media import encode, hide_start, number_in, numbered_frame, source_of, write_sound, write_video

from jigsaw.tasks import Reject, Source, get_task
from jigsaw.tasks.media.clips import equal_spans, frame_numbers, shown_size, size_fault
from jigsaw.tasks.media.video_display import UPRIGHT
from jigsaw.tasks.media.video_streams import Display, VideoError, _packet_fault
from jigsaw.tasks.media.videos import VideoHeader, read_frames, read_header
from jigsaw.tasks.registry import canonical_config
from jigsaw.tasks.video import _tile_boxes

SHORT_VIDEOS = {"min_duration": 1}


def source_at(path):
    return Source(path=path.name, fingerprint=str(path), files={"video": path})


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A video of twelve seconds whose frames show their numbers."""
    return source_at(write_video(tmp_path_factory.mktemp("video") / "a.mp4"))


def in_order(puzzle, media):
    return [media.videos[index - 1] for index in puzzle.answer]


@pytest.mark.parametrize("decoder", ["decord", "pyav"])
def test_the_answer_sorts_the_clips_by_time(video, decoder):
    if decoder == "decord":
        pytest.importorskip("decord")
    task = get_task("video", decoder=decoder, **SHORT_VIDEOS)
    for seed in range(300):
        puzzle = task.plan(video, Random(seed))
        clips = in_order(puzzle, task.render(puzzle, video))
        times = np.concatenate([clip.times for clip in clips])
        assert (np.diff(times) > 0).all()
        for clip, (start, end), numbers in zip(clips, puzzle.geometry["spans"], puzzle.geometry["frames"], strict=True):
            assert start - 0.1 <= clip.times[0] <= clip.times[-1] <= end
            if seed < 5:
                assert [number_in(frame) for frame in clip.frames] == numbers
                assert clip.times == pytest.approx(np.array(numbers) / 10)


def test_the_inverse_of_the_answer_does_not_sort_the_clips(video):
    task = get_task("video", **SHORT_VIDEOS)
    wrong = 0
    for seed in range(20):
        puzzle = task.plan(video, Random(seed))
        media = task.render(puzzle, video)
        inverse = [media.videos[original] for original in puzzle.geometry["shown"]]
        wrong += not (np.diff([clip.times[0] for clip in inverse]) > 0).all()
    assert wrong > 10


def test_frames_above_the_size_limit_are_refused_before_decoding(video, monkeypatch):
    monkeypatch.setattr("jigsaw.tasks.media.video_streams.MAX_FRAME_PIXELS", 160 * 96 - 1)
    with pytest.raises(VideoError, match="its frames are 160x96 pixels") as error:
        read_header(video.files["video"])
    assert error.value.reason == "too_large"


def test_spans_are_equal_disjoint_and_trimmed():
    spans = equal_spans(24.0, 6, 0.05)
    assert [end - start for start, end in spans] == pytest.approx([3.6] * 6)
    assert [b[0] - a[1] for a, b in pairwise(spans)] == pytest.approx([0.4] * 5)


@pytest.mark.parametrize("decoder", ["decord", "pyav"])
def test_frames_of_a_variable_frame_rate_are_chosen_by_time(tmp_path, decoder):
    if decoder == "decord":
        pytest.importorskip("decord")
    path = write_video(tmp_path / "vfr.mp4", frames=60, gaps=[20, 20, 20, 340])
    header = read_header(path)
    assert header.times[:6] == pytest.approx([0, 0.02, 0.04, 0.06, 0.4, 0.42])
    task = get_task("video", clips=3, decoder=decoder, **SHORT_VIDEOS)
    puzzle = task.plan(source_at(path), Random(0))
    for clip, numbers in zip(
        in_order(puzzle, task.render(puzzle, source_at(path))), puzzle.geometry["frames"], strict=True
    ):
        assert [number_in(frame) for frame in clip.frames] == numbers
        assert clip.times == pytest.approx(header.times[numbers])


def test_the_frame_at_a_time_is_the_last_one_that_began():
    times = np.array([0.0, 0.5, 0.6, 2.0])
    assert frame_numbers(times, (0.0, 1.2), 3) == [0, 2, 2]


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_frames_are_rotated_upright_by_their_metadata(tmp_path, quarter_turns):
    path = write_video(tmp_path / "turned.mp4", frames=30, quarter_turns=quarter_turns)
    header = read_header(path)
    assert header.size == ((96, 160) if quarter_turns % 2 else (160, 96))
    (frame,) = read_frames(path, header, [21], header.size, "pyav")
    stored = np.rot90(frame, quarter_turns)
    assert number_in(stored) == 21
    assert np.abs(stored.astype(int) - numbered_frame(21)).mean() < 12
    puzzle = get_task("video", clips=2, **SHORT_VIDEOS).plan(source_at(path), Random(0))
    assert puzzle.geometry["decoder"] == "pyav"
    rejected = get_task("video", clips=2, decoder="decord", **SHORT_VIDEOS).plan(source_at(path), Random(0))
    assert rejected.reason == "wrong_decoder"
    assert str(90 * (4 - quarter_turns)) in rejected.detail


def test_frames_that_an_edit_list_hides_are_not_counted(tmp_path):
    pytest.importorskip("decord")
    trimmed = source_at(hide_start(write_video(tmp_path / "whole.mp4"), tmp_path / "trimmed.mp4", frames=5))
    rejected = get_task("video", decoder="decord", **SHORT_VIDEOS).plan(trimmed, Random(0))
    assert rejected.reason == "wrong_decoder", "decord counts the hidden frames too"
    task = get_task("video", **SHORT_VIDEOS)
    puzzle = task.plan(trimmed, Random(0))
    clips = task.render(puzzle, trimmed).videos
    in_time = [clips[index - 1] for index in puzzle.answer]
    shown = [number_in(frame) for clip in in_time for frame in clip.frames]
    assert shown == [number + 5 for clip in puzzle.geometry["frames"] for number in clip]


def test_without_packet_side_data_decord_is_not_used():
    """PyAV 15 has no `Packet.has_sidedata`, so changes of the coding cannot be detected and PyAV reads the video."""
    assert "does not report" in _packet_fault(object(), None)


def test_a_container_without_times_is_read_by_frame_number(tmp_path):
    path = write_video(tmp_path / "old.avi", frames=40, codec="mpeg4")
    header = read_header(path)
    assert header.num_frames == 40
    frames = read_frames(path, header, [3, 17, 39], (160, 96), "pyav")
    assert [number_in(frame) for frame in frames] == [3, 17, 39]


def test_the_times_shown_to_a_model_are_the_same_for_every_clip(tmp_path):
    path = write_video(tmp_path / "uneven.mkv", frames=95, gaps=[40, 130, 70, 55, 90, 20, 115])
    task = get_task("video", clips=3, **SHORT_VIDEOS)
    clips = task.render(task.plan(source_at(path), Random(0)), source_at(path)).videos
    assert len({tuple(np.round(clip.times - clip.times[0], 3)) for clip in clips}) > 1, (
        "the time stamps identify the clips"
    )
    assert len({tuple(clip.moments) for clip in clips}) == 1
    assert clips[0].moments[:2] == pytest.approx([0, 1 / clips[0].fps])


def test_a_video_in_memory_has_the_same_frames_as_its_file(video, tmp_path):
    in_memory = source_of(video.files["video"].read_bytes(), role="video", path="a.mp4")
    task = get_task("video", **SHORT_VIDEOS)
    puzzle = task.plan(video, Random(1))
    pairs = zip(task.render(puzzle, video).videos, task.render(puzzle, in_memory).videos, strict=True)
    assert all(np.array_equal(a.frames, b.frames) for a, b in pairs)


def test_the_answer_puts_tiles_of_clips_in_time_and_place(video):
    task = get_task("video", clips=2, grid="2x2", max_pixels=160 * 96, multiple=2, **SHORT_VIDEOS)
    without_grid = get_task("video", clips=2, max_pixels=160 * 96, multiple=2, **SHORT_VIDEOS)
    full = without_grid.plan(video, Random(0))
    originals = in_order(full, without_grid.render(full, video))
    for seed in range(20):
        puzzle = task.plan(video, Random(seed))
        assert puzzle.num_pieces == 8
        pieces = in_order(puzzle, task.render(puzzle, video))
        for clip in range(2):
            a, b, c, d = (piece.frames for piece in pieces[4 * clip : 4 * clip + 4])
            again = np.concatenate([np.concatenate([a, b], axis=2), np.concatenate([c, d], axis=2)], axis=1)
            assert np.array_equal(again, originals[clip].frames)


def test_frames_shown_as_images_have_times_relative_to_their_clip(video):
    task = get_task("video", shown_as="images", clips=3, **SHORT_VIDEOS)
    puzzle = task.plan(video, Random(0))
    media = task.render(puzzle, video)
    parts = task.prompt(puzzle)[0]["content"]
    assert sum(part["type"] == "image" for part in parts) == len(media.images) == 3 * 7
    texts = [part["text"] for part in parts if part["type"] == "text" and part["text"].startswith("Clip")]
    assert len({text.split(":")[0][6:] for text in texts}) <= 3
    assert len({text.partition(",")[2] for text in texts}) == 1, (
        "the times of all clips are equal; otherwise they reveal the order"
    )


def test_the_prompt_has_a_placeholder_for_every_clip(video):
    task = get_task("video", answer_style="boxed", **SHORT_VIDEOS)
    puzzle = task.plan(video, Random(0))
    parts = task.prompt(puzzle)[0]["content"]
    assert sum(part == {"type": "video"} for part in parts) == len(task.render(puzzle, video).videos) == 6


def still(number, size):
    return numbered_frame(3, size)


def looped(number, size):
    return numbered_frame(number % 20, size)


def small_mover(number, size):
    """A still scene in which one small object moves."""
    frame = numbered_frame(3, size).copy()
    frame[60:72, number : number + 12] = (255, 0, 0)
    return frame


def test_videos_with_identical_clips_are_rejected_and_a_small_motion_suffices(tmp_path):
    task = get_task("video", clips=3, fps=5, trim=0, **SHORT_VIDEOS)
    result = {
        picture.__name__: task.plan(
            source_at(write_video(tmp_path / f"{picture.__name__}.mp4", picture=picture)), Random(0)
        )
        for picture in (still, looped, small_mover)
    }
    assert isinstance(result["still"], Reject)
    assert isinstance(result["looped"], Reject)
    assert result["still"].reason == result["looped"].reason == "static"
    assert result["small_mover"].classes is None
    recorded = get_task("video", clips=3, static="classes", **SHORT_VIDEOS).plan(
        source_at(tmp_path / "still.mp4"), Random(0)
    )
    assert recorded.classes == (0, 0, 0)


def test_short_broken_and_one_frame_videos_are_rejected_with_a_reason(tmp_path, video):
    sound = write_sound(tmp_path / "sound.mp4")
    one = write_video(tmp_path / "one.mp4", frames=1)
    few = write_video(tmp_path / "few.mp4", frames=8, gaps=[1000])
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(video.files["video"].read_bytes()[:20_000])
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"")
    picture = tmp_path / "picture.mp4"
    picture.write_bytes(encode(Image.new("RGB", (64, 64))))
    expected = {
        sound: "no_video",
        one: "too_short",
        few: "too_few_frames",
        cut: "unreadable",
        text: "unreadable",
        empty: "unreadable",
        tmp_path / "missing.mp4": "unreadable",
        picture: "unreadable",
    }
    task = get_task("video", **SHORT_VIDEOS)
    results = {path: task.plan(source_at(path), Random(0)) for path in expected}
    assert {path.name: result.reason for path, result in results.items()} == {p.name: r for p, r in expected.items()}
    result = get_task("video").plan(video, Random(0))
    assert (result.reason, result.detail) == ("too_short", "the video has 12.0 s; min_duration=24 needs at least 24 s")


def test_damaged_packets_are_rejected_with_both_decoders(tmp_path, video):
    data = bytearray(video.files["video"].read_bytes())
    middle = len(data) // 3
    data[middle : middle + 40_000] = bytes(40_000)
    broken = source_of(bytes(data), role="video")
    for decoder in ("decord", "pyav"):
        result = get_task("video", decoder=decoder, clips=12, **SHORT_VIDEOS).plan(broken, Random(0))
        assert not isinstance(result, Reject) or result.reason in ("unreadable", "static", "too_short"), result


@pytest.mark.parametrize("size", [(1280, 720), (176, 144), (4000, 300), (33, 1000), (20, 20)])
def test_frames_keep_their_aspect_ratio_within_the_pixel_limit(size):
    width, height = shown_size(size, 100352, 28)
    assert width % 28 == height % 28 == 0
    assert width * height <= 100352
    assert 0.6 < (width / height) / (size[0] / size[1]) < 1.6 or min(width, height) == 28


def test_rendering_refuses_another_video_under_the_same_name(video, tmp_path):
    task = get_task("video", **SHORT_VIDEOS)
    puzzle = task.plan(video, Random(0))
    other = source_at(write_video(tmp_path / "b.mp4", frames=20))
    with pytest.raises(ValueError, match="needs number"):
        task.render(puzzle, other)


def test_min_frames_above_max_frames_is_refused():
    with pytest.raises(ValueError, match="max_frames=2 is less than min_frames=3"):
        get_task("video", min_frames=3, max_frames=2)


@pytest.mark.parametrize(
    "playlist",
    [
        "ffconcat version 1.0\nfile base.ts\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nbase.ts\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n",
    ],
)
def test_a_playlist_under_the_name_of_a_video_is_refused(tmp_path, playlist):
    write_video(tmp_path / "base.ts", codec="mpeg4")
    assert read_header(tmp_path / "base.ts").num_frames == 120
    (tmp_path / "list.mp4").write_text(playlist)
    with pytest.raises(VideoError) as error:
        read_header(tmp_path / "list.mp4")
    assert error.value.reason == "unreadable"


def test_windows_are_within_the_video_and_differ_between_seeds(video):
    task = get_task("video", clips=2, window=3, trim=0, fps=2, **SHORT_VIDEOS)
    begins = set()
    for seed in range(30):
        puzzle = task.plan(video, Random(seed))
        (first, middle), (again, last) = puzzle.geometry["spans"]
        assert middle == pytest.approx(again)
        assert last - first == pytest.approx(3)
        assert 0 <= first < last <= 12
        begins.add(first)
        clips = in_order(puzzle, task.render(puzzle, video))
        for clip, numbers in zip(clips, puzzle.geometry["frames"], strict=True):
            assert [number_in(frame) for frame in clip.frames] == numbers
    assert len(begins) == 30
    assert task.plan(video, Random(5)) == task.plan(video, Random(5))


def test_a_video_shorter_than_the_window_is_rejected(video):
    result = get_task("video", window=13, **SHORT_VIDEOS).plan(video, Random(0))
    assert (result.reason, result.detail) == ("too_short", "the video has 12.0 s; window=13 needs at least 13 s")


def test_a_static_window_is_replaced_by_another_one(tmp_path):
    def late(number, size):
        return numbered_frame(max(number, 60), size)

    source = source_at(write_video(tmp_path / "late.mp4", picture=late))
    task = get_task("video", clips=2, window=3, **SHORT_VIDEOS)
    for seed in range(20):
        puzzle = task.plan(source, Random(seed))
        assert puzzle.geometry["spans"][1][1] > 6
    still_video = source_at(write_video(tmp_path / "still.mp4", picture=still))
    assert not task.plan(still_video, Random(0)).final, "another crop or window may be usable"


def test_crops_are_inside_the_frames_and_large_enough(video):
    plain = get_task("video", clips=2, max_pixels=160 * 96, multiple=2, **SHORT_VIDEOS)
    task = get_task("video", clips=2, max_pixels=160 * 96, multiple=2, crop_scale=0.5, **SHORT_VIDEOS)
    uncropped = plain.render(plain.plan(video, Random(0)), video).videos[0].frames
    boxes = set()
    for seed in range(20):
        puzzle = task.plan(video, Random(seed))
        left, top, right, bottom = puzzle.geometry["crop"]["box"]
        assert 0 <= left < right <= 160
        assert 0 <= top < bottom <= 96
        assert (right - left) / 160 >= 0.49
        boxes.add((left, top, right, bottom))
        frames = in_order(puzzle, task.render(puzzle, video))[0].frames
        assert frames.shape[1:] == uncropped.shape[1:]
    assert len(boxes) == 20


def test_all_clips_of_a_puzzle_have_the_same_augmentation(video):
    plain = get_task("video", clips=3, **SHORT_VIDEOS)
    task = get_task("video", clips=3, augment=True, **SHORT_VIDEOS)
    original = plain.plan(video, Random(0))
    expected = in_order(original, plain.render(original, video))
    augmentations = set()
    for seed in range(12):
        puzzle = task.plan(video, Random(seed))
        augment = puzzle.geometry["augment"]
        augmentations.add((augment["mirror"], *augment["channels"]))
        for clip, other in zip(in_order(puzzle, task.render(puzzle, video)), expected, strict=True):
            frames = other.frames[:, :, ::-1] if augment["mirror"] else other.frames
            assert np.array_equal(clip.frames, frames[..., augment["channels"]])
    assert len(augmentations) > 5


@pytest.mark.parametrize("decoder", ["decord", "pyav"])
def test_decoding_all_frames_at_once_gives_the_same_frames_as_single_windows(video, decoder, monkeypatch):
    if decoder == "decord":
        pytest.importorskip("decord")
    settings = {"clips": 2, "window": 4, "decoder": decoder, **SHORT_VIDEOS}
    once = get_task("video", **settings)
    puzzle = once.plan(video, Random(3))
    frames = [clip.frames for clip in once.render(puzzle, video).videos]
    monkeypatch.setattr("jigsaw.tasks.video.DENSE_BYTES", 0)
    each = get_task("video", **settings).render(puzzle, video).videos
    assert all(np.array_equal(a, clip.frames) for a, clip in zip(frames, each, strict=True))


@pytest.mark.parametrize(
    ("size", "config", "reason"),
    [
        ((5600, 28), {}, "too_long"),  # 4480x28 as shown is more than max_pixels
        ((28, 5600), {}, "too_long"),
        ((4800, 60), {}, None),
        ((2000, 40), {}, None),
        ((36, 22), {}, "too_small"),
        ((36, 22), {"min_tile": 14}, None),
        ((320, 240), {"grid": "8x8"}, None),
        ((320, 240), {"grid": "8x8", "max_pixels": 28 * 28 * 9}, "too_small"),  # tiles of 14x7 as shown
        ((160, 96), {"grid": "4x4"}, "too_small"),  # tiles of 40x24
        ((320, 240), {"grid": "4x4", "crop_scale": 0.2}, "too_small"),  # tiles of 16x12 as cut
        ((320, 240), {"crop_scale": 0.2}, None),
        ((1280, 720), {"max_pixels": 784}, None),
        ((1280, 320), {"max_pixels": 784}, "too_long"),  # shown as 28x28
        ((9000, 40), {"max_pixels": 10**6, "multiple": 1}, "too_long"),  # 225:1 is too long for every processor
        ((320, 240), {"multiple": 512, "max_pixels": 784}, "too_long"),
    ],
)
def test_size_limits_apply_to_pieces_before_and_after_resizing(size, config, reason):
    task = get_task("video", clips=2, **SHORT_VIDEOS, **config)
    times = np.arange(60) / 10
    header = VideoHeader(size, times, None, np.empty(0, np.int64), Display(size, UPRIGHT, False), 0, "made up")
    result = task._cut(header, Random(0))
    assert (result.reason if isinstance(result, Reject) else None) == reason
    if reason is None:
        boxes = _tile_boxes(tuple(result["size"]), result["grid"])
        sides = [side for left, top, right, bottom in boxes for side in (right - left, bottom - top)]
        assert min(sides) >= task.config.min_tile
        assert max(sides) < 200 * min(sides)
        assert result["size"][0] * result["size"][1] <= task.config.max_pixels
    else:
        assert result.reason in task.REASONS


@given(
    size=st.tuples(st.integers(1, 12000), st.integers(1, 12000)),
    max_pixels=st.integers(784, 10**6),
    multiple=st.sampled_from([1, 14, 28, 32]),
    grid=st.tuples(st.integers(1, 8), st.integers(1, 8)),
)
def test_shown_sizes_keep_the_limits_and_about_the_aspect_ratio(size, max_pixels, multiple, grid):
    shown = shown_size(size, max_pixels, multiple)
    if size_fault(size, shown, grid=grid, share=1, least=("min_tile", 28), max_pixels=max_pixels) is None:
        assert shown[0] * shown[1] <= max_pixels
        assert min(shown[0] // grid[1], shown[1] // grid[0]) >= 28
        assert 0.5 <= size[0] * shown[1] / (size[1] * shown[0]) <= 2


def test_a_clip_with_a_too_large_aspect_ratio_is_rejected(tmp_path):
    task = get_task("video", clips=2, static="keep", **SHORT_VIDEOS)
    long = write_video(tmp_path / "long.mp4", frames=20, size=(5600, 28))
    wide = write_video(tmp_path / "wide.mp4", frames=20, size=(1400, 28))
    assert task.plan(source_at(long), Random(0)).reason == "too_long"
    puzzle = task.plan(source_at(wide), Random(0))
    assert task.render(puzzle, source_at(wide)).videos[0].frames.shape[1:] == (28, 1400, 3)


def test_a_key_added_later_does_not_change_ids():
    assert "min_tile" not in canonical_config(get_task("video"))
    assert "min_tile" in canonical_config(get_task("video", min_tile=14))
