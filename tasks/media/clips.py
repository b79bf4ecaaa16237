"""Clips of a video: their spans of time, frame numbers and sizes. Pure functions without pixels.

In: a video's frame times and size. Out: spans in seconds, frame numbers, and a size in pixels or the reason for a
reject.
"""

from __future__ import annotations

import math

import numpy as np

from jigsaw.tasks.media.grids import MAX_ASPECT, too_long
from jigsaw.tasks.media.video_timeline import Times

Span = tuple[float, float]
Size = tuple[int, int]

MOST_SQUEEZE = 2
"""Frames whose aspect ratio would change by more than this factor are rejected."""


def equal_spans(duration: float, clips: int, trim: float) -> list[Span]:
    """Start and end in seconds of `clips` equal spans, each trimmed by the fraction `trim` at both ends.

    >>> equal_spans(12.0, 2, 0.25)
    [(1.5, 4.5), (7.5, 10.5)]
    """
    length = duration / clips
    return [((clip + trim) * length, (clip + 1 - trim) * length) for clip in range(clips)]


def frame_numbers(times: Times, span: Span, count: int) -> list[int]:
    """The frames that are displayed at `count` evenly spaced moments of a span.

    Args:
        times: seconds at which the frames of the video begin, increasing.
        span: start and end in seconds.

    >>> frame_numbers(np.arange(10) / 10, (0.2, 0.8), 3)
    [3, 5, 7]
    """
    start, end = span
    moments = start + (np.arange(count) + 0.5) / count * (end - start)
    # The small offset makes a moment at the start of a frame belong to that frame in spite of rounding.
    return [int(number) for number in np.searchsorted(times, moments + 1e-6, side="right") - 1]


def shown_size(size: Size, max_pixels: int, multiple: int) -> Size:
    """Width and height of the frames: not enlarged, at most `max_pixels`, sides multiples of `multiple`.

    Frames with a side below `multiple` are enlarged, and elongated ones may exceed the limit or lose their shape;
    `size_fault` detects those.

    >>> shown_size((1280, 720), 128 * 28 * 28, 28)
    (420, 224)
    """
    scale = min(1.0, math.sqrt(max_pixels / (size[0] * size[1])))
    near = [max(multiple, round(side * scale / multiple) * multiple) for side in size]
    if near[0] * near[1] > max_pixels:
        near = [max(multiple, int(side * scale / multiple) * multiple) for side in size]
    return near[0], near[1]


def size_fault(
    source: Size, shown: Size, *, grid: tuple[int, int], share: float, least: tuple[str, int], max_pixels: int
) -> tuple[str, str] | None:
    """The reason and detail why pieces of a video cannot be shown at a size; None if they can.

    Args:
        source: width and height of the frames.
        shown: the same as they are shown.
        grid: rows and columns into which every frame is cut; (1, 1) for whole frames.
        share: smallest part of a frame's sides that is shown.
        least: the setting for the smallest side of a piece in pixels, as it is cut and as it is shown, with its value.
        max_pixels: most pixels of a frame.

    >>> size_fault((1280, 720), (420, 224), grid=(1, 1), share=1, least=("min_tile", 28), max_pixels=100352)
    >>> size_fault((6000, 60), (4480, 28), grid=(1, 1), share=1, least=("min_tile", 28), max_pixels=100352)[0]
    'too_long'
    """
    rows, columns = grid
    cut = (int(source[0] * share) // columns, int(source[1] * share) // rows)
    piece = (shown[0] // columns, shown[1] // rows)
    gives = f"frames of {source[0]}x{source[1]} pixels give pieces of {cut[0]}x{cut[1]}, shown as {piece[0]}x{piece[1]}"
    if min(*cut, *piece) < least[1]:
        return "too_small", f"{gives}; {least[0]}={least[1]} needs at least {least[1]}"
    if too_long(piece):
        return "too_long", f"{gives}; the longer side may be at most {MAX_ASPECT} times the shorter"
    squeeze = source[0] * shown[1] / (source[1] * shown[0])
    if shown[0] * shown[1] > max_pixels or not 1 / MOST_SQUEEZE <= squeeze <= MOST_SQUEEZE:
        return "too_long", f"{gives}, which changes their shape or is more than max_pixels={max_pixels}"
    return None
