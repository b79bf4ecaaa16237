"""Videos from files: the header with every frame's time, and chosen frames.

In: a path or the bytes of a video. Out: `VideoHeader`, or RGB frames by number, upright, in the shape that is seen and
at the size asked for. A frame is found by its time stamp, never by counting from a seek. A decoder is one function in a
file of its own, `frames(file, header, indices, size)`, named in `DECODERS`: decord where the container has an exact
index, PyAV elsewhere. Decoders are known to hang on damaged files: whoever opens files of unknown origin does so in a
process that may be killed.
"""

from __future__ import annotations

import importlib.util
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jigsaw.tasks.media.formats import described, head_of, other_content
from jigsaw.tasks.media.video_display import UPRIGHT, Frames
from jigsaw.tasks.media.video_streams import (
    MAX_FRAME_PIXELS,
    Display,
    Track,
    VideoError,
    open_container,
    play,
    read_track,
)
from jigsaw.tasks.media.video_timeline import (
    Stamps,
    Times,
    index_fault,
    stamps_fault,
    timeline_of_frames,
    timeline_of_packets,
)

DECODERS = {"decord": "jigsaw.tasks.media.decode_decord:frames", "pyav": "jigsaw.tasks.media.decode_pyav:frames"}
"""Name -> where its `frames` is. Another decoder is a file and a line here."""

REASONS = {
    "unreadable": "the file cannot be read as a video: it is missing, damaged or empty",
    "too_large": f"the frames have more than {MAX_FRAME_PIXELS // 1_000_000} megapixels",
    "no_video": "the file has no video: only sound, or a cover picture",
    "wrong_decoder": "the chosen decoder may give wrong frames of the file; use `decoder=auto` or `pyav`",
    "unproved": "the decoded frames do not match the time stamps; convert the file to MP4",
    "tilted": "the header rotates the frames by an angle that is not a multiple of 90 degrees; convert the file",
    "changes_shape": "the shape of the frames changes within the video; cut the file there",
}

Decode = Callable[[Path | bytes, "VideoHeader", Sequence[int], tuple[int, int]], Frames]


@dataclass(frozen=True)
class VideoHeader:
    """What a video's packets say, nothing decoded but the first frame, unless the packets do not tell the times.

    Attributes:
        size: width and height of the first frame in square pixels, upright.
        times: float64, when each frame is shown, seconds from the first frame, increasing; shape `(num_frames,)`.
        stamps: the same in the stream's own units, to find frames by; None where frames can only be counted.
        keyframes: stamps at which decoding can begin, increasing; empty where `stamps` is None.
        display: how the first frame is displayed.
        stream: index of the video stream that is shown.
        index_fault: why frames must not be picked by their number with seeks, as decord does; empty if they may.
    """

    size: tuple[int, int]
    times: Times
    stamps: Stamps | None
    keyframes: Stamps
    display: Display
    stream: int
    index_fault: str

    @property
    def num_frames(self) -> int:
        """How many frames there are."""
        return len(self.times)

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the end of the last, which is taken to last as long as the median one."""
        return float(self.times[-1] + np.median(np.diff(self.times))) if self.num_frames > 1 else 0.0


def read_header(file: Path | bytes, *, played: bool = False) -> VideoHeader:
    """Read the packets of a video and its first frame; decode all of it where the packets do not tell the times.

    Args:
        played: decode all of it in any case.

    Raises:
        VideoError: the file is no video, damaged, or too large.
    """
    try:
        track = read_track(file)
        if not track.packets or track.display is None:
            raise VideoError("unreadable", "no frame could be decoded")
        fault = stamps_fault(track.packets)
        known = {packet.pts for packet in track.packets if not packet.discard}
        if played or track.counted or fault or track.first not in known:
            return _played_header(file, track, track.display)
        return _packet_header(track, track.display)
    except VideoError:
        raise
    except Exception as error:
        # The demuxer raises errors of many types for a damaged file.
        raise VideoError("unreadable", _damage(file, error)) from error


def _damage(file: Path | bytes, error: Exception) -> str:
    """What is wrong with a file that could not be read as a video."""
    try:
        other = other_content(head_of(file), "video", "video")
    except OSError as unreadable:
        return described(unreadable)
    return other or f"the file is damaged or incomplete ({described(error)})"


def _packet_header(track: Track, display: Display) -> VideoHeader:
    timeline = timeline_of_packets(track.packets, track.first or 0, track.unit, track.joined)
    if timeline.stamps is None:
        raise VideoError("unreadable", "the packets have no time stamps")
    fault = "" if display.orientation == UPRIGHT else f"its frames are {display.orientation} for display"
    fault = fault or track.fault or index_fault(track.packets, timeline.stamps)
    return VideoHeader(display.size, timeline.times, timeline.stamps, _keyframes(track), display, track.index, fault)


def _played_header(file: Path | bytes, track: Track, display: Display) -> VideoHeader:
    with open_container(file) as container:
        frames = [(frame.pts, frame.dts) for frame in play(container, track.index)]
    timeline = timeline_of_frames(frames, track.packets, track.unit, joined=track.joined, counted=track.counted)
    if timeline is None:
        raise VideoError("unproved", f"its {len(frames)} frames have no time stamps")
    keyframes = np.empty(0, dtype=np.int64) if timeline.stamps is None else _keyframes(track)
    fault = "its packets do not tell when frames are shown"
    return VideoHeader(display.size, timeline.times, timeline.stamps, keyframes, display, track.index, fault)


def _keyframes(track: Track) -> Stamps:
    return np.sort(np.asarray([p.pts for p in track.packets if p.key and p.pts is not None], dtype=np.int64))


def choose_decoder(wanted: str, header: VideoHeader) -> str:
    """The decoder for a video: the one asked for, or with `auto` decord where it is exact and installed, else PyAV.

    decord 0.6 counts frames from where its seeks land, ignores mirrors, and fails while scaling
    turned frames to some sizes. So it reads only what `VideoHeader.index_fault` has nothing against.

    Raises:
        VideoError: decord was asked for and cannot be trusted with the video.
    """
    if wanted == "decord" and header.index_fault:
        raise VideoError("wrong_decoder", f"decord cannot be trusted with it: {header.index_fault}")
    if wanted != "auto":
        return wanted
    return "decord" if not header.index_fault and importlib.util.find_spec("decord") else "pyav"


def read_frames(
    file: Path | bytes, header: VideoHeader, indices: Sequence[int], size: tuple[int, int], decoder: str
) -> Frames:
    """Frames by number, upright RGB, uint8, shape `(len(indices), height, width, 3)`.

    Args:
        indices: frame numbers in presentation order from 0; any order, repeats allowed.
        size: width and height in pixels of the frames.
        decoder: a key of `DECODERS`.

    Raises:
        VideoError: a frame cannot be decoded.
    """
    decode: Decode = pkgutil.resolve_name(DECODERS[decoder])
    wanted = sorted(set(indices))
    try:
        decoded = decode(file, header, wanted, size)
    except VideoError:
        raise
    except ImportError as error:
        raise VideoError("unreadable", f"decoder {decoder} is not installed; use decoder=pyav") from error
    except Exception as error:
        raise VideoError("unreadable", f"{decoder}: {described(error)}") from error
    expected = (len(wanted), size[1], size[0], 3)
    if decoded.shape != expected:
        raise VideoError("unreadable", f"{decoder} gave frames of shape {decoded.shape}, not {expected}")
    position = {index: row for row, index in enumerate(wanted)}
    return decoded[[position[index] for index in indices]]
