"""Dynamic sampling: replaces groups whose completions all earn the same reward (DAPO, arXiv 2503.14476, section 3.2).

In: a batch of groups with rewards, and a function that samples fresh ones. Out: the batch with its zero-variance groups
replaced, as far as the attempts allow. A zero-variance group has no advantages and changes no weight. DAPO checks
whether the mean of a group is between two bounds; with partial credit rewards have many values, so the spread is
checked here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jigsaw.errors import JigsawWarning

SPREAD = 1e-6
"""Rewards that differ by at most this count as equal."""

PATIENCE = 3
"""Consecutive steps without any informative group after which no more attempts are made."""


class ConstantRewardsWarning(JigsawWarning):
    """No sampled group was informative for several steps."""


@dataclass(frozen=True)
class Group:
    """The completions of one puzzle.

    Attributes:
        row: the puzzle, with its media.
        completions: token ids of each completion, G lists.
        encoded: the encoded batch that includes the puzzle's prompt.
        prompt: index of the prompt in `encoded`.
        log_probabilities: log-probability with which each token was sampled, if the engine reports them.
        scores: reward name -> one value or None per completion.
        totals: weighted sum of the rewards of each completion.
    """

    row: dict[str, Any]
    completions: list[list[int]]
    encoded: Any = None
    prompt: int = 0
    log_probabilities: list[list[float]] | None = None
    scores: dict[str, list[float | None]] = field(default_factory=dict)
    totals: list[float | None] = field(default_factory=list)

    @property
    def zero_variance(self) -> bool:
        """Whether all rewards are equal, so that the group teaches nothing.

        >>> Group({}, [], totals=[0.2, 0.2, None]).zero_variance, Group({}, [], totals=[0.2, 0.25]).zero_variance
        (True, False)
        """
        known = [total for total in self.totals if total is not None]
        return not known or max(known) - min(known) <= SPREAD


@dataclass(frozen=True)
class Outcome:
    """The result of dynamic sampling.

    Attributes:
        groups: the batch after replacement, with as many groups as before.
        drawn: all sampled groups in order; the first `len(groups)` are the original batch.
        zero_variance: share of zero-variance groups in the original batch.
        replaced: share of groups that were replaced.
        remaining: share of zero-variance groups in `groups`.
    """

    groups: list[Group]
    drawn: list[Group]
    zero_variance: float
    replaced: float
    remaining: float


class DynamicSampling:
    """Replaces zero-variance groups with fresh ones.

    Args:
        max_resamples: maximum rounds of fresh groups in a step.
    """

    def __init__(self, max_resamples: int) -> None:
        self._most = max_resamples
        self._fruitless = 0

    def state(self) -> dict[str, Any]:
        """What a resumed run needs; JSON values."""
        return {"fruitless": self._fruitless}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore a state."""
        self._fruitless = state["fruitless"]

    def replace(
        self,
        groups: Sequence[Group],
        fresh: Callable[[int], Sequence[Group]],
        anywhere: Callable[[int], int] = lambda count: count,
    ) -> Outcome:
        """Replace zero-variance groups with informative ones. Collective: all processes make the same rounds.

        Args:
            groups: this process's share of the batch.
            fresh: samples at most the requested number of groups. It is called with 0 if only other processes need
                some.
            anywhere: sums a count over all processes.
        """
        kept, drawn = list(groups), list(groups)
        constant = [number for number, group in enumerate(kept) if group.zero_variance]
        first = len(constant)
        any_informative = anywhere(len(kept) - len(constant)) > 0
        if any_informative:
            self._fruitless = 0
        tried = False
        for _ in range(self._most if self._fruitless < PATIENCE else 0):
            if not anywhere(len(constant)):
                break
            tried = True
            candidates = list(fresh(len(constant)))
            drawn += candidates
            informative = [group for group in candidates if not group.zero_variance]
            any_informative = any_informative or anywhere(len(informative)) > 0
            for number, group in zip(constant, informative, strict=False):
                kept[number] = group
            constant = constant[len(informative) :]
        if tried and not any_informative:
            self._warn()
        size = max(1, len(kept))
        return Outcome(kept, drawn, first / size, (first - len(constant)) / size, len(constant) / size)

    def _warn(self) -> None:
        self._fruitless += 1
        if self._fruitless == PATIENCE:
            warnings.warn(
                f"sampling.dynamic: for {PATIENCE} steps the rewards were equal in every group, also after "
                f"{self._most} resamples; resampling pauses until the rewards of a group differ. Warm the model up "
                "(sft), or reward something that it can sometimes do",
                ConstantRewardsWarning,
                stacklevel=4,
            )
