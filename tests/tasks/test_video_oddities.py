"""Unusual videos of recorders, phones and editors: frames are those that a player shows, or the video is rejected."""

import io
import struct
from fractions import Fraction
from itertools import product
from random import Random

import av
import numpy as np
import pytest
from PIL import Image
from synthetic_media import (
    delay_by,
    hide_start,
    number_in,
    numbered_frame,
    orient,
    packed_bitstream,
    remux,
    several_streams,
    write_video,
)

from jigsaw.tasks import Puzzle, Source, get_task
from jigsaw.tasks.media.video_check import second_reading
from jigsaw.tasks.media.video_display import Orientation, displayed_size, orientation_of
from jigsaw.tasks.media.video_streams import VideoError
from jigsaw.tasks.media.videos import choose_decoder, read_frames, read_header

RATE, FRAMES, SIZE = 25, 75, (120, 72)
X264 = {"crf": "14", "preset": "veryfast", "g": "20", "bf": "2"}
MPEG2 = {"g": "15", "b": "3000000", "bf": "2"}
VP8 = {"b": "2000000", "g": "15", "deadline": "realtime", "cpu-used": "8"}
TS_SECOND, MP4_SECOND = 90_000, 12_800


def video(path, **options):
    settings = {"frames": FRAMES, "rate": RATE, "size": SIZE, "options": X264}
    if path.suffix == ".ts":
        settings["form"] = "mpegts"
    return write_video(path, **settings | options)


def read_numbers(path, indices=None, decoder="auto"):
    """The numbers that the chosen frames of a file show, and its header."""
    header = read_header(path)
    indices = range(0, header.num_frames, 3) if indices is None else indices
    frames = read_frames(path, header, list(indices), header.size, choose_decoder(decoder, header))
    return [number_in(frame) for frame in frames], header


def planned(path, **config):
    source = Source(path=path.name, fingerprint=str(path), files={"video": path})
    task = get_task("video", **{"clips": 3, "min_duration": 1, "static": "keep"} | config)
    return task, source, task.plan(source, Random(0))


def concatenate(path, *parts):
    path.write_bytes(b"".join(part if isinstance(part, bytes) else part.read_bytes() for part in parts))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def mp4(folder):
    return video(folder / "plain.mp4")


@pytest.fixture(scope="module")
def ts(folder):
    return video(folder / "plain.ts")


# Concatenated and cut streams


