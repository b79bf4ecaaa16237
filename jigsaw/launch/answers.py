"""Checks the rows of a run's sets before training: media, a valid answer, and a reward that can score it.

In: opened sets. Out: nothing, or an error of one line with the row and the remedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jigsaw.config.schema import Recipe
from jigsaw.data.inspection.answer_kinds import answer_kinds
from jigsaw.data.inspection.required_media import require_media
from jigsaw.errors import JigsawError
from jigsaw.rewards import Composition, RewardError


def require_answers(
    recipe: Recipe, composition: Composition, train_sets: Sequence[Any], eval_sets: Sequence[Any]
) -> None:
    """Refuse sets with a row that lacks a medium, an answer that is not of its kind, or rows that no reward scores.

    Args:
        recipe: the recipe of the run.
        composition: its rewards.
        train_sets: one set per entry of `data.train`.
        eval_sets: one set per entry of `data.eval`.

    Raises:
        JigsawError: a row is wrong; the message has the set, the row, the problem and the remedy.
    """
    for side, sets in (("train", train_sets), ("eval", eval_sets)):
        for number, puzzles in enumerate(sets):
            require_media(puzzles, f"data.{side}.{number}")
            found = answer_kinds(puzzles, f"data.{side}.{number}")
            scored = side == "eval" or (recipe.grpo is not None and recipe.data.train[number].trains("grpo"))
            if scored:
                try:
                    composition.check_kinds(found)
                except RewardError as error:
                    raise JigsawError(f"data.{side}.{number}: {error}") from error
