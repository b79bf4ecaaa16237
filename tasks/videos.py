"""Videos from files: the header with every frame's time, and chosen frames. The one place where a video is opened.

In: a path or the bytes of a video. Out: `VideoHeader`, or RGB frames by number, upright and at the size asked for. A
decoder is one function in a file of its own, `frames(file, header, indices, size)`, named in `DECODERS`; decord is used
where it is installed and can be trusted, PyAV elsewhere. Decoders are known to hang on damaged files: whoever opens
files of unknown origin does so in a process that may be killed.
"""

from __future__ import annotations

import importlib.util
import io
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

DECODERS = {"decord": "jigsaw.tasks.decode_decord:frames", "pyav": "jigsaw.tasks.decode_pyav:frames"}
"""Name -> where its `frames` is. Another decoder is a file and a line here."""

MAX_FRAME_PIXELS = 50_000_000
"""Videos of larger frames are refused before one is decoded; 8K has 33 million."""

REASONS = {
    "unreadable": "the file is missing, damaged, empty or no video",
    "too_large": f"frames of more than {MAX_FRAME_PIXELS // 1_000_000} megapixels",
    "no_video": "the file has sound only",
    "wrong_decoder": "the decoder that was asked for cannot show it upright; take `decoder=auto` or `pyav`",
}

_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegvideo,mpegts,flv,live_flv,asf,ogg"
"""What is opened, whatever the file is called, by FFmpeg's names."""

Frames = np.ndarray[Any, np.dtype[np.uint8]]
Decode = Callable[[Path | bytes, "VideoHeader", Sequence[int], tuple[int, int]], Frames]


class VideoError(ValueError):
    """A video cannot be used; `reason` is a key of `REASONS`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class VideoHeader:
    """What a video's packets say, nothing decoded but the first frame.

    Attributes:
        size: width and height in pixels, upright.
        times: float64, when each frame is shown, seconds from the first frame, increasing; shape `(num_frames,)`.
        stamps: the same in the stream's own units, to find frames by; None where the container has none.
        keyframes: stamps at which decoding can begin, increasing.
        turns: how many quarter turns counter-clockwise make a stored frame upright, 0 to 3.
    """

    size: tuple[int, int]
    times: np.ndarray[Any, np.dtype[np.float64]]
    stamps: np.ndarray[Any, np.dtype[np.int64]] | None
    keyframes: np.ndarray[Any, np.dtype[np.int64]]
    turns: int

    @property
    def num_frames(self) -> int:
        """How many frames there are."""
        return len(self.times)

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the end of the last, which is taken to last as long as the median one."""
        return float(self.times[-1] + np.median(np.diff(self.times))) if self.num_frames > 1 else 0.0


@contextmanager
def open_container(file: Path | bytes) -> Iterator[Any]:
    """A video opened by PyAV. Playlists, which name other files or addresses to read, count as no video."""
    import av

    av.logging.set_level(None)
    with av.open(stream_of(file), options={"format_whitelist": _CONTAINERS}) as container:
        yield container


def stream_of(file: Path | bytes) -> Any:
    """What decoders open: a path as text, or a stream of the bytes."""
    return io.BytesIO(file) if isinstance(file, bytes) else str(file)


def read_header(file: Path | bytes) -> VideoHeader:
    """Read the packets of a video and its first frame.

    Raises:
        VideoError: the file is no video, damaged, or too large.
    """
    try:
        with open_container(file) as container:
            if not container.streams.video:
                raise VideoError("no_video", "the file has no video stream")
            stream = container.streams.video[0]
            if stream.width * stream.height > MAX_FRAME_PIXELS:
                raise VideoError("too_large", f"frames of {stream.width}x{stream.height} pixels")
            first = next(container.decode(stream))
            container.seek(0, stream=stream)
            packets = [(p.pts, p.is_keyframe) for p in container.demux(stream) if p.size and not p.is_discard]
            turns = round(first.rotation / 90) % 4
            size = (first.height, first.width) if turns % 2 else (first.width, first.height)
            return _header(packets, size, turns, stream)
    except VideoError:
        raise
    except StopIteration as error:
        raise VideoError("unreadable", "no frame could be decoded") from error
    except Exception as error:
        # Damaged files raise whatever the demuxer meets; all of it means the same.
        raise VideoError("unreadable", f"{type(error).__name__}: {error}".splitlines()[0]) from error


def _header(packets: list[tuple[int | None, bool]], size: tuple[int, int], turns: int, stream: Any) -> VideoHeader:
    none: np.ndarray[Any, np.dtype[np.int64]] = np.empty(0, dtype=np.int64)
    if not packets:
        raise VideoError("unreadable", "the video has no frames")
    stamps = [pts for pts, _ in packets if pts is not None]
    if len(set(stamps)) < len(packets):
        # Old containers (AVI) number frames instead of timing them.
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        return VideoHeader(size, np.arange(len(packets), dtype=np.float64) / rate, None, none, turns)
    ordered = np.sort(np.asarray(stamps, dtype=np.int64))
    times = (ordered - ordered[0]) * float(stream.time_base)
    keys = np.sort(np.asarray([pts for pts, key in packets if key], dtype=np.int64))
    return VideoHeader(size, times.astype(np.float64), ordered, keys, turns)


def choose_decoder(wanted: str, header: VideoHeader) -> str:
    """The decoder for a video: the one asked for, or with `auto` decord where it is installed and PyAV elsewhere.

    decord 0.6 turns frames by their metadata, but fails while scaling them to some sizes and blurs them at others;
    `auto` leaves videos with such metadata to PyAV.

    Raises:
        VideoError: decord was asked for and the video is turned.
    """
    if wanted == "decord" and header.turns:
        raise VideoError("wrong_decoder", f"decord fails on videos turned by {90 * header.turns} degrees")
    if wanted != "auto":
        return wanted
    return "decord" if header.turns == 0 and importlib.util.find_spec("decord") else "pyav"


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
        raise VideoError("unreadable", f"{decoder}: {type(error).__name__}: {error}".splitlines()[0]) from error
    expected = (len(wanted), size[1], size[0], 3)
    if decoded.shape != expected:
        raise VideoError("unreadable", f"{decoder} gave frames of shape {decoded.shape}, not {expected}")
    position = {index: row for row, index in enumerate(wanted)}
    return decoded[[position[index] for index in indices]]