@pytest.mark.parametrize("offset", [0, 1200, -TS_SECOND // 2, 3600 * TS_SECOND])
def test_the_parts_of_a_concatenated_stream_are_shown_in_sequence(tmp_path, ts, offset):
    part = remux(ts, tmp_path / "part.ts", delay_by(2 * TS_SECOND + offset), "mpegts")
    path = concatenate(tmp_path / "a.ts", remux(ts, tmp_path / "first.ts", delay_by(2 * TS_SECOND), "mpegts"), part)
    numbers, header = read_numbers(path)
    assert numbers == [number % FRAMES for number in range(0, 2 * FRAMES, 3)]
    assert header.times == pytest.approx(np.arange(2 * FRAMES) / RATE, abs=2e-3)


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video", "libx265"])
def test_a_part_that_begins_between_key_frames_is_shown_from_its_first_key_frame(tmp_path, codec):
    options = {"libx264": X264, "mpeg2video": MPEG2}.get(codec, {"x265-params": "log-level=none:keyint=20:bframes=3"})
    complete = video(tmp_path / "whole.ts", codec=codec, options=options)
    data = complete.read_bytes()
    rest = data[len(data) // 188 // 3 * 188 :]
    alone, header = read_numbers(concatenate(tmp_path / "rest.ts", rest))
    both, _ = read_numbers(concatenate(tmp_path / "both.ts", complete, rest))
    first = alone[0]
    assert first > 0
    assert alone == list(range(first, FRAMES, 3)), "no frame that refers to missing frames"
    assert header.times[0] == 0
    assert both == [*range(0, FRAMES, 3), *range(first, FRAMES, 3)]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.flv"])
@pytest.mark.parametrize("open_groups", [False, True])
def test_frames_before_the_first_key_frame_are_not_shown(tmp_path, name, open_groups):
    options = X264 | ({"x264-params": "open-gop=1"} if open_groups else {})
    complete = video(tmp_path / name, options=options)
    path = remux(complete, tmp_path / f"cut-{name}", lambda packet, number: number >= 7)
    numbers, header = read_numbers(path)
    assert numbers == list(range(20, FRAMES, 3))
    assert header.times == pytest.approx(np.arange(FRAMES - 20) / RATE, abs=2e-3)
    frames = read_frames(path, header, [0, 31, 54], (56, 56), "pyav")
    assert second_reading(path, header, [0, 31, 54], frames) == []


def test_time_stamps_continue_after_an_overflow(tmp_path, ts):
    path = remux(ts, tmp_path / "over.ts", delay_by(2**33 - TS_SECOND), "mpegts", {"avoid_negative_ts": "disabled"})
    numbers, header = read_numbers(path)
    assert numbers == list(range(0, FRAMES, 3))
    assert header.times == pytest.approx(np.arange(FRAMES) / RATE, abs=2e-3)


def test_concatenated_fragments_are_shown_in_order(tmp_path, mp4):
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    part = remux(mp4, tmp_path / "part.mp4", options=options)
    assert read_numbers(part)[0] == list(range(0, FRAMES, 3))
    with av.open(str(concatenate(tmp_path / "a.mp4", part, part))) as container:
        played = [number_in(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    assert read_numbers(tmp_path / "a.mp4")[0] == played[::3]


# Times in old and unusual containers


def test_packed_bitstreams_of_old_divx_files_are_shown_in_order(tmp_path):
    plain = video(tmp_path / "plain.avi", codec="mpeg4", options={"bf": "2", "b": "3000000", "g": "15"})
    packed = packed_bitstream(plain, tmp_path / "packed.avi")
    for path in (plain, packed):
        numbers, header = read_numbers(path)
        assert numbers == list(range(0, FRAMES, 3))
        assert header.times == pytest.approx(np.arange(FRAMES) / RATE)


def test_frames_that_an_avi_drops_keep_their_duration(tmp_path):
    def drop(packet, number):
        packet.pts = packet.dts = number + (25 if number >= 30 else 0)

    plain = video(tmp_path / "plain.avi", codec="mpeg4", options={"b": "3000000"})
    header = read_header(remux(plain, tmp_path / "drops.avi", drop))
    assert header.times[29:31] == pytest.approx([29 / RATE, 55 / RATE])


def test_packets_without_a_visible_picture_are_not_shown(tmp_path):
    """A VP8 packet may hold a picture that serves only as a reference."""
    plain = video(tmp_path / "plain.webm", codec="libvpx", options=VP8, frames=48)
    with av.open(str(plain)) as container, av.open(str(tmp_path / "hidden.webm"), "w") as copy:
        read = container.streams.video[0]
        written = copy.add_stream_from_template(read)
        for packet in container.demux(read):
            if packet.dts is None:
                continue
            if packet.is_keyframe and packet.pts:
                data = bytearray(bytes(packet))
                data[0] &= ~0x10  # the bit `show_frame`
                hidden = av.Packet(bytes(data))
                hidden.pts = hidden.dts = packet.pts - 20
                hidden.time_base, hidden.is_keyframe, hidden.stream = packet.time_base, True, written
                copy.mux(hidden)
            packet.stream = written
            copy.mux(packet)
    task, source, puzzle = planned(tmp_path / "hidden.webm", fps=25, max_frames=30)
    assert puzzle.geometry["timeline"] == "decoded", "not every packet has a visible frame"
    clips = [task.render(puzzle, source).videos[index - 1] for index in puzzle.answer]
    numbers = [number_in(frame) for clip in clips for frame in clip.frames]
    assert numbers == [round(time * RATE) for clip in clips for time in clip.times]
    assert not task.verify(puzzle, source)


def test_a_frozen_frame_is_shown_for_its_whole_duration(tmp_path):
    path = write_video(tmp_path / "freeze.mkv", frames=60, gaps=[40] * 29 + [2000] + [40] * 30, size=SIZE, options=X264)
    task, source, puzzle = planned(path, min_frames=1, max_frames=1)
    clips = [task.render(puzzle, source).videos[index - 1] for index in puzzle.answer]
    assert [number_in(clip.frames[0]) for clip in clips] == [18, 29, 41]
    assert [clip.times[0] for clip in clips] == pytest.approx([18 * 0.04, 29 * 0.04, 41 * 0.04 + 1.96], abs=2e-3)


def test_a_video_without_a_duration_is_read(tmp_path, mp4):
    class Pipe:
        data = b""

        def write(self, data):
            self.data += bytes(data)
            return len(data)

    pipe = Pipe()
    with av.open(str(mp4)) as container, av.open(pipe, "w", format="matroska") as copy:
        written = copy.add_stream_from_template(container.streams.video[0])
        for packet in container.demux(container.streams.video[0]):
            if packet.dts is not None:
                packet.stream = written
                copy.mux(packet)
    path = concatenate(tmp_path / "pipe.mkv", pipe.data)
    assert read_numbers(path)[0] == list(range(0, FRAMES, 3))


@pytest.mark.parametrize("frames", [1, 7, 19, 20, 33])
def test_a_cut_by_edit_list_begins_at_the_cut(tmp_path, mp4, frames):
    numbers, header = read_numbers(hide_start(mp4, tmp_path / "cut.mp4", frames=frames))
    assert numbers == list(range(frames, FRAMES, 3))
    assert header.times[:2] == pytest.approx([0, 1 / RATE])


def test_an_empty_edit_does_not_change_the_relative_times(tmp_path, mp4):
    numbers, header = read_numbers(remux(mp4, tmp_path / "late.mp4", delay_by(2 * MP4_SECOND)))
    assert numbers == list(range(0, FRAMES, 3))
    assert header.times[:2] == pytest.approx([0, 1 / RATE])


# Display of frames

ORIENTATIONS = [
    m for m in product((-1, 0, 1), repeat=4) if m[0] * m[3] - m[1] * m[2] in (1, -1) and sum(map(abs, m)) == 2
]
"""All rotations by multiples of 90 degrees and their mirrors, as `a b c d` of a display matrix."""


@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_frames_are_rotated_and_mirrored_by_the_display_matrix(matrix):
    a, b, c, d = matrix
    width, height = 3, 2
    stored = np.arange(width * height, dtype=np.uint8).reshape(height, width, 1)
    places = {(a * x + c * y, b * x + d * y): stored[y, x, 0] for y in range(height) for x in range(width)}
    across, down = ([*sorted({place[axis] for place in places})] for axis in (0, 1))
    expected = [[places[x, y] for x in across] for y in down]
    orientation = Orientation(a == 0, (a or c) < 0, (b or d) < 0)
    assert orientation.apply(stored)[..., 0].tolist() == expected
    a, b, c, d = (65536 * number for number in matrix)
    assert orientation_of(struct.pack("=9i", a, b, 0, c, d, 0, 5, 7, 1 << 30)) == orientation


@pytest.mark.parametrize("matrix", [(-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)])
def test_mirrored_and_transposed_videos_are_shown_as_in_players(tmp_path, matrix):
    path = orient(video(tmp_path / "a.mp4", size=(120, 96)), matrix)
    header = read_header(path)
    turned = matrix[0] == 0
    assert header.size == ((96, 120) if turned else (120, 96))
    frame = read_frames(path, header, [41], header.size, choose_decoder("auto", header))[0].astype(int)
    stored = frame.swapaxes(0, 1) if turned else frame
    stored = stored[:, ::-1] if min(matrix[0], matrix[1]) < 0 else stored
    stored = stored[::-1] if min(matrix[3], matrix[2]) < 0 else stored
    assert np.abs(stored - numbered_frame(41, (120, 96))).mean() < 12
    with pytest.raises(VideoError, match="mirrored"):
        choose_decoder("decord", header)


def test_videos_rotated_by_another_angle_are_rejected(tmp_path, mp4):
    path = concatenate(tmp_path / "tilted.mp4", mp4)
    _, _, reject = planned(orient(path, (0.866, 0.5, -0.5, 0.866)))
    assert reject.reason == "tilted"
    assert "by -30 degrees" in reject.detail


@pytest.mark.parametrize(
    ("aspect", "size"), [((4, 3), (160, 72)), ((1, 2), (120, 144)), ((32, 27), (142, 72)), ((1, 1), (120, 72))]
)
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_frames_with_non_square_pixels_are_stretched(tmp_path, aspect, size, name):
    def squeeze(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(*aspect)

    path = video(tmp_path / name, frames=30, setup=squeeze)
    header = read_header(path)
    assert header.size == pytest.approx(size, abs=1)
    frames = read_frames(path, header, [7, 21], header.size, choose_decoder("auto", header))
    assert [number_in(frame) for frame in frames] == [7, 21]


def test_pixels_of_a_rotated_video_are_stretched_before_the_rotation():
    assert displayed_size((720, 480), Fraction(8, 9), Orientation()) == (720, 540)
    assert displayed_size((720, 480), Fraction(32, 27), Orientation(transpose=True)) == (480, 853)
    assert displayed_size((853, 480), Fraction(5120, 5117), Orientation()) == (853, 480), "square except for rounding"
    with pytest.raises(ValueError, match="100:1"):
        displayed_size((720, 480), Fraction(100), Orientation())


def test_a_change_of_size_is_scaled_and_a_change_of_aspect_ratio_is_rejected(tmp_path, ts):
    def squeeze(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)

    def followed_by(**options):
        other = video(tmp_path / "other.ts", **options)
        return concatenate(
            tmp_path / "both.ts",
            ts,
            remux(other, tmp_path / "later.ts", delay_by(FRAMES * TS_SECOND // RATE), "mpegts"),
        )

    assert read_numbers(followed_by(size=(60, 36)))[0] == [number % FRAMES for number in range(0, 2 * FRAMES, 3)]
    for change in ({"size": (120, 120)}, {"setup": squeeze}):
        _, _, reject = planned(followed_by(**change))
        assert reject.reason == "changes_shape"
        assert reject.detail.startswith("frames of 120x72, later of 1")


def test_interlaced_video_is_recorded(tmp_path):
    options = {"form": "vob", "codec": "mpeg2video", "size": (128, 96)}
    _, _, interlaced = planned(video(tmp_path / "a.vob", options=MPEG2 | {"flags": "+ildct+ilme"}, **options))
    _, _, progressive = planned(video(tmp_path / "b.vob", options=MPEG2, **options))
    assert interlaced.geometry["interlaced"]
    assert "interlaced" not in progressive.geometry


# Choice of the video stream


def still(path):
    with io.BytesIO() as data:
        Image.new("RGB", (640, 480), (9, 120, 200)).save(data, "JPEG")
        path.write_bytes(data.getvalue())
    return path


def test_still_pictures_and_short_streams_are_not_chosen(tmp_path, mp4):
    short = video(tmp_path / "short.mp4", frames=20, picture=lambda number, size: numbered_frame(500 + number, size))
    picture = still(tmp_path / "still.jpg")
    for parts, default in (((picture, mp4), 0), ((mp4, picture), 1), ((short, mp4), 0), ((short, picture, mp4), None)):
        path = several_streams(tmp_path / "several.mkv", parts, default)
        assert read_numbers(path)[0] == list(range(0, FRAMES, 3))


def test_the_default_stream_is_chosen_among_streams_of_equal_length(tmp_path, mp4):
    other = video(tmp_path / "other.mp4", picture=lambda number, size: numbered_frame(500 + number, size))
    for default in (0, 1):
        path = several_streams(tmp_path / "two.mkv", (mp4, other), default)
        assert read_numbers(path)[0][0] == 500 * default


def test_a_file_with_only_a_cover_picture_is_rejected(tmp_path):
    path = several_streams(tmp_path / "cover.mkv", [still(tmp_path / "still.jpg")])
    _, _, reject = planned(path)
    assert reject.reason in ("too_short", "no_video", "too_few_frames")


# Second decoding by `jigsaw check`


def test_the_second_decoding_detects_frames_of_other_times(tmp_path, mp4, ts):
    avi = video(tmp_path / "a.avi", options=X264)
    turned = orient(concatenate(tmp_path / "turned.mp4", mp4), (0, 1, 1, 0))
    for path in (mp4, ts, avi, turned):
        header = read_header(path)
        indices = [5, 30, 31, 60]
        frames = read_frames(path, header, indices, (56, 56), choose_decoder("auto", header))
        assert second_reading(path, header, indices, frames) == []
        late = read_frames(path, header, [6, 30, 31, 60], (56, 56), choose_decoder("auto", header))
        (fault,) = second_reading(path, header, indices, late)
        assert fault.startswith("the frame at 0.200 s differs from that of a sequential decode")


def test_the_second_decoding_of_a_long_video_begins_before_each_frame(tmp_path, mp4, ts, monkeypatch):
    monkeypatch.setattr("jigsaw.tasks.media.video_check._DECODED_FULLY", 10)
    monkeypatch.setattr("jigsaw.tasks.media.video_check._BEFORE", 1.0)
    for path in (mp4, ts):
        header = read_header(path)
        frames = read_frames(path, header, [5, 70], (56, 56), "pyav")
        assert second_reading(path, header, [5, 70], frames) == []
        assert len(second_reading(path, header, [5, 70], frames[::-1])) == 2


def test_puzzles_of_ordinary_videos_have_no_timeline_or_interlaced_field(mp4):
    _, _, puzzle = planned(mp4)
    assert isinstance(puzzle, Puzzle)
    assert not {"timeline", "interlaced"} & puzzle.geometry.keys()
