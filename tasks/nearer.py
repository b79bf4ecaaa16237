"""Nearer: which of a few points of a picture is nearest to the camera.

In: one RGB-D pair. Out: a choice between numbered points, which are drawn and marked as in the task `depth`.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from jigsaw.tasks.contract import CHOICE, Message, PromptVariant, Puzzle, Reject, Source
from jigsaw.tasks.depth import DepthConfig, DepthTask
from jigsaw.tasks.prompts import instruction_of, numbered, user_message


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class NearerConfig(DepthConfig):
    """The options of `depth`, with two points by default."""

    points: Annotated[int, Field(ge=2, le=12, description="how many points to choose from, 2 to 12")] = 2


class NearerTask(DepthTask):
    """Tell which of a few points of a picture is nearest."""

    name: ClassVar[str] = "nearer"
    Config: ClassVar[type] = NearerConfig
    SIZE = ("points", ("2", "3", "4"))
    VARIANTS = (
        PromptVariant("Look at the {count} numbered spots.", "", "Which of them is closest to you?"),
        PromptVariant("{count} marks were put on things at several distances.", "", "Name the mark that is near by."),
    )
    FOREIGN = None

    def plan(self, source: Source, rng: Random) -> Puzzle | Reject:
        """Plan a puzzle of `depth`; the answer is its nearest point."""
        puzzle = super().plan(source, rng)
        if isinstance(puzzle, Reject):
            return puzzle
        args = numbered(self.config.points)
        return replace(puzzle, answer=str(puzzle.answer[0]), answer_kind=CHOICE, answer_args=args)

    def prompt(self, puzzle: Puzzle) -> list[Message]:
        """The picture, the question and the answer instruction."""
        count = puzzle.num_pieces
        asked = "Which of them is nearest to the camera?" if count > 2 else "Which of the two is nearer to the camera?"
        marked = f"The picture has {count} points marked with red discs, numbered 1 to {count}."
        return user_message([{"type": "image"}, f"{marked} {asked} {instruction_of(puzzle)}"])
