"""Small synthetic sources of each kind: photos, videos, RGB-D pairs and rooms. The same files every time.

Photos are interpolated noise, so that no tile is flat. The video is such a picture that moves, long enough for the
paper's six clips. Depth changes in steps across the picture, so that points differ by more than the paper's 0.2 m.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from jigsaw.tasks import SourceKind

PHOTO_SIZE = (480, 360)
NUM_PHOTOS = 4
VIDEO_SIZE = (160, 120)
SECONDS, RATE = 30, 4
STEPS = 8
"""Slabs of equal depth in an RGB-D pair, from 1 m on, half a metre apart."""


def write_sources(kind: SourceKind, folder: Path) -> None:
    """Fill a folder with sources of a kind.

    Args:
        kind: `image` or `pair` (PNG files), `video` (an MP4 file) or `video_pair` (two), `rgbd` (pairs in `color/` and
            `depth/`) or `posed` (rendered rooms).
        folder: target folder, created if needed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    {"image": _photos, "pair": _photos, "video": _video, "video_pair": _videos, "rgbd": _pairs, "posed": _rooms}[kind](
        folder
    )


def _picture(seed: int, size: tuple[int, int]) -> Image.Image:
    rng = Random(seed)
    coarse = Image.frombytes("RGB", (12, 9), rng.randbytes(12 * 9 * 3))
    return coarse.resize(size, Image.Resampling.BICUBIC)


def _photos(folder: Path) -> None:
    for number in range(NUM_PHOTOS):
        _picture(number, PHOTO_SIZE).save(folder / f"photo-{number}.png")


def _videos(folder: Path) -> None:
    _video(folder)
    _video(folder, 1)


def _rooms(folder: Path) -> None:
    from jigsaw.samples.rooms import export_rooms

    export_rooms(folder, {"train": 2, "heldout": 0}, frames=10)


def _video(folder: Path, seed: int = 0) -> None:
    import av

    frames = SECONDS * RATE
    width, height = VIDEO_SIZE
    wide = np.asarray(_picture(seed, (width + 4 * frames, height)))
    with av.open(str(folder / ("video.mp4" if not seed else f"video-{seed}.mp4")), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            view = np.ascontiguousarray(wide[:, 4 * number : 4 * number + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
        container.mux(stream.encode(None))


def _pairs(folder: Path) -> None:
    width, height = PHOTO_SIZE
    (folder / "color").mkdir()
    (folder / "depth").mkdir()
    slabs = 1000 + 500 * (np.arange(width) * STEPS // width)
    for number in range(2):
        _picture(number, PHOTO_SIZE).save(folder / "color" / f"{number}.png")
        millimetres = np.tile(np.roll(slabs, number * 60), (height, 1)).astype(np.uint16)
        Image.fromarray(millimetres).save(folder / "depth" / f"{number}.png")
