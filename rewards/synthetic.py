"""Synthetic completions and columns for the dry call of a plug-in.

In: completions and right orders. Out: all columns that puzzles and a trainer have.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any


def synthetic_batch() -> tuple[list[str], dict[str, Any]]:
    """Completions and columns for a dry call: a right order, a wrong one, a broken answer and an empty text."""
    completions = [
        "<think>The sky is on top.</think><answer>2, 3, 1</answer>",
        "<think>The sky is on top.</think><answer>1, 2, 3</answer>",
        "<think>The sky is on top.</think><answer>1, 1, 9</answer>",
        "",
    ]
    return completions, synthetic_columns(completions, [[2, 3, 1]] * len(completions))


def puzzle_columns() -> list[str]:
    """The names of all columns that puzzles and a trainer have, which a reward of a recipe may require."""
    return list(synthetic_columns((), ()))


def synthetic_columns(
    completions: Sequence[str], answers: Sequence[Sequence[int]], answer_style: str = "think"
) -> dict[str, Any]:
    """All columns that puzzles and a trainer have, with synthetic values for these completions and answers."""
    count = len(completions)
    prompt = [{"role": "user", "content": [{"type": "text", "text": "Put the tiles in order."}]}]
    return {
        "answer": list(answers),
        "num_pieces": [len(answer) for answer in answers],
        "answer_style": [answer_style] * count,
        "classes": [None] * count,
        "answer_kind": ["order"] * count,
        "answer_args": [{}] * count,
        "task": ["image"] * count,
        "id": [f"synthetic-{row}" for row in range(count)],
        "source": [{"path": "photo.jpg", "fingerprint": "0" * 16}] * count,
        "geometry": ['{"grid": [1, 3], "shown": [2, 0, 1]}'] * count,
        "prompts": [prompt] * count,
        "completion_ids": [[1] * len(text.split()) for text in completions],
        "think_prefilled": [False] * count,
        "trainer_state": SimpleNamespace(global_step=0, max_steps=1, epoch=0.0, is_world_process_zero=True),
        "log_extra": lambda column, values: None,
        "log_metric": lambda name, value: None,
    }
