"""Rewards for short answers: the four ways to write a plug-in, one of each.

A reward has a parameter named `completions`; keyword-only parameters with a default are the `args` that a recipe may
set; every other named parameter is a column of the rows. It returns a list with a float, or None for no value, per
completion.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from jigsaw.rewards import completion_text, metric, parse_order, reward


@reward
def brevity(completions: Sequence[Any], *, limit: int = 200, **columns: Any) -> list[float]:
    """1 for an empty text, falling to 0 at `limit` words: a plain reward with one option."""
    return [max(0.0, 1.0 - len(completion_text(completion).split()) / limit) for completion in completions]


def piece_talk(*, word: str = "tile") -> Callable[..., list[float]]:
    """The share of pieces whose number is said after `word`: a factory, which prepares something once."""
    start = f"{word.lower()} "

    def talk(completions: Sequence[Any], num_pieces: Sequence[int], **columns: Any) -> list[float]:
        texts = [completion_text(completion).lower() for completion in completions]
        return [
            sum(f"{start}{piece}" in text for piece in range(1, count + 1)) / count
            for text, count in zip(texts, num_pieces, strict=True)
        ]

    return talk


async def slow_judge(completions: Sequence[Any], answer: Sequence[list[int]], **columns: Any) -> list[float | None]:
    """Stands for a judge that is asked over a wire: an async reward; the completions are judged side by side."""

    async def judge(text: str, right: list[int]) -> float | None:
        await asyncio.sleep(0.001)
        parsed = parse_order(text, len(right))
        return float(parsed.order == right) if parsed.well_formed else None

    pairs = zip(map(completion_text, completions), answer, strict=True)
    return list(await asyncio.gather(*(judge(text, right) for text, right in pairs)))


@metric
def num_words(completions: Sequence[Any], **columns: Any) -> list[float]:
    """How many words the completion has: a metric, which a recipe may watch but not optimise."""
    return [float(len(completion_text(completion).split())) for completion in completions]
