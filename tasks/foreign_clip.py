"""Foreign clip: which of several clips is of another video.

In: two videos. Out: a choice between clips, all but one of which follow each other in the first video. All are shown
with one size: the middle of the frames, where the videos have different shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from jigsaw.tasks.contract import (
    DRAWS,
    Media,
    Message,
    PromptVariant,
    Puzzle,
    Question,
    Reject,
    Source,
    SourceKind,
)
from jigsaw.tasks.media.likeness import peak_differences
from jigsaw.tasks.media.video_display import Frames
from jigsaw.tasks.prompts import clips_message, numbered
from jigsaw.tasks.segments import TOLERANCE, ClipsConfig, Segment, SegmentTask, clip_of

ROLES = ("video", "other")


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class ForeignClipConfig(ClipsConfig):
    """Number of clips."""

    def __post_init__(self) -> None:
        if self.per_clip < 1:
            raise ValueError(
                f"window={self.window:g} at fps={self.fps:g} gives no frame for each of {self.clips} clips"
            )


class ForeignClipTask(SegmentTask):
    """Tell which of several clips is from another video."""

    name: ClassVar[str] = "foreign_clip"
    source_kind: ClassVar[SourceKind] = "video_pair"
    SMALL: ClassVar[Mapping[str, Any]] = {"window": 2, "fps": 4, "max_pixels": 2048}
    Config: ClassVar[type] = ForeignClipConfig
    REASONS: ClassVar[Mapping[str, str]] = {
        **SegmentTask.REASONS,
        "ambiguous": "the clip of the other video looks like one of the first, or both videos are copies of one",
    }
    SIZE = ("clips", ("3", "4", "5"))
    VARIANTS = (
        PromptVariant("{count} scenes.", "Scene {number}", "All but one belong to a single film. Which does not?"),
        PromptVariant(
            "Somebody mixed a stranger among {count} recordings of one event.", "({number})", "Which is the stranger?"
        ),
    )
    REMEDIES: ClassVar = {
        "look": "use videos with similar light and colour, such as shots of one scene",
        "form": "set a smaller max_pixels: it makes videos of different sharpness more similar",
    }

    config: ForeignClipConfig

    def ask(self, small: Frames, rng: Random) -> tuple[list[list[int]], Question]:
        """Draw the place of the clip from the other video, and the order of the other clips."""
        count, clips = self.config.clips, self.config.cut()
        odd = rng.randrange(count)
        order = rng.sample(range(count - 1), count - 1)
        order.insert(odd, count - 1)  # the last frames are those of the other video
        return [clips[clip] for clip in order], Question(answer=str(odd + 1), geometry={}, args=numbered(count))

    def _plan(self, source: Source, rng: Random, *, played: bool) -> Puzzle | Reject:
        if len(set(source.contents)) == 1:
            return Reject("ambiguous", "both videos are the same")
        config = self.config
        length = config.window / config.clips
        wanted = {"video": config.clips - 1, "other": 1}
        headers = {role: self._header(source, played, role) for role in ROLES}
        for role, clips in wanted.items():
            if headers[role].duration < clips * length:
                return Reject(
                    "too_short",
                    f"{role}: the video has {headers[role].duration:.1f} s; window={config.window:g} and "
                    f"clips={config.clips} need at least {clips * length:g} s",
                )
        segments: dict[str, Segment] = {}
        for role, clips in wanted.items():
            begin = rng.uniform(0, headers[role].duration - clips * length)
            segment = self._cut(headers[role], [(begin, begin + clips * length, clips * config.per_clip)], played)
            if isinstance(segment, Reject):
                return segment
            segments[role] = segment
        size = [min(segment["size"][side] for segment in segments.values()) for side in (0, 1)]
        if min(size) < config.min_side:
            shown = f"both videos would be shown with {size[0]}x{size[1]} pixels"
            return Reject("too_small", f"{shown}; min_side={config.min_side} needs at least {config.min_side}")
        small = np.concatenate([self._small(source, segment, role) for role, segment in segments.items()])
        if peak_differences(small.reshape(config.clips, -1))[-1, :-1].min() < TOLERANCE:
            detail = f"the clip of the other video looks like one of the first in each of {DRAWS} samples"
            return Reject("ambiguous", detail, final=False)
        order, asked = self.ask(small, rng)
        return asked.puzzle(self, {"films": segments, "clips": order, "size": size, "fps": config.fps})

    def render(self, puzzle: Puzzle, source: Source) -> Media:
        """The clips."""
        geometry, fps = puzzle.geometry, puzzle.geometry["fps"]
        frames = np.concatenate([self._cropped(source, geometry, role) for role in ROLES])
        one, other = (geometry["films"][role]["begin"] for role in ROLES)
        first = len(geometry["films"]["video"]["frames"])
        begins = [one + clip[0] / fps if clip[0] < first else other for clip in geometry["clips"]]
        clips = zip(geometry["clips"], begins, strict=True)
        return Media(videos=[clip_of(frames[clip], begin, fps) for clip, begin in clips])

    def _cropped(self, source: Source, geometry: Mapping[str, Any], role: str) -> Frames:
        """A video's frames, cropped at the centre to the size in which both videos are shown."""
        frames = self._decoded(source, geometry["films"][role], role)
        width, height = geometry["size"]
        top, left = (frames.shape[1] - height) // 2, (frames.shape[2] - width) // 2
        return frames[:, top : top + height, left : left + width]

    def prompt(self, puzzle: Puzzle) -> list[Message]:
        """Every clip after its number, and the question."""
        return clips_message(puzzle, "All clips but one are from the same video. Which one is from another?")

    def explain(self, puzzle: Puzzle, source: Source) -> list[tuple[str, Image.Image]]:
        """Frames of both videos in their order."""
        shown = []
        for role, title in (("video", "The video"), ("other", "The other video")):
            shown.append((title, self.strip(self._cropped(source, puzzle.geometry, role))))
        return shown

    def notes(self, puzzle: Puzzle) -> list[str]:
        """Where the odd clip begins in its video."""
        return [
            f"Clip {puzzle.answer} begins at {puzzle.geometry['films']['other']['begin']:.2f} s of the other video."
        ]
