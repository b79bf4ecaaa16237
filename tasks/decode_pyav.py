"""Frames with PyAV: everything FFmpeg reads, with rotation, on every machine.

In and out: see `jigsaw.tasks.videos.read_frames`. It jumps to the nearest key frame where that skips work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jigsaw.tasks.videos import Frames, VideoError, VideoHeader, open_container


def frames(file: Path | bytes, header: VideoHeader, indices: Sequence[int], size: tuple[int, int]) -> Frames:
    """The frames of increasing numbers `indices`, at width and height `size`, shape `(T, height, width, 3)`."""
    with open_container(file) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1  # as many processes as cores decode already
        if header.stamps is None:
            wanted = _by_count(container.decode(stream), indices)
        else:
            wanted = _by_stamp(container, stream, header, [int(header.stamps[index]) for index in indices])
        stored = size[::-1] if header.turns % 2 else size
        return np.stack([_pixels(frame, stored, header.turns) for frame in wanted])


def _pixels(frame: Any, size: tuple[int, int], turns: int) -> Frames:
    scaled = frame.reformat(width=size[0], height=size[1], format="rgb24", interpolation="BICUBIC")
    return np.ascontiguousarray(np.rot90(scaled.to_ndarray(), turns))


def _by_count(decoded: Iterator[Any], indices: Sequence[int]) -> Iterator[Any]:
    wanted = set(indices)
    yield from (frame for number, frame in enumerate(decoded) if number in wanted)


def _by_stamp(container: Any, stream: Any, header: VideoHeader, stamps: Sequence[int]) -> Iterator[Any]:
    """The frames with these increasing stamps."""
    decoded, position = container.decode(stream), -1
    for stamp in stamps:
        at_or_before = header.keyframes[header.keyframes <= stamp]
        if len(at_or_before) and at_or_before[-1] > position:
            container.seek(int(at_or_before[-1]), stream=stream)
            decoded = container.decode(stream)
        for frame in decoded:
            position = frame.pts if frame.pts is not None else position
            if position == stamp:
                yield frame
                break
            if position > stamp:
                raise VideoError("unreadable", f"the frame at stamp {stamp} is missing")
        else:
            raise VideoError("unreadable", f"the video ends before stamp {stamp}")
