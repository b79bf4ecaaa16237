"""Random access to frames: frames chosen by time equal those of a sequential decode, for all containers and codecs.

Every frame shows its own number. An independent sequential decode of the file gives the frames, their order and their
times, and the frames that are chosen from the file must be the same.
"""

from random import Random

import av
import numpy as np
import pytest
from PIL import Image
from synthetic_media import number_in, write_video

from jigsaw.tasks.media.video_streams import VideoError
from jigsaw.tasks.media.videos import choose_decoder, read_frames, read_header

FRAMES, RATE, SIZE = 90, 25, (120, 72)
X264 = {"crf": "14", "preset": "veryfast", "g": "20"}
B_FRAMES = X264 | {"bf": "2"}
X265 = {"crf": "14", "preset": "ultrafast", "x265-params": "log-level=none:keyint=20:bframes=4:b-pyramid=1"}
MPEG = {"g": "15", "b": "3000000", "bf": "2"}
VPX = {"b": "2000000", "g": "30", "auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "good", "cpu-used": "5"}

VIDEOS = {
    "plain.mp4": {"options": X264},
    "b-frames.mp4": {"options": B_FRAMES},
    "b-frames.mov": {"options": B_FRAMES},
    "open-gop.mp4": {"options": B_FRAMES | {"x264-params": "open-gop=1"}},
    "open-gop.ts": {"options": B_FRAMES | {"x264-params": "open-gop=1"}},
    "refresh.mp4": {"options": X264 | {"x264-params": "intra-refresh=1:keyint=20"}},
    "refresh.ts": {"options": X264 | {"x264-params": "intra-refresh=1:keyint=20"}},
    "pyramid.mp4": {"codec": "libx265", "options": X265},
    "pyramid.ts": {"codec": "libx265", "options": X265},
    "pyramid.mkv": {"codec": "libx265", "options": X265},
    "mpeg4.mp4": {"codec": "mpeg4", "options": MPEG},
    "b-frames.mkv": {"options": B_FRAMES},
    "b-frames.ts": {"options": B_FRAMES},
    "b-frames.m2ts": {"options": B_FRAMES, "form": "mpegts"},
    "b-frames.flv": {"options": B_FRAMES},
    "mpeg4.ts": {"codec": "mpeg4", "options": MPEG},
    "mpeg2.ts": {"codec": "mpeg2video", "options": MPEG},
    "mpeg2.vob": {"codec": "mpeg2video", "options": MPEG},
    "mpeg2.mpg": {"codec": "mpeg2video", "options": MPEG},
    "mpeg2.m2v": {"codec": "mpeg2video", "options": MPEG},
    "mpeg1.mpg": {"codec": "mpeg1video", "options": MPEG},
    "vp8.webm": {"codec": "libvpx", "options": VPX},
    "vp8.ogg": {"codec": "libvpx", "options": VPX},
    "vp9.webm": {"codec": "libvpx-vp9", "options": VPX},
    "vp9.mp4": {"codec": "libvpx-vp9", "options": VPX},
    "wmv2.asf": {"codec": "wmv2", "options": {"b": "3000000"}},
    "h264.avi": {"options": B_FRAMES},
    "divx.avi": {"codec": "mpeg4", "options": MPEG},
    "simple.avi": {"codec": "mpeg4", "options": {"b": "3000000"}},
    "jpegs.avi": {"codec": "mjpeg", "options": {}, "setup": lambda stream: setattr(stream, "pix_fmt", "yuvj420p")},
}


@pytest.fixture(scope="module", params=VIDEOS)
def path(request, tmp_path_factory):
    form = {"m2ts": "mpegts", "vob": "vob", "mpg": "mpeg", "m2v": "mpeg2video"}.get(request.param.rpartition(".")[2])
    options = {"frames": FRAMES, "rate": RATE, "size": SIZE, "form": form} | VIDEOS[request.param]
    return write_video(tmp_path_factory.mktemp("ways") / request.param, **options)


def decode_all(path):
    """All frames, decoded in sequence as in a player."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def shrunk(frame):
    """A frame shrunk so far that details of the scaling do not matter."""
    return np.asarray(Image.fromarray(frame).resize((28, 28), Image.Resampling.BOX), dtype=float)


def random_indices(count, seed):
    """Random frame numbers with neighbours, the first and the last, so that reading needs and skips seeks."""
    rng = Random(seed)
    return sorted({0, 1, count - 1, *(rng.randrange(count) for _ in range(9))})


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
def test_chosen_frames_equal_those_of_a_sequential_decode(path, decoder):
    right, header = decode_all(path), read_header(path)
    assert header.num_frames == len(right) == FRAMES
    assert header.times == pytest.approx(np.arange(FRAMES) / RATE, abs=2e-3)
    for seed in range(3):
        indices = random_indices(FRAMES, seed)
        frames = read_frames(path, header, indices, header.size, choose_decoder(decoder, header))
        assert [number_in(frame) for frame in frames] == [number_in(right[index]) for index in indices]
        small = read_frames(path, header, indices, (56, 56), choose_decoder(decoder, header))
        for frame, index in zip(small, indices, strict=True):
            assert np.abs(shrunk(frame) - shrunk(right[index])).mean() < 6, "the same pixels"


EXACT = {"plain.mp4", "b-frames.mp4", "b-frames.mov", "vp9.mp4"}


def test_decord_is_used_only_for_files_with_an_exact_index(path):
    header = read_header(path)
    assert (header.index_fault == "") == (path.name in EXACT)
    if path.name not in EXACT:
        with pytest.raises(VideoError, match="decord is not reliable for it: "):
            choose_decoder("decord", header)
