"""Clips of a video: which spans of time are cut, which frames stand for them, how large they are. No pixels touched.

In: a video's frame times and size. Out: spans in seconds, frame numbers, a size in pixels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Times = np.ndarray[Any, np.dtype[np.float64]]
Span = tuple[float, float]


def equal_spans(duration: float, clips: int, trim: float) -> list[Span]:
    """Start and end in seconds of `clips` equal spans, a fraction `trim` of its length cut from both ends of each.

    >>> equal_spans(12.0, 2, 0.25)
    [(1.5, 4.5), (7.5, 10.5)]
    """
    length = duration / clips
    return [((clip + trim) * length, (clip + 1 - trim) * length) for clip in range(clips)]


def frames_per_clip(length: float, fps: float, fewest: int, most: int) -> int:
    """How many frames stand for a clip of that many seconds."""
    return min(max(round(length * fps), fewest), most)


def frame_numbers(times: Times, span: Span, count: int) -> list[int]:
    """The frames on show at `count` evenly spaced moments of a span.

    Args:
        times: seconds at which the frames of the video begin, increasing.
        span: start and end in seconds.

    >>> frame_numbers(np.arange(10) / 10, (0.2, 0.8), 3)
    [3, 5, 7]
    """
    start, end = span
    moments = start + (np.arange(count) + 0.5) / count * (end - start)
    # A hair's breadth forward: a moment that falls on a frame's start means that frame, whatever the rounding.
    return [int(number) for number in np.searchsorted(times, moments + 1e-6, side="right") - 1]


def shown_size(size: tuple[int, int], max_pixels: int, multiple: int) -> tuple[int, int]:
    """Width and height of the frames: never enlarged, at most `max_pixels`, sides multiples of `multiple`.

    >>> shown_size((1280, 720), 128 * 28 * 28, 28)
    (420, 224)
    """
    scale = min(1.0, math.sqrt(max_pixels / (size[0] * size[1])))
    near = [max(multiple, round(side * scale / multiple) * multiple) for side in size]
    if near[0] * near[1] > max_pixels:
        near = [max(multiple, int(side * scale / multiple) * multiple) for side in size]
    return near[0], near[1]
