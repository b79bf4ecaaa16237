"""Moment: from when to when a part of a video was changed.

In: one video. Out: the interval of the shown clip that runs backwards, runs faster, or is from another part of the
video. It is scored by intersection over union, as in temporal grounding.
"""

from __future__ import annotations

from random import Random
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from jigsaw.tasks.contract import Message, PromptVariant, Puzzle, Question
from jigsaw.tasks.media.video_display import Frames
from jigsaw.tasks.prompts import instruction_of, user_message
from jigsaw.tasks.segments import SegmentConfig, SegmentTask, as_seconds, unlike

ASKED = {
    "reversed": "A part of this video runs backwards",
    "faster": "A part of this video runs at twice the speed",
    "foreign": "A part of this video was replaced by another scene",
}


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class MomentConfig(SegmentConfig):
    """The change of a part of the segment, and the length of the part."""

    change: Annotated[
        Literal["reversed", "faster", "foreign"],
        Field(description="the part runs backwards, at twice the speed, or is from another part of the video"),
    ] = "reversed"
    shortest: Annotated[float, Field(gt=0, lt=1, description="least share of the clip that is changed")] = 0.25
    longest: Annotated[float, Field(gt=0, lt=1, description="largest share of the clip that is changed")] = 0.5

    def __post_init__(self) -> None:
        if self.longest < self.shortest:
            raise ValueError(f"longest={self.longest} is less than shortest={self.shortest}")
        if self.lengths[0] < 2:
            raise ValueError(
                f"shortest={self.shortest} of window={self.window:g} at fps={self.fps:g} is less than two frames; "
                "enlarge one of them"
            )

    @property
    def lengths(self) -> tuple[int, int]:
        """Fewest and most frames that are changed."""
        return int(self.num_frames * self.shortest), int(self.num_frames * self.longest)


class MomentTask(SegmentTask):
    """Tell from when to when a part of a video was changed."""

    name: ClassVar[str] = "moment"
    Config: ClassVar[type] = MomentConfig
    SIZE = ("window", ("8", "12", "16"))
    REMEDIES: ClassVar = {"look": "set change=reversed or a higher fps: frames then jump less"}

    config: MomentConfig

    @property
    def extra(self) -> int:
        """Frames that are decoded in addition to the segment, for a part that is faster or foreign."""
        return 0 if self.config.change == "reversed" else self.config.lengths[1]

    @property
    def seconds(self) -> float:
        """Length of the segment and the additional frames."""
        return self.config.window + self.extra / self.config.fps

    def moments(self, duration: float, rng: Random) -> list[tuple[float, float, int]]:
        """The span of the segment and, for a faster or foreign part, the additional frames."""
        config, extra, length = self.config, self.extra, self.seconds
        free = duration - length
        if config.change != "foreign":
            begin = rng.uniform(0, duration - length)
            return [(begin, begin + length, config.num_frames + extra)]
        # The unused time is divided at random: before both spans, between them and after them.
        lead, end = sorted((rng.uniform(0, free), rng.uniform(0, free)))
        if rng.random() < 0.5:
            begin, other = lead, end + config.window
        else:
            begin, other = end + extra / config.fps, lead
        there = (other, other + extra / config.fps, extra)
        return [(begin, begin + config.window, config.num_frames), there]

    def ask(self, small: Frames, rng: Random) -> tuple[list[list[int]], Question] | None:
        """Draw the part and replace its frames; None if the change cannot be seen."""
        config, count = self.config, self.config.num_frames
        length = rng.randint(*config.lengths)
        start = rng.randint(0, count - length)
        part = list(range(start, start + length))
        after = list(range(start + length, count))
        if config.change == "reversed":
            shown = part[::-1]
        elif config.change == "faster":
            shown = [start + 2 * step for step in range(length)]
            after = [position + length for position in after]
        else:
            shown = list(range(count, count + length))
        if not unlike(small[part], small[shown]):
            return None
        order = [*range(start), *shown, *after]
        answer = as_seconds(part, config.fps)
        args = {"duration": round(count / config.fps, 3)}
        return [order], Question(answer=answer, geometry={"change": config.change}, kind="interval", args=args)

    def prompt(self, puzzle: Puzzle) -> list[Message]:
        """The video and the question."""
        length = puzzle.answer_args["duration"]
        asked = f"{ASKED[puzzle.geometry['change']]}. The video is {length:g} seconds long. From when to when?"
        return user_message([{"type": "video"}, f"{asked} {instruction_of(puzzle)}"])

    def variants(self, puzzle: Puzzle) -> list[PromptVariant]:
        """Other ways to ask for the part."""
        length, what = f"{puzzle.answer_args['duration']:g}", ASKED[puzzle.geometry["change"]].lower()
        return [
            PromptVariant(f"Watch these {length} seconds.", "", f"Somebody edited them: {what}. When, in seconds?"),
            PromptVariant(f"A recording of {length} s.", "", f"{what.capitalize()}. Give its begin and its end."),
        ]

    def notes(self, puzzle: Puzzle) -> list[str]:
        """The answer in words."""
        start, end = puzzle.answer
        return [f"{puzzle.geometry['change'].capitalize()} from {start:g} to {end:g} s of the clip."]
