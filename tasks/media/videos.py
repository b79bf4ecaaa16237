"""Reads videos from files: the header with the time of every frame, and frames by number.

In: a path or the bytes of a video. Out: a `VideoHeader`, or upright RGB frames in square pixels at the requested size.
Frames are found by their time stamps, never by counting from a seek. A decoder is a function
`frames(file, header, indices, size)` in its own file, listed in `DECODERS`: decord for containers with an exact index,
and PyAV for others. Decoders can hang on damaged files, so untrusted files should be opened in a process that may be
killed.
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
    Timeline,
    Times,
    index_fault,
    stamps_fault,
    timeline_of_frames,
    timeline_of_packets,
)

DECODERS = {"decord": "jigsaw.tasks.media.decode_decord:frames", "pyav": "jigsaw.tasks.media.decode_pyav:frames"}
"""Name -> its function `frames`."""

VIDEO_REASONS = {
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
    """The header of a video, from its packets and first frame; all frames are decoded if the packets lack the times.

    Attributes:
        size: width and height of the first frame in square pixels, upright.
        times: float64 display time of each frame in seconds from the first, increasing; shape `(num_frames,)`.
        stamps: the same in units of the stream, by which frames are found; None if frames can only be counted.
        keyframes: stamps at which decoding can begin, increasing; empty if `stamps` is None.
        display: display properties of the first frame.
        stream: index of the video stream that is shown.
        index_fault: reason why frames must not be picked by number with seeks, as decord does; empty if they may.
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
        """Number of frames."""
        return len(self.times)

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the end of the last, which is assumed to last as long as the median frame."""
        return float(self.times[-1] + np.median(np.diff(self.times))) if self.num_frames > 1 else 0.0


def read_header(file: Path | bytes, *, played: bool = False) -> VideoHeader:
    """Read the packets and the first frame of a video, and decode all frames if the packets lack the times.

    Args:
        file: the video.
        played: decode all frames in any case.

    Raises:
        VideoError: the file is not a video, damaged, or too large.
    """
    try:
        track = read_track(file)
        if not track.packets or track.display is None:
            raise VideoError("unreadable", "no frame could be decoded")
        display, shown = track.display, {packet.pts for packet in track.packets if not packet.discard}
        if played or track.counted or stamps_fault(track.packets) or track.first not in shown:
            timeline, fault = _played(file, track), "its packets do not have the times of the frames"
        else:
            timeline = timeline_of_packets(track.packets, track.first or 0, track.unit, track.joined)
            fault = "" if display.orientation == UPRIGHT else f"its frames are {display.orientation} for display"
            fault = fault or track.fault or index_fault(track.packets, np.asarray(timeline.stamps))
        stamped = track.packets if timeline.stamps is not None else ()
        keys = np.sort(np.asarray([p.pts for p in stamped if p.key and p.pts is not None], dtype=np.int64))
        return VideoHeader(display.size, timeline.times, timeline.stamps, keys, display, track.index, fault)
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


def _played(file: Path | bytes, track: Track) -> Timeline:
    """The times of the frames from decoding all of them."""
    with open_container(file) as container:
        frames = [(frame.pts, frame.dts) for frame in play(container, track.index)]
    timeline = timeline_of_frames(frames, track.packets, track.unit, joined=track.joined, counted=track.counted)
    if timeline is None:
        raise VideoError("unproved", f"its {len(frames)} frames have no time stamps")
    return timeline


def choose_decoder(wanted: str, header: VideoHeader) -> str:
    """The decoder for a video: `wanted`, or for `auto` decord if it is exact and installed, else PyAV.

    decord 0.6 counts frames from where its seeks land, ignores mirrors, and fails to scale turned frames to some sizes.
    It is used only for videos without `VideoHeader.index_fault`.

    Raises:
        VideoError: decord was requested but is not reliable for the video.
    """
    if wanted == "decord" and header.index_fault:
        raise VideoError("wrong_decoder", f"decord is not reliable for it: {header.index_fault}")
    if wanted != "auto":
        return wanted
    return "decord" if not header.index_fault and importlib.util.find_spec("decord") else "pyav"


def read_frames(
    file: Path | bytes, header: VideoHeader, indices: Sequence[int], size: tuple[int, int], decoder: str
) -> Frames:
    """Frames by number, upright RGB, uint8, shape `(len(indices), height, width, 3)`.

    Args:
        file: path or bytes of the video.
        header: header of the video.
        indices: frame numbers in presentation order from 0, in any order, repeats allowed.
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
        raise VideoError("unreadable", f"{decoder} returned frames of shape {decoded.shape} instead of {expected}")
    position = {index: row for row, index in enumerate(wanted)}
    return decoded[[position[index] for index in indices]]
