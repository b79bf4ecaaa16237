"""The training set of a stage: the sets of a recipe's entries that the stage uses, mixed by their weights.

In: the opened training sets, and the recipe. Out: a `datasets.Dataset` for `sft` or `grpo`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from jigsaw.config.schema import Recipe

StageName = Literal["sft", "grpo"]


def sets_of_stage(recipe: Recipe, train_sets: Sequence[Any], stage: StageName) -> list[tuple[Any, float]]:
    """The training sets of a stage, with their weights."""
    return [
        (puzzles, entry.weight)
        for puzzles, entry in zip(train_sets, recipe.data.train, strict=True)
        if entry.trains(stage)
    ]


def mixture(recipe: Recipe, train_sets: Sequence[Any], stage: StageName) -> Any:
    """The training set of a stage."""
    from jigsaw.training.mixture import mix

    used = sets_of_stage(recipe, train_sets, stage)
    return mix([puzzles for puzzles, _ in used], [weight for _, weight in used], seed=recipe.seed)
