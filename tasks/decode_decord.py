"""Frames with decord: quick at picking frames out of a video, and it scales while decoding.

In and out: see `jigsaw.tasks.videos.read_frames`. decord 0.6 is unmaintained and has no wheel for every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jigsaw.tasks.videos import Frames, VideoError, VideoHeader, stream_of


def frames(file: Path | bytes, header: VideoHeader, indices: Sequence[int], size: tuple[int, int]) -> Frames:
    """The frames of increasing numbers `indices`, at width and height `size`, shape `(T, height, width, 3)`."""
    import decord

    decord.logging.set_level(decord.logging.FATAL)
    reader = decord.VideoReader(stream_of(file), num_threads=1, width=size[0], height=size[1])
    if len(reader) != header.num_frames:
        raise VideoError("unreadable", f"decord counts {len(reader)} frames, the packets {header.num_frames}")
    batch: Frames = np.asarray(reader.get_batch(list(indices)).asnumpy())
    return batch
