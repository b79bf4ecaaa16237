"""A video as NEO sees it: every frame as a label and an image; for NEO 1.0 behind a line about its time.

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
    """The parts that a video part becomes.

    Args:
        part: `video` (pictures, uint8 `[T, height, width, 3]`, or an object with such `frames` and `fps`), and `fps` or
            `timestamps` in seconds.
        labels: of frames.

    Raises:
        ValueError: no decoded frames, or no word about their time.
    """
    video = part.get("video")
    frames = getattr(video, "frames", video)
    fps = part.get("fps", getattr(video, "fps", None))
    if frames is None or isinstance(frames, str | bytes) or len(frames) == 0:
        raise ValueError("a video part needs decoded frames in 'video': pictures, or uint8 [T, height, width, 3]")
    times = part.get("timestamps")
    if times is None and fps is None:
        raise ValueError("a video part needs 'fps' or 'timestamps' (seconds): NEO reads when a frame was taken")
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
