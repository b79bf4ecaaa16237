"""The task `questions`: rows of third-party question sets, which `jigsaw import qa` stores.

The rows contain prompt, answer and media. The task only gives them a name, so that rewards, evaluation and reports can
distinguish them from puzzles.
"""

from __future__ import annotations

from random import Random
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from jigsaw.tasks.contract import AnswerStyle, Media, Message, Puzzle, Reject, Source, SourceKind, Task
from jigsaw.tasks.prompts import instruction_of, user_message


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class QuestionsConfig:
    """Settings that a row may leave out."""

    answer_style: Annotated[AnswerStyle, Field(description="how prompts ask for the answer; every row has its own")] = (
        "think"
    )


class QuestionsTask(Task):
    """Questions that were imported, with or without pictures."""

    name: ClassVar[str] = "questions"
    source_kind: ClassVar[SourceKind] = "image"
    Config: ClassVar[type] = QuestionsConfig
    REASONS: ClassVar = {"imported": "questions are made by `jigsaw import qa`, not from photos"}
    PIECE = "picture"
    STORED = True

    def plan(self, source: Source, rng: Random) -> Reject:
        """Reject: questions are imported, not planned."""
        return Reject("imported", self.REASONS["imported"])

    def render(self, puzzle: Puzzle, source: Source) -> Media:
        """Raise: the media are in the row."""
        raise ValueError("questions store their media in the row; import the set again")

    def prompt(self, puzzle: Puzzle) -> list[Message]:
        """The answer instruction; the question itself is in the row."""
        return user_message([instruction_of(puzzle)])
