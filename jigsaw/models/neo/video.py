"""Converts a video to NEO's form: a label and an image per frame and, for NEO 1.0, a first line about its time.

In: a message part with decoded frames. Out: text and image parts.

    {"type": "video", "video": frames, "fps": 2.0}   ->   "Video from 0.0s to 1.5s, 4 frames at 2.0 fps.\\n"
                                                          "0.0s: " <image> "0.5s: " <image> ...
    the same with labels="numbers", for NEO 1.5      ->   "Frame-1: " <image> "Frame-2: " <image> ...
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from PIL import Image

Labels = Literal["seconds", "numbers"]


def video_parts(part: Mapping[str, Any], labels: Labels = "seconds") -> list[dict[str, Any]]:
    """The text and image parts of a video part.

    Args:
        part: `video` (pictures, uint8 `[T, height, width, 3]`, or an object with such `frames` and `fps`), and `fps` or
            `timestamps` in seconds.
        labels: labels of the frames.

    Raises:
        ValueError: the part has no decoded frames, or neither frame rate nor time stamps.
    """
    video = part.get("video")
    frames = getattr(video, "frames", video)
    fps = part.get("fps", getattr(video, "fps", None))
    if frames is None or isinstance(frames, str | bytes) or len(frames) == 0:
        raise ValueError("a video part needs decoded frames in 'video': pictures, or uint8 [T, height, width, 3]")
    times = part.get("timestamps")
    if times is None and fps is None:
        raise ValueError("a video part needs 'fps' or 'timestamps' (seconds), since NEO reads the time of each frame")
    times = [number / fps for number in range(len(frames))] if times is None else [float(time) for time in times]
    if len(times) != len(frames):
        raise ValueError(f"a video part has {len(frames)} frames and {len(times)} timestamps")
    if fps is None:
        fps = (len(times) - 1) / (times[-1] - times[0]) if times[-1] > times[0] else 1.0
    head = f"Video from {times[0]:.1f}s to {times[-1]:.1f}s, {len(frames)} frames at {fps:.1f} fps.\n"
    parts: list[dict[str, Any]] = [{"type": "text", "text": head}]
    for number, (time, frame) in enumerate(zip(times, frames, strict=True), 1):
        picture = frame if isinstance(frame, Image.Image) else Image.fromarray(np.asarray(frame))
        label = f"{time:.1f}s: " if labels == "seconds" else f"Frame-{number}: "
        parts += [{"type": "text", "text": label}, {"type": "image", "image": picture}]
    return parts if labels == "seconds" else parts[1:]
