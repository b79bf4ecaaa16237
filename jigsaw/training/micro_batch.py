"""Micro-batches: completions that are finished, scored and ready for the loss, and how a step is divided into them.

In: groups of completions of a generation batch. Out: `MicroBatch`es of whole groups. A micro-batch holds everything
that its forward and backward pass needs, so that no trainer has to remember anything between two calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from jigsaw.models.prompt_batch import PromptBatch


@dataclass(frozen=True)
class MicroBatch:
    """B completions of N prompts; shapes below, C being the tokens of the longest completion.

    Attributes:
        prompts: the N distinct prompts with their media.
        prompt_of_row: the prompt of each completion, B numbers.
        completion_ids: `[B, C]`, padded on the right.
        completion_mask: `[B, C]`, 1 on tokens that count, 0 on padding and on completions that are masked whole.
        advantages: `[B]`.
        num_items: `[]`, tokens that count in the generation batch, on all processes together.
        share: factor on the loss, where micro-batches of one step are of unequal size and the loss is a mean.
        on_policy: whether the weights are those that sampled the completions.
        old_log_probabilities: `[B, C]`, under the weights that sampled; None: those of the loss pass itself.
        reference_log_probabilities: `[B, C]`, under the reference model, where there is a KL term.
        sampled_log_probabilities: `[B, C]`, as the engine gave them, if it does.
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

        TRL passes what it finds under `pixel_values` on to the log-probability pass as it is: that is this object, so
        that the pass gets its prompts as an argument. Prompt tokens are left empty, since the pass has them already.
        """
        none = self.completion_ids[:, :0]
        optional = {
            "old_per_token_logps": self.old_log_probabilities,
            "ref_per_token_logps": self.reference_log_probabilities,
            "sampling_per_token_logps": self.sampled_log_probabilities,
            "importance_sampling_ratio": self.importance_ratio,
        }
        return {
            "prompt_ids": none,
            "prompt_mask": none,
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
        completions: for each prompt the tokens of its completions that count.
    """

    prompts: Sequence[int]
    completions: Sequence[Sequence[int]]


Part = list[tuple[int, int]]
"""Completions of one micro-batch: for each its prompt and its number there, those of a prompt together."""


def tokens_computed(part: Part, sizes: Sizes) -> int:
    """Tokens that a micro-batch computes: one sequence per prompt, all as long as the longest.

    >>> tokens_computed([(0, 0), (0, 1), (1, 0)], Sizes([10, 12], [[3, 4], [5, 6]]))
    38
    """
    behind: dict[int, int] = {}
    for prompt, number in part:
        behind[prompt] = behind.get(prompt, 0) + sizes.completions[prompt][number]
    return len(behind) * (max(sizes.prompts[prompt] for prompt in behind) + max(behind.values()))


def equal_parts(prompts: int, generations: int, count: int) -> list[Part]:
    """A generation batch in its order, in `count` micro-batches of equally many completions.

    >>> equal_parts(2, 2, 2)
    [[(0, 0), (0, 1)], [(1, 0), (1, 1)]]
    """
    rows = [(prompt, number) for prompt in range(prompts) for number in range(generations)]
    size = len(rows) // count
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def fill(sizes: Sizes, limit: int) -> list[Part]:
    """Whole groups in micro-batches of at most `limit` tokens, groups of like length together.

    A group that is longer alone is cut between its completions; a completion that is longer with its prompt makes a
    micro-batch of its own.

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
        # A part of a group that was cut fills its micro-batch: its prompt is not joined with itself again.
        whole = len(part) == len(sizes.completions[part[0][0]])
        if filled and whole and tokens_computed([*filled[-1], *part], sizes) <= limit:
            filled[-1] = [*filled[-1], *part]
        else:
            filled.append(part)
    return filled


def split_into(parts: Sequence[Part], count: int) -> list[Part]:
    """The micro-batches in exactly `count` parts, by dividing the largest: processes train equally many.

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
