"""Base class of the tasks on videos: caches headers and decoded frames, and replans videos with wrong packet times.

In: a video file of a source. Out: frames by number. A subclass plans from a header. If the decoder does not return the
frames that the packets announce, it plans again from the times of all decoded frames.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeVar

from jigsaw.tasks.contract import Puzzle, Reject, Source, Task
from jigsaw.tasks.media.caching import BoundedCache
from jigsaw.tasks.media.video_display import Frames
from jigsaw.tasks.media.video_streams import VideoError
from jigsaw.tasks.media.videos import VideoHeader, read_frames, read_header

CACHE_BYTES = 256 * 2**20
CACHED_HEADERS = 100

Made = TypeVar("Made")


class DecodingTask(Task):
    """A task that reads videos."""

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self._headers: BoundedCache[VideoHeader] = BoundedCache(CACHED_HEADERS, lambda _: 1)
        self._frames: BoundedCache[Frames] = BoundedCache(CACHE_BYTES, lambda frames: frames.nbytes)

    @abstractmethod
    def _plan(self, source: Source, rng: Random, *, played: bool) -> Puzzle | Reject:
        """Plan a puzzle from the times of the packets or, if `played`, from those of all decoded frames.

        Raises:
            VideoError: the video cannot be used.
        """

    def plan(self, source: Source, rng: Random) -> Puzzle | Reject:
        """Choose the shown frames and the answer; a video that is damaged, too short or static is rejected."""
        start = rng.getstate()
        try:
            try:
                return self._plan(source, rng, played=False)
            except VideoError as error:
                if error.reason != "unproved":
                    raise
                # The decoder omits a frame that the packets announce. Decoding all frames gives the true times.
                rng.setstate(start)
                return self._plan(source, rng, played=True)
        except VideoError as error:
            return Reject(error.reason, str(error))

    def _header(self, source: Source, played: bool, role: str = "video") -> VideoHeader:
        key = (source.fingerprint, role, played)
        return self._headers.get(key, lambda: read_header(source.files[role], played=played))

    def _read(
        self,
        source: Source,
        header: VideoHeader,
        numbers: Sequence[int],
        size: tuple[int, int],
        cut: Any,
        role: str = "video",
    ) -> Frames:
        """Frames by number, with the decoder and the timeline of a geometry."""
        key = (source.fingerprint, role, size, cut["decoder"], cut.get("timeline"), tuple(numbers))
        return self._frames.get(key, lambda: read_frames(source.files[role], header, numbers, size, cut["decoder"]))

    def _with_fallback(self, cut: Any, read: Callable[[], Made]) -> Made:
        """The result of `read`, with PyAV as fallback if the automatically chosen decoder fails.

        Args:
            cut: a geometry with a `decoder`, which is set to `pyav` on a failure.
            read: decodes with the geometry's decoder.
        """
        try:
            return read()
        except VideoError:
            if self.config.decoder != "auto" or cut["decoder"] == "pyav":
                raise
            cut["decoder"] = "pyav"  # decord fails on some streams that FFmpeg plays
            return read()
