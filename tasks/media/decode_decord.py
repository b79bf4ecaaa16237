"""Frames with decord, which seeks quickly and scales while it decodes.

Input and output: see `jigsaw.tasks.media.videos.read_frames`. decord picks frames by number, so its numbering must
match the header's times. decord 0.6 is unmaintained and has no wheel for some machines.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jigsaw.tasks.media.video_display import Frames
from jigsaw.tasks.media.video_streams import VideoError, stream_of
from jigsaw.tasks.media.videos import VideoHeader


def frames(file: Path | bytes, header: VideoHeader, indices: Sequence[int], size: tuple[int, int]) -> Frames:
    """The frames of increasing numbers `indices`, at width and height `size`, shape `(T, height, width, 3)`."""
    import decord

    decord.logging.set_level(decord.logging.FATAL)
    reader = decord.VideoReader(stream_of(file), num_threads=1, width=size[0], height=size[1])
    if len(reader) != header.num_frames:
        raise VideoError("unproved", f"decord counts {len(reader)} frames, but there are {header.num_frames} packets")
    _compare(reader, header)
    return np.asarray(reader.get_batch(list(indices)).asnumpy())


def _compare(reader: object, header: VideoHeader) -> None:
    """Compare decord's frame times and key frames with the header's.

    Raises:
        VideoError: they differ.
    """
    starts = np.asarray(reader.get_frame_timestamp(range(header.num_frames)), dtype=np.float64)[:, 0]  # type: ignore[attr-defined]
    # decord keeps times as 32-bit floats.
    allowed = 1e-3 + 2 * np.spacing(np.float32(header.times[-1] + 1))
    if np.abs(starts - starts[0] - header.times).max() > allowed:
        raise VideoError("unproved", "decord returns other frame times than the packets")
    keys = np.searchsorted(header.stamps, header.keyframes)  # type: ignore[arg-type]
    if not np.array_equal(np.asarray(reader.get_key_indices()), keys):  # type: ignore[attr-defined]
        raise VideoError("unproved", "decord has other key frames than the packets")
