"""Base class of the tasks on a segment of a video: chooses it, decodes it and shows its frames in another order.

Input: one video. Output: a puzzle about `window` seconds of it, rendered as one or several clips whose frames were
rearranged. A subclass decides the order of the frames and the question (`ask`). `Segment` has everything that rendering
needs; the frames of a clip are given as positions in its `frames`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from random import Random
from typing import Annotated, Any, ClassVar, NotRequired, TypedDict, cast

import numpy as np
from PIL import Image
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from jigsaw.tasks.contract import DRAWS, Clip, Extent, Media, Puzzle, Question, Reject, Source
from jigsaw.tasks.decoding import DecodingTask
from jigsaw.tasks.keys import AnswerStyleKey, DecoderKey, FrameMultipleKey, FramePixelsKey
from jigsaw.tasks.media.clips import frame_numbers
from jigsaw.tasks.media.composite import sheet
from jigsaw.tasks.media.likeness import peak_differences, reduced
from jigsaw.tasks.media.video_display import Frames
from jigsaw.tasks.media.videos import VIDEO_REASONS, VideoHeader

TOLERANCE = 8.0
"""Frames look the same if the mean of their largest 2% of differences, 0 to 255 at 16x16 pixels, is below this."""


class Segment(TypedDict):
    """The frames of a video that are shown, and their order.

    Attributes:
        decoder: the decoder of the frames.
        source_size: width and height of the video, upright, in pixels.
        size: width and height of the shown frames.
        begin: start of the segment in seconds.
        fps: frames per second of a clip as it is shown.
        frames: numbers of the frames in the video.
        clips: per clip, the positions in `frames` of its frames.
        timeline: `decoded` if the times of the frames were computed by decoding the whole video.
    """

    decoder: str
    source_size: list[int]
    size: list[int]
    begin: float
    fps: float
    frames: list[int]
    clips: list[list[int]]
    timeline: NotRequired[str]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class SegmentConfig:
    """The segment of a video that is shown, and how."""

    window: Annotated[float, Field(gt=0, le=600, description="seconds of the video that a puzzle shows")] = 8.0
    fps: Annotated[float, Field(gt=0, le=60, description="frames per second")] = 2.0
    max_pixels: FramePixelsKey = 100352
    min_side: Annotated[int, Field(ge=1, description="reject videos that are smaller, in pixels a side")] = 28
    multiple: FrameMultipleKey = 28
    decoder: DecoderKey = "auto"
    answer_style: AnswerStyleKey = "think"

    @property
    def num_frames(self) -> int:
        """Number of frames of the segment."""
        return max(1, round(self.window * self.fps))


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class ClipsConfig(SegmentConfig):
    """How many clips of equal length the segment is cut into."""

    clips: Annotated[int, Field(ge=3, le=8, description="how many clips there are to choose from")] = 4
    window: Annotated[float, Field(gt=0, le=600, description="seconds of all clips; each is of one part of them")] = (
        16.0
    )

    @property
    def per_clip(self) -> int:
        """Frames of a clip."""
        return int(self.num_frames // self.clips)

    def cut(self) -> list[list[int]]:
        """The positions of the frames of each clip, in the order of the video."""
        each = self.per_clip
        return [list(range(clip * each, (clip + 1) * each)) for clip in range(self.clips)]


class SegmentTask(DecodingTask):
    """A question about one segment of a video."""

    SMALL: ClassVar[Mapping[str, Any]] = {"window": 2, "fps": 4, "max_pixels": 2048}
    Config: ClassVar[type] = SegmentConfig
    REASONS: ClassVar[Mapping[str, str]] = VIDEO_REASONS | {
        "too_short": "the video is shorter than a puzzle of `window` seconds needs",
        "too_small": "the frames have fewer than `min_side` pixels a side, in the video or as they are shown",
        "too_long": "frames of this shape cannot be shown within `max_pixels`",
        "too_few_frames": "the video has too few different frames for `fps` and `window`",
        "static": "what has to be distinguished looks the same: nothing moves, or moves back and forth",
    }

    config: SegmentConfig

    @abstractmethod
    def ask(self, small: Frames, rng: Random) -> tuple[list[list[int]], Question] | None:
        """The positions of the frames of each clip, and the question; None if the answers cannot be distinguished.

        Args:
            small: the frames of the segment, reduced to shape `(frames, 16, 16, 3)`.
            rng: the generator of the puzzle.
        """

    @property
    def seconds(self) -> float:
        """Least length of a video in seconds."""
        return self.config.window

    def moments(self, duration: float, rng: Random) -> list[tuple[float, float, int]]:
        """Start, end and number of frames of the spans that are decoded, from a video of at least `seconds`."""
        begin = rng.uniform(0, duration - self.config.window)
        return [(begin, begin + self.config.window, self.config.num_frames)]

    def _plan(self, source: Source, rng: Random, *, played: bool) -> Puzzle | Reject:
        header = self._header(source, played)
        if header.duration < self.seconds:
            needed = f"window={self.config.window:g} needs at least {self.seconds:g} s"
            return Reject("too_short", f"the video has {header.duration:.1f} s; {needed}")
        segment = self._cut(header, self.moments(header.duration, rng), played)
        if isinstance(segment, Reject):
            return segment
        asked = self.ask(self._small(source, segment), rng)
        if asked is None:
            detail = f"the possible answers look the same in {DRAWS} sampled parts of the video"
            return Reject("static", detail, final=False)
        segment["clips"], question = asked
        return question.puzzle(self, segment)

    def _cut(self, header: VideoHeader, spans: Sequence[tuple[float, float, int]], played: bool) -> Segment | Reject:
        """The frames of some spans of a video, given by start, end and number of frames."""
        config = self.config
        frames = [number for start, end, count in spans for number in frame_numbers(header.times, (start, end), count)]
        if len(set(frames)) < len(frames):
            return Reject(
                "too_few_frames",
                f"the clips have {len(set(frames))} different frames; fps={config.fps:g} needs {len(frames)}",
            )
        shown = self._shown(header, "min_side")
        if isinstance(shown, Reject):
            return shown
        segment = shown | {"begin": round(spans[0][0], 6), "fps": config.fps, "frames": frames, "clips": []}
        return cast(Segment, segment | {"timeline": "decoded"} if played else segment)

    def _small(self, source: Source, segment: Segment, role: str = "video") -> Frames:
        """The frames at 16 pixels a side; sets the segment's decoder to the one that could read them."""
        frames = self._with_fallback(segment, lambda: self._decoded(source, segment, role))
        return reduced(map(Image.fromarray, frames))

    def render(self, puzzle: Puzzle, source: Source) -> Media:
        """The clips, each with times from the start of the segment."""
        segment = cast(Segment, puzzle.geometry)
        frames = self._decoded(source, segment)
        return Media(videos=[clip_of(frames[clip], segment["begin"], segment["fps"]) for clip in segment["clips"]])

    def extent(self) -> Extent:
        """The clips of a 720p video, or its one clip."""
        config = self.config
        count, frames = (config.clips, config.per_clip) if isinstance(config, ClipsConfig) else (1, config.num_frames)
        return Extent(count, clips=((*self._typical_size(), frames),) * count)

    def explain(self, puzzle: Puzzle, source: Source) -> list[tuple[str, Image.Image]]:
        """The frames in the order of the video."""
        segment = cast(Segment, puzzle.geometry)
        order = sorted(range(len(segment["frames"])), key=lambda at: segment["frames"][at])
        return [("Frames in the order of the video", self.strip(self._decoded(source, segment)[order]))]

    def strip(self, frames: Frames) -> Image.Image:
        """A numbered row of at most 12 of the frames."""
        chosen = [Image.fromarray(frame) for frame in frames[:: max(1, -(-len(frames) // 12))]]
        return sheet(chosen, rows=1, columns=len(chosen))

    def _decoded(self, source: Source, segment: Segment, role: str = "video") -> Frames:
        """The frames of a segment."""
        return self._read(source, segment, segment["frames"], segment["size"], role)


def clip_of(frames: Frames, begin: float, fps: float) -> Clip:
    """Frames as a clip whose times increase in steps of `1 / fps` from `begin`."""
    return Clip(frames, begin + np.arange(len(frames)) / fps, fps)


def unlike(one: Frames, other: Frames) -> bool:
    """Whether two sequences of equally many small frames look different."""
    return bool(peak_differences(np.stack([one, other]))[0, 1] >= TOLERANCE)


def as_seconds(positions: Sequence[int], fps: float) -> list[float]:
    """Start and end in seconds of consecutive frames of a clip.

    >>> as_seconds([4, 5, 6], 2.0)
    [2.0, 3.5]
    """
    return [round(positions[0] / fps, 3), round((positions[-1] + 1) / fps, 3)]
