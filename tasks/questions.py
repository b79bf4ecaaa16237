"""Questions: rows of other people's sets, as `jigsaw import qa` stores them. They are imported and never planned.

In: nothing. Out: nothing. The rows hold prompt, answer and media themselves; the task gives them a name, so that
rewards, evaluation and reports can tell them from puzzles.
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
    """What a row does not say itself."""

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
        """Refuse: there is nothing to ask about a photo alone."""
        return Reject("imported", self.REASONS["imported"])

    def render(self, puzzle: Puzzle, source: Source) -> Media:
        """Refuse: rows hold their media."""
        raise ValueError("questions hold their media; import the set again")

    def prompt(self, puzzle: Puzzle) -> list[Message]:
        """How the answer is asked for; the question itself is in the row."""
        return user_message([instruction_of(puzzle)])
