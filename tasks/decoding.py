"""Base class of the tasks on videos: caches headers and decoded frames, and replans videos with wrong packet times.

In: a video file of a source. Out: frames by number. A subclass plans from a header. If the decoder does not return the
frames that the packets announce, it plans again from the times of all decoded frames.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, ClassVar, TypeVar

from jigsaw.tasks.contract import Puzzle, Reject, Source, SourceKind, Task, first_usable
from jigsaw.tasks.media.caching import BoundedCache
from jigsaw.tasks.media.clips import shown_size, size_fault
from jigsaw.tasks.media.video_display import Frames
from jigsaw.tasks.media.video_streams import VideoError
from jigsaw.tasks.media.videos import VideoHeader, choose_decoder, read_frames, read_header

CACHE_BYTES = 256 * 2**20
CACHED_HEADERS = 100

Made = TypeVar("Made")


class DecodingTask(Task):
    """A task that reads videos."""

    source_kind: ClassVar[SourceKind] = "video"
    PIECE = "clip"

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self._headers: BoundedCache[VideoHeader] = BoundedCache(CACHED_HEADERS, lambda _: 1)
        self._frames: BoundedCache[Frames] = BoundedCache(CACHE_BYTES, lambda frames: frames.nbytes)

    @abstractmethod
    def _plan(self, source: Source, rng: Random, *, played: bool) -> Puzzle | Reject:
        """One draw of a puzzle, from the times of the packets or, if `played`, from those of all decoded frames.

        Raises:
            VideoError: the video cannot be used.
        """

    def plan(self, source: Source, rng: Random) -> Puzzle | Reject:
        """Choose the shown frames and the answer; a video that is damaged, too short or static is rejected."""
        start = rng.getstate()
        planned = first_usable(lambda: self._plan(source, rng, played=False))
        if isinstance(planned, Reject) and planned.reason == "unproved":
            # The decoder omits a frame that the packets announce. Decoding all frames gives the true times.
            rng.setstate(start)
            planned = first_usable(lambda: self._plan(source, rng, played=True))
        return planned

    def _header(self, source: Source, played: bool, role: str = "video") -> VideoHeader:
        key = (source.fingerprint, role, played)
        return self._headers.get(key, lambda: read_header(source.files[role], played=played))

    def _typical_size(self) -> tuple[int, int]:
        """Width and height with which frames of a 720p video are shown."""
        return shown_size((1280, 720), self.config.max_pixels, self.config.multiple)

    def _shown(
        self, header: VideoHeader, least: str, grid: tuple[int, int] = (1, 1), share: float = 1.0
    ) -> dict[str, Any] | Reject:
        """The decoder and the sizes of a geometry; see `size_fault`. `least` is the key of the smallest side."""
        config = self.config
        size = shown_size(header.size, config.max_pixels, config.multiple)
        limits = (least, getattr(config, least))
        fault = size_fault(header.size, size, grid=grid, share=share, least=limits, max_pixels=config.max_pixels)
        if fault is not None:
            return Reject(*fault)
        decoder = choose_decoder(config.decoder, header)
        return {"decoder": decoder, "source_size": list(header.size), "size": list(size)}

    def _header_of(self, source: Source, cut: Any, numbers: Sequence[int], role: str = "video") -> VideoHeader:
        """The header for a geometry.

        Raises:
            ValueError: the video has another size than that of the geometry, or lacks one of the frames.
        """
        header = self._header(source, cut.get("timeline") == "decoded", role)
        if list(header.size) != cut["source_size"]:
            raise ValueError(f"{source.path}: the video is {header.size}, the puzzle needs {cut['source_size']}")
        if max(numbers) >= header.num_frames:
            raise ValueError(f"{source.path}: {header.num_frames} frames, the puzzle needs number {max(numbers)}")
        return header

    def _read(
        self, source: Source, cut: Any, numbers: Sequence[int], size: Sequence[int], role: str = "video"
    ) -> Frames:
        """Frames by number at width and height `size`, with the decoder and the timeline of a geometry.

        Raises:
            ValueError: the video cannot be read, or is not that of the geometry.
        """
        header, size = self._header_of(source, cut, numbers, role), (size[0], size[1])
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
