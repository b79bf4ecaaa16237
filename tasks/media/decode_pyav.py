"""Frames with PyAV, which reads every FFmpeg format, handles rotation and runs on every machine.

Input and output: see `jigsaw.tasks.media.videos.read_frames`. The reader seeks to the nearest key frame where that
saves work, and accepts a frame only if its time stamp is exactly the requested one. If a seek lands too late, it goes
back to earlier key frames and finally to the start of the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from jigsaw.tasks.media.video_display import Frames, same_shape
from jigsaw.tasks.media.video_streams import VideoError, display_of, open_container, play
from jigsaw.tasks.media.videos import VideoHeader


def frames(file: Path | bytes, header: VideoHeader, indices: Sequence[int], size: tuple[int, int]) -> Frames:
    """The frames of increasing numbers `indices`, at width and height `size`, shape `(T, height, width, 3)`."""
    decoded = _by_count(file, header, indices) if header.stamps is None else _by_stamp(file, header, indices)
    return np.stack([_pixels(frame, stream, header, size) for frame, stream in decoded])


def _pixels(frame: Any, stream: Any, header: VideoHeader, size: tuple[int, int]) -> Frames:
    display = display_of(frame, stream)
    if not same_shape(display.size, header.size):
        width, height = display.size
        detail = f"frames of {header.size[0]}x{header.size[1]}, later of {width}x{height} in square pixels"
        raise VideoError("changes_shape", detail)
    return display.upright(frame, size)


def _by_count(file: Path | bytes, header: VideoHeader, indices: Sequence[int]) -> Iterator[tuple[Any, Any]]:
    """The frames of these increasing numbers, counted from the first, for streams without usable stamps."""
    remaining = set(indices)
    with open_container(file) as container:
        for number, frame in enumerate(play(container, header.stream)):
            if number in remaining:
                remaining.remove(number)
                yield frame, container.streams[header.stream]
            if not remaining:
                return
    raise VideoError("unproved", f"the video ends before frame {min(remaining)}")


def _by_stamp(file: Path | bytes, header: VideoHeader, indices: Sequence[int]) -> Iterator[tuple[Any, Any]]:
    """The frames of these increasing numbers, found by their stamps."""
    stamps = np.asarray(header.stamps)[list(indices)]
    with ExitStack() as stack:
        container = stack.enter_context(open_container(file))
        run, seeking = _Run(container, header.stream, None), True
        for index, stamp in zip(indices, stamps.tolist(), strict=True):
            before = header.keyframes[: np.searchsorted(header.keyframes, stamp, side="right")]
            if seeking and len(before) > 1 and before[-1] > run.position:
                run = _Run(container, header.stream, int(before[-1]))
            frame, back = run.until(stamp), 1
            while frame is None and seeking and back < len(before):
                run, back = _Run(container, header.stream, int(before[-1 - back])), 2 * back
                frame = run.until(stamp)
            if frame is None and seeking:
                container, seeking = stack.enter_context(open_container(file)), False
                run = _Run(container, header.stream, None)
                frame = run.until(stamp)
            if frame is None:
                raise VideoError("unproved", f"no frame has the time stamp of {header.times[index]:.3f} s")
            yield frame, container.streams[header.stream]


class _Run:
    """Frames from a key frame on, up to stamps that are asked for in increasing order."""

    def __init__(self, container: Any, stream: int, start: int | None) -> None:
        self.position = -(2**63)
        self._frames = play(container, stream, start)

    def until(self, stamp: int) -> Any | None:
        """The frame with exactly that stamp; None if the run started after it or has no such frame."""
        for frame in self._frames:
            if frame.pts is None or frame.pts <= self.position:
                return None  # frames out of order: their stamps are guesses
            self.position = frame.pts
            if self.position >= stamp:
                return frame if self.position == stamp else None
        return None
