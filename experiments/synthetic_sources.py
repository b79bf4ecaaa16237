"""Generated pictures, videos and questions from which a tiny model learns within minutes.

In: a folder. Out: `pictures/` and `videos/` in it, the same on every machine.

- A picture is lit from above and becomes redder to the right. The strengths and the tint differ between pictures, and
  soft noise is added. A tile can be placed only by comparing it with the others; sometimes noise hides the order.
- A video becomes lighter from frame to frame, with noise in every frame.
- A question asks for the sum of two digits.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jigsaw.data import import_questions
from jigsaw.files import atomic_path

PICTURES, VIDEOS = 120, 120
SIDE, VIDEO_SIDE = 168, 56
FRAMES, FRAMES_PER_SECOND = 32, 8
NOISE = 45.0
"""Largest change of a pixel by noise, on the scale of 0 to 255."""

Pixels = np.ndarray[Any, np.dtype[np.float64]]


def make_sources(folder: Path) -> Path:
    """Write the sources unless `folder` exists. The folder appears only when it is complete.

    Returns:
        `folder`.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder) as partial:
        (partial / "pictures").mkdir(parents=True)
        (partial / "videos").mkdir()
        for number in range(PICTURES):
            pixels = picture(np.random.default_rng([0, number]))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(partial / "pictures" / f"{number:03}.png")
        for number in range(VIDEOS):
            _write_video(partial / "videos" / f"{number:03}.mp4", np.random.default_rng([1, number]))
    return folder


def make_questions(folder: Path) -> Path:
    """Write sums of two digits as questions, every fifth held out, unless `folder` exists.

    Returns:
        `folder`, with the sets `train` and `heldout`.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder) as partial:
        partial.mkdir(parents=True)
        sides: dict[str, list[str]] = {"train": [], "heldout": []}
        for number in range(100):
            one, other = divmod(number * 37 % 100, 10)
            row = {"question": f"What is {one} + {other}?", "answer": one + other}
            sides["train" if number % 5 else "heldout"].append(json.dumps(row) + "\n")
        for side, lines in sides.items():
            file = partial / f"{side}.jsonl"
            file.write_text("".join(lines), encoding="utf-8")
            import_questions(file, partial / side, answer_style="direct", progress=False)
    return folder


def picture(generator: np.random.Generator) -> Pixels:
    """A picture as float RGB, shape `(SIDE, SIDE, 3)`."""
    down, across = np.mgrid[0:SIDE, 0:SIDE] / SIDE - 0.5
    light = -generator.uniform(80, 150) * down
    red = generator.uniform(80, 150) * across
    tint = generator.uniform(95, 160, 3)
    smooth = tint + light[..., None] + red[..., None] * np.array([1.0, 0.0, -1.0])
    pixels: Pixels = smooth + soft_noise(generator, SIDE)
    return pixels


def soft_noise(generator: np.random.Generator, side: int) -> Pixels:
    """Noise in blobs with a diameter of about an eighth of the side, shape `(side, side, 3)`."""
    coarse = Image.fromarray(generator.uniform(0, 255, (9, 9, 3)).astype(np.uint8))
    smooth: Pixels = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float64)
    return (smooth / 127.5 - 1) * NOISE


def _write_video(path: Path, generator: np.random.Generator) -> None:
    import av

    tint, rise = generator.uniform(60, 110, 3), generator.uniform(60, 110)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FRAMES_PER_SECOND)
        stream.width = stream.height = VIDEO_SIDE
        stream.pix_fmt, stream.bit_rate = "yuv420p", 2_000_000
        for at in range(FRAMES):
            frame = tint + rise * at / FRAMES + soft_noise(generator, VIDEO_SIDE)
            shown = av.VideoFrame.from_ndarray(frame.clip(0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(shown))
        container.mux(stream.encode())
