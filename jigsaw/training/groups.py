"""Dynamic sampling: replaces groups whose completions all earn the same reward (DAPO, section 3.2).

In: a batch of groups with rewards, and a way to get fresh ones. Out: the batch with groups whose rewards are all equal
replaced, as far as the attempts allow. A group of equal rewards has no advantages and moves nothing (dynamic sampling,
DAPO, arXiv 2503.14476, section 3.2). Partial credit makes many values: it is the spread within a group that counts, not
whether its mean lies between two bounds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jigsaw.errors import JigsawWarning

SPREAD = 1e-6
"""Rewards closer together than this are equal."""

PATIENCE = 3
"""Steps in a row without one group of unequal rewards, after which no more attempts are made."""


class ConstantRewardsWarning(JigsawWarning):
    """Rewards do not differ within any group, whatever is drawn."""


@dataclass(frozen=True)
class Group:
    """The completions of one puzzle.

    Attributes:
        row: the puzzle, with its media.
        completions: token ids of each, G lists.
        encoded: a batch of prompts that holds the puzzle's.
        prompt: its number in `encoded`.
        log_probabilities: under which each token was sampled, if the engine tells.
        scores: reward name -> one value or None per completion.
        totals: weighted sums of these.
    """

    row: dict[str, Any]
    completions: list[list[int]]
    encoded: Any = None
    prompt: int = 0
    log_probabilities: list[list[float]] | None = None
    scores: dict[str, list[float | None]] = field(default_factory=dict)
    totals: list[float | None] = field(default_factory=list)

    @property
    def dead(self) -> bool:
        """Whether it teaches nothing.

        >>> Group({}, [], totals=[0.2, 0.2, None]).dead, Group({}, [], totals=[0.2, 0.25]).dead
        (True, False)
        """
        known = [total for total in self.totals if total is not None]
        return not known or max(known) - min(known) <= SPREAD


@dataclass(frozen=True)
class Outcome:
    """What became of a batch.

    Attributes:
        groups: the batch, as long as it was.
        drawn: every group that was drawn, in order; the first `len(groups)` are the batch as it came.
        dead, replaced, left: shares of the batch: dead as it came, of those replaced, and still dead.
    """

    groups: list[Group]
    drawn: list[Group]
    dead: float
    replaced: float
    left: float


class DynamicSampling:
    """Replaces dead groups by fresh ones.

    Args:
        max_resamples: rounds of fresh groups in a step.
    """

    def __init__(self, max_resamples: int) -> None:
        self._most = max_resamples
        self._fruitless = 0

    def state(self) -> dict[str, Any]:
        """What a resumed run needs; JSON values."""
        return {"fruitless": self._fruitless}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._fruitless = state["fruitless"]

    def replace(
        self,
        groups: Sequence[Group],
        fresh: Callable[[int], Sequence[Group]],
        anywhere: Callable[[int], int] = lambda count: count,
    ) -> Outcome:
        """Put live groups in the place of dead ones. Collective: every process calls it, and makes the same rounds.

        Args:
            groups: this process's share of the batch.
            fresh: draws and rolls out groups, at most as many as asked for. It is called with 0 where only other
                processes lack some.
            anywhere: a count summed over all processes.
        """
        kept, drawn = list(groups), list(groups)
        dead = [number for number, group in enumerate(kept) if group.dead]
        first = len(dead)
        some_live = anywhere(len(kept) - len(dead)) > 0
        if some_live:
            self._fruitless = 0
        tried = False
        for _ in range(self._most if self._fruitless < PATIENCE else 0):
            if not anywhere(len(dead)):
                break
            tried = True
            candidates = list(fresh(len(dead)))
            drawn += candidates
            live = [group for group in candidates if not group.dead]
            some_live = some_live or anywhere(len(live)) > 0
            for number, group in zip(dead, live, strict=False):
                kept[number] = group
            dead = dead[len(live) :]
        if tried and not some_live:
            self._warn()
        size = max(1, len(kept))
        return Outcome(kept, drawn, first / size, (first - len(dead)) / size, len(dead) / size)

    def _warn(self) -> None:
        self._fruitless += 1
        if self._fruitless == PATIENCE:
            warnings.warn(
                f"sampling.dynamic: for {PATIENCE} steps the rewards were equal in every group, in all of "
                f"{self._most} resamples: no more are made until a group's rewards differ. Warm the model up (sft), "
                "or reward something that it can sometimes do",
                ConstantRewardsWarning,
                stacklevel=4,
            )
