"""Arrow of time: whether a video is shown forwards or backwards.

In: one video. Out: a choice of two. The task is from Wei et al., "Learning and using the arrow of time" (CVPR 2018).
Many motions look as natural backwards; such puzzles have no certain answer, and no filter removes all of them.
"""

from __future__ import annotations

from random import Random
from typing import ClassVar

from jigsaw.tasks.contract import Message, PromptVariant, Puzzle, Question
from jigsaw.tasks.media.video_display import Frames
from jigsaw.tasks.prompts import instruction_of, lettered, options_in_words, user_message
from jigsaw.tasks.segments import SegmentTask, unlike


class TimeArrowTask(SegmentTask):
    """Tell whether a video runs forwards or backwards."""

    name: ClassVar[str] = "time_arrow"
    SIZE = ("window", ("4", "8", "16"))
    VARIANTS = (
        PromptVariant("Here is a recording.", "", "Was it reversed? A: no, B: yes."),
        PromptVariant("Watch this scene.", "", "In which direction does time run in it? A: forwards, B: backwards."),
    )
    REMEDIES: ClassVar = {"look": "use videos in which light and detail do not drift; no option closes this leak"}

    def ask(self, small: Frames, rng: Random) -> tuple[list[list[int]], Question] | None:
        """Draw the direction, uniformly; None if both look the same."""
        forwards = list(range(len(small)))
        backwards = rng.random() < 0.5
        if len(small) < 2 or not unlike(small, small[::-1]):
            return None
        args = lettered(["forwards", "backwards"])
        shown = forwards[::-1] if backwards else forwards
        return [shown], Question(answer=args["options"][backwards], geometry={}, args=args)

    def prompt(self, puzzle: Puzzle) -> list[Message]:
        """The video and the question."""
        asked = f"Is this video shown forwards or backwards? {options_in_words(puzzle)}. {instruction_of(puzzle)}"
        return user_message([{"type": "video"}, asked])

    def notes(self, puzzle: Puzzle) -> list[str]:
        """The answer in words."""
        return [f"Shown {puzzle.answer_args['texts'][puzzle.answer_args['options'].index(puzzle.answer)]}."]
