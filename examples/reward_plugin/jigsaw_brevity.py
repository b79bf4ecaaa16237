"""Rewards for short answers: an example of each of the four kinds of plug-in.

A reward has a parameter named `completions`. Keyword-only parameters with a default are the `args` that a recipe may
set. Every other named parameter is a column of the rows. It returns a list with one float, or None for no value, per
completion.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from jigsaw.rewards import completion_text, metric, parse_order, reward


@reward
def brevity(completions: Sequence[Any], *, limit: int = 200, **columns: Any) -> list[float]:
    """Plain reward with one option: 1 for an empty text, falling to 0 at `limit` words."""
    return [max(0.0, 1.0 - len(completion_text(completion).split()) / limit) for completion in completions]


def piece_talk(*, word: str = "tile") -> Callable[..., list[float]]:
    """Factory, which prepares something once: the share of pieces whose number is named after `word`."""
    start = f"{word.lower()} "

    def talk(completions: Sequence[Any], num_pieces: Sequence[int], **columns: Any) -> list[float]:
        texts = [completion_text(completion).lower() for completion in completions]
        return [
            sum(f"{start}{piece}" in text for piece in range(1, count + 1)) / count
            for text, count in zip(texts, num_pieces, strict=True)
        ]

    return talk


async def slow_judge(completions: Sequence[Any], answer: Sequence[list[int]], **columns: Any) -> list[float | None]:
    """Async reward that simulates a judge on the network; the completions are judged concurrently."""

    async def judge(text: str, right: list[int]) -> float | None:
        await asyncio.sleep(0.001)
        parsed = parse_order(text, len(right))
        return float(parsed.order == right) if parsed.well_formed else None

    pairs = zip(map(completion_text, completions), answer, strict=True)
    return list(await asyncio.gather(*(judge(text, right) for text, right in pairs)))


@metric
def num_words(completions: Sequence[Any], **columns: Any) -> list[float]:
    """Metric, which a recipe may log but not optimise: the number of words of a completion."""
    return [float(len(completion_text(completion).split())) for completion in completions]
