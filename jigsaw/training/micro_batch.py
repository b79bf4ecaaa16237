"""Micro-batches of completions that are ready for the loss, and the division of a step into them.

In: sizes of the groups of a generation batch. Out: `MicroBatch`es, of whole groups if they fit. A micro-batch has
everything that its forward and backward pass needs, so that the trainer has no state between two calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from jigsaw.models.prompt_batch import PromptBatch


@dataclass(frozen=True)
class MicroBatch:
    """B completions of N prompts; C is the number of tokens of the longest completion.

    Attributes:
        prompts: the N distinct prompts with their media.
        prompt_of_row: the prompt of each completion, B numbers.
        completion_ids: `[B, C]`, padded on the right.
        completion_mask: `[B, C]`, 1 on tokens that count, 0 on padding and on masked completions.
        advantages: `[B]`.
        num_items: `[]`, tokens that count in the generation batch, on all processes together.
        share: factor on the loss, for losses that are means over micro-batches of unequal size.
        on_policy: whether the weights are those that sampled the completions.
        old_log_probabilities: `[B, C]`, under the weights that sampled; None to use those of the loss pass.
        reference_log_probabilities: `[B, C]`, under the reference model, if there is a KL term.
        sampled_log_probabilities: `[B, C]`, as reported by the engine, or None.
        importance_ratio: `[B, C]` or `[B, 1]`, correction for the difference between engine and trainer.
    """

    prompts: PromptBatch
    prompt_of_row: tuple[int, ...]
    completion_ids: Tensor
    completion_mask: Tensor
    advantages: Tensor
    num_items: Tensor
    share: float = 1.0
    on_policy: bool = True
    old_log_probabilities: Tensor | None = None
    reference_log_probabilities: Tensor | None = None
    sampled_log_probabilities: Tensor | None = None
    importance_ratio: Tensor | None = None

    def for_trl(self) -> dict[str, Any]:
        """The batch under the names that TRL's loss reads.

        TRL passes `pixel_values` to the log-probability pass unchanged, so this object is passed under that name and
        the pass gets its prompts as an argument. Prompt tokens are left empty, since the pass does not need them.
        """
        empty = self.completion_ids[:, :0]
        optional = {
            "old_per_token_logps": self.old_log_probabilities,
            "ref_per_token_logps": self.reference_log_probabilities,
            "sampling_per_token_logps": self.sampled_log_probabilities,
            "importance_sampling_ratio": self.importance_ratio,
        }
        return {
            "prompt_ids": empty,
            "prompt_mask": empty,
            "completion_ids": self.completion_ids,
            "completion_mask": self.completion_mask,
            "advantages": self.advantages,
            "num_items_in_batch": self.num_items,
            "pixel_values": self,
            **{name: value for name, value in optional.items() if value is not None},
        }


@dataclass(frozen=True)
class Sizes:
    """Tokens of a generation batch.

    Attributes:
        prompts: tokens of each prompt.
        completions: for each prompt, the number of tokens that count of each of its completions.
    """

    prompts: Sequence[int]
    completions: Sequence[Sequence[int]]


Part = list[tuple[int, int]]
"""The completions of one micro-batch, each as prompt and number in its group; in order of prompts."""


def tokens_computed(part: Part, sizes: Sizes) -> int:
    """Tokens that a micro-batch computes: one sequence per prompt, padded to the longest.

    >>> tokens_computed([(0, 0), (0, 1), (1, 0)], Sizes([10, 12], [[3, 4], [5, 6]]))
    38
    """
    behind: dict[int, int] = {}
    for prompt, number in part:
        behind[prompt] = behind.get(prompt, 0) + sizes.completions[prompt][number]
    return len(behind) * (max(sizes.prompts[prompt] for prompt in behind) + max(behind.values()))


def equal_parts(prompts: int, generations: int, count: int) -> list[Part]:
    """A generation batch in order, in `count` micro-batches with the same number of completions.

    >>> equal_parts(2, 2, 2)
    [[(0, 0), (0, 1)], [(1, 0), (1, 1)]]
    """
    rows = [(prompt, number) for prompt in range(prompts) for number in range(generations)]
    size = len(rows) // count
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def fill(sizes: Sizes, limit: int) -> list[Part]:
    """Whole groups in micro-batches of at most `limit` tokens; groups of similar length share a micro-batch.

    A group above the limit is split between completions; a completion above the limit is a micro-batch by itself.

    >>> fill(Sizes([10, 10, 10], [[5, 5], [40, 40], [6, 6]]), 50)
    [[(1, 0)], [(1, 1)], [(2, 0), (2, 1), (0, 0), (0, 1)]]
    """
    parts: list[Part] = []
    for prompt, completions in enumerate(sizes.completions):
        part: Part = []
        for number in range(len(completions)):
            if part and tokens_computed([*part, (prompt, number)], sizes) > limit:
                parts.append(part)
                part = []
            part.append((prompt, number))
        parts.append(part)
    parts.sort(key=lambda part: -tokens_computed(part, sizes))
    filled: list[Part] = []
    for part in parts:
        # A part of a split group is not combined, since its prompt would occur twice in a micro-batch.
        complete = len(part) == len(sizes.completions[part[0][0]])
        if filled and complete and tokens_computed([*filled[-1], *part], sizes) <= limit:
            filled[-1] = [*filled[-1], *part]
        else:
            filled.append(part)
    return filled


def split_into(parts: Sequence[Part], count: int) -> list[Part]:
    """The micro-batches in exactly `count` parts, by splitting the largest, so that all processes have the same number.

    >>> split_into([[(0, 0), (0, 1), (1, 0), (1, 1)]], 3)
    [[(0, 0), (0, 1)], [(1, 0)], [(1, 1)]]
    """
    parts = list(parts)
    while len(parts) < count:
        largest = max(range(len(parts)), key=lambda number: (len(parts[number]), number))
        part = parts[largest]
        prompts = list(dict.fromkeys(prompt for prompt, _ in part))
        first = set(prompts[: len(prompts) // 2])
        middle = sum(prompt in first for prompt, _ in part) or len(part) // 2
        parts[largest : largest + 1] = [part[:middle], part[middle:]]
    return parts
