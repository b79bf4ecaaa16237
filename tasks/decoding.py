"""What all tasks on videos share: headers, decoded frames, and planning a video whose packets promise too much.

In: a video file of a source. Out: frames by number, kept in bounded caches. A subclass plans with the header that it is
given; where the packets promise frames that do not come out, it is asked again with the times of all decoded frames.
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
        """A puzzle by the times of the packets or, if `played`, by those of all decoded frames.

        Raises:
            VideoError: the video cannot be used.
        """

    def plan(self, source: Source, rng: Random) -> Puzzle | Reject:
        """Choose what is shown and the answer; a video that is damaged, too short or static is rejected."""
        start = rng.getstate()
        try:
            try:
                return self._plan(source, rng, played=False)
            except VideoError as error:
                if error.reason != "unproved":
                    raise
                # The packets promise frames that do not come out. What is shown, and when, only decoding all tells.
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
        """Frames by number, with the decoder and the timeline that a geometry names."""
        key = (source.fingerprint, role, size, cut["decoder"], cut.get("timeline"), tuple(numbers))
        return self._frames.get(key, lambda: read_frames(source.files[role], header, numbers, size, cut["decoder"]))

    def _tried(self, cut: Any, read: Callable[[], Made]) -> Made:
        """What `read` gives, with PyAV in place of a decoder that was not asked for and fails.

        Args:
            cut: a geometry with a `decoder`, which is changed.
            read: decodes with it.
        """
        try:
            return read()
        except VideoError:
            if self.config.decoder != "auto" or cut["decoder"] == "pyav":
                raise
            cut["decoder"] = "pyav"  # decord gives up on streams that FFmpeg's own reader plays
            return read()
