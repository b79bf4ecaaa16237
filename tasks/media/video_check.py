"""An independent second reading of a video's frames for `jigsaw check`, by sequential decoding.

In: a file, its header, frame numbers and the frames that were read for them. Out: faults as sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jigsaw.tasks.media.video_display import Frames
from jigsaw.tasks.media.video_streams import display_of, is_joined, open_container
from jigsaw.tasks.media.videos import VideoHeader

Small = np.ndarray[Any, np.dtype[np.float64]]

_DECODED_FULLY = 1000
"""Videos with at most this many frames are decoded from the start, others from `_BEFORE` seconds before a frame."""
_BEFORE = 5.0
_SIDE = 32
"""Side in pixels at which frames are compared, so that scaling and rounding hardly matter."""
_NEARER = 1.0
"""A neighbouring frame counts as shown by mistake if it is closer than the right one by more than this (of 255)."""
_UNLIKE = 20.0
"""Frames that differ by more than this (of 255) are not the same."""


def second_reading(file: Path | bytes, header: VideoHeader, indices: Sequence[int], frames: Frames) -> list[str]:
    """The faults of frames that were read for these increasing numbers; empty if there are none.

    Concatenated files are not compared, because sequential decoding mixes the frames around a join.

    Args:
        file: path or bytes of the video.
        header: header of the video.
        indices: numbers of the frames.
        frames: shape `(len(indices), height, width, 3)`, uint8, upright.
    """
    near = {index: [n for n in (index - 1, index, index + 1) if 0 <= n < header.num_frames] for index in indices}
    size = (frames.shape[2], frames.shape[1])
    if header.num_frames <= _DECODED_FULLY or header.stamps is None:
        played = _played(file, header, sorted({n for numbers in near.values() for n in numbers}), size)
    else:
        played = {n: small for numbers in near.values() for n, small in _played(file, header, numbers, size).items()}
    faults = []
    for index, shown in zip(indices, frames, strict=True) if played else ():
        moment = f"the frame at {header.times[index]:.3f} s"
        if index not in played:
            faults.append(f"{moment} is missing in a sequential decode")
            continue
        distance = {n: float(np.abs(_small(shown) - played[n]).mean()) for n in near[index] if n in played}
        if distance[index] > min(_UNLIKE, min(distance.values()) + _NEARER):
            off = f"{distance[index]:.0f} of 255 off"
            faults.append(f"{moment} differs from that of a sequential decode ({off})")
    return faults


def _played(file: Path | bytes, header: VideoHeader, numbers: Sequence[int], size: tuple[int, int]) -> dict[int, Small]:
    """Reduced frames by number from a sequential decode, from the start or from well before the first of them."""
    begin = np.searchsorted(header.times, header.times[numbers[0]] - _BEFORE)
    if header.stamps is not None and header.num_frames > _DECODED_FULLY and begin:
        decoded = _decoded(file, header, numbers, size, int(header.stamps[begin]))
        if len(decoded) == len(numbers):
            return decoded
    return _decoded(file, header, numbers, size, None)


def _decoded(
    file: Path | bytes, header: VideoHeader, numbers: Sequence[int], size: tuple[int, int], start: int | None
) -> dict[int, Small]:
    """Reduced frames by number, decoded from a stamp or from the start."""
    import av

    frames: dict[int, Small] = {}
    by_stamp = None if header.stamps is None else {int(header.stamps[number]): number for number in numbers}
    with open_container(file) as container:
        stream = container.streams[header.stream]
        if by_stamp is None and is_joined(container):
            return {}
        if start is not None:
            container.seek(start, stream=stream)
        count, begun = 0, False
        for packet in container.demux(stream):
            begun = begun or packet.is_keyframe
            if not begun:
                continue  # it refers to frames that were not decoded
            try:
                decoded = packet.decode()
            except av.FFmpegError:
                continue  # the frame is then reported as missing
            for frame in decoded:
                number = count if by_stamp is None else by_stamp.get(frame.pts)
                count += 1
                if number is not None and number in numbers:
                    frames[number] = _small(display_of(frame, stream).upright(frame, size))
            if len(frames) == len(numbers):
                break
    return frames


def _small(frame: Frames) -> Small:
    return np.asarray(Image.fromarray(frame).resize((_SIDE, _SIDE), Image.Resampling.BOX), dtype=np.float64)
