"""Odd clip: which of several clips has its frames in a wrong order.

In: one video. Out: a choice between consecutive clips in a shuffled order; in one of them the frames were shuffled or
reversed. The task is from Fernando et al., "Self-supervised video representation learning with odd-one-out networks"
(CVPR 2017).
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from jigsaw.tasks.contract import Message, PromptVariant, Puzzle, Question
from jigsaw.tasks.media.video_display import Frames
from jigsaw.tasks.prompts import clips_message, numbered
from jigsaw.tasks.segments import ClipsConfig, SegmentTask, unlike


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class OddClipConfig(ClipsConfig):
    """Number of clips, and the change of one of them."""

    clips: Annotated[int, Field(ge=2, le=8, description="how many clips there are to choose from")] = 4
    change: Annotated[
        Literal["shuffled", "reversed"], Field(description="what is wrong with the frames of one clip")
    ] = "shuffled"

    def __post_init__(self) -> None:
        if self.per_clip < (3 if self.change == "shuffled" else 2):
            raise ValueError(
                f"window={self.window:g} at fps={self.fps:g} gives {self.per_clip} frames for each of {self.clips} "
                "clips, too few to put in another order; enlarge window or fps"
            )


class OddClipTask(SegmentTask):
    """Tell which of several clips has its frames in a wrong order."""

    name: ClassVar[str] = "odd_clip"
    SMALL: ClassVar[Mapping[str, Any]] = {"window": 4, "fps": 6, "max_pixels": 2048}
    Config: ClassVar[type] = OddClipConfig
    SIZE = ("clips", ("3", "4", "5"))
    VARIANTS = (
        PromptVariant("{count} scenes of one film.", "Scene {number}", "In one of them time is out of order. Which?"),
        PromptVariant(
            "Somebody edited one of these {count} recordings.",
            "({number})",
            "Which one no longer shows its moments in their true order?",
        ),
    )
    REMEDIES: ClassVar = dict.fromkeys(
        ("look", "edges"), "set a higher fps: frames then jump less; or change=reversed, which does not jump"
    )

    config: OddClipConfig

    def ask(self, small: Frames, rng: Random) -> tuple[list[list[int]], Question] | None:
        """Draw the odd clip, its order of frames and the shown order; None if the change cannot be seen."""
        count, clips = self.config.clips, self.config.cut()
        shown = rng.sample(range(count), count)
        odd = rng.randrange(count)
        changed = _changed(clips[shown[odd]], self.config.change, rng)
        if not unlike(small[clips[shown[odd]]], small[changed]):
            return None
        order = [changed if place == odd else clips[clip] for place, clip in enumerate(shown)]
        return order, Question(answer=str(odd + 1), geometry={"change": self.config.change}, args=numbered(count))

    def prompt(self, puzzle: Puzzle) -> list[Message]:
        """Every clip after its number, and the question."""
        what = "runs backwards" if puzzle.geometry["change"] == "reversed" else "has its frames in a wrong order"
        return clips_message(puzzle, f"These clips are from one video. One of them {what}. Which?")

    def notes(self, puzzle: Puzzle) -> list[str]:
        """The order of the frames of the odd clip."""
        odd = puzzle.geometry["clips"][int(puzzle.answer) - 1]
        order = ", ".join(str(position - min(odd) + 1) for position in odd)
        return [f"Clip {puzzle.answer} shows its frames in the order {order}."]


def _changed(clip: list[int], change: str, rng: Random) -> list[int]:
    """The frames in another order: reversed, or shuffled into an order that runs neither forwards nor backwards."""
    if change == "reversed":
        return clip[::-1]
    while True:
        order = rng.sample(clip, len(clip))
        if order not in (clip, clip[::-1]):
            return order
