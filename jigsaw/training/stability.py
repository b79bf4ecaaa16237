"""Detects unstable GRPO runs: monitors entropy and completion length relative to the run's first steps.

In: the trainer's log. Out: a warning when a figure has been outside its bound for several steps or, if the recipe says
so, an error that stops the run. Reported failures of jigsaw training are entropy that collapses or explodes within 60
steps, and completions that shrink to the bare answer or grow to the token limit.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from statistics import mean
from typing import Any

from transformers import TrainerCallback

from jigsaw.config.schema import StabilitySection
from jigsaw.errors import JigsawError, JigsawWarning

ENTROPY, LENGTH, TRUNCATED = "entropy", "completions/mean_length", "completions/clipped_ratio"
REMEDIES = {
    "entropy_low": "a lower learning rate or a higher grpo.epsilon_high slows the collapse",
    "entropy_high": "a lower learning rate, or grpo.beta above 0, keeps the policy near its start",
    "length_low": "the reward `length` can demand a minimum length",
    "length_high": "the rewards `length` and `repetition` keep completions short",
    "truncated": "raise grpo.max_completion_length, or set grpo.mask_truncated_completions",
}


class UnstableRunWarning(JigsawWarning):
    """A monitored figure has been outside its bound for several steps."""


class StabilityWatch(TrainerCallback):  # type: ignore[misc]  # transformers comes without types
    """Monitors the log of a GRPO run.

    Raises:
        JigsawError: during training, if `section.stop` is set and a figure was outside its bound.
    """

    def __init__(self, section: StabilitySection) -> None:
        self._section = section
        self._first: dict[str, list[float]] = {ENTROPY: [], LENGTH: []}
        self._beyond: Counter[str] = Counter()

    def state(self) -> dict[str, Any]:
        """The state that a resumed run needs; JSON values."""
        return {"first": {key: list(values) for key, values in self._first.items()}, "beyond": dict(self._beyond)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore a state, with the level of the run's first steps."""
        self._first = {key: list(state["first"][key]) for key in self._first}
        self._beyond = Counter(state["beyond"])

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Check one step's figures, which are the same on all processes."""
        if not logs or ENTROPY not in logs:
            return
        section, passed = self._section, dict(self._passed(logs))
        for bound in REMEDIES:
            self._beyond[bound] = self._beyond[bound] + 1 if bound in passed else 0
            if self._beyond[bound] == section.patience:
                message = (
                    f"step {state.global_step}: {passed[bound]} for {section.patience} steps, beyond "
                    f"stability.{bound}={getattr(section, bound):g}: {REMEDIES[bound]}"
                )
                if section.stop:
                    raise JigsawError(
                        f"{message}. The run was stopped (stability.stop); --resume continues from a checkpoint"
                    )
                warnings.warn(message, UnstableRunWarning, stacklevel=2)

    def _passed(self, logs: Mapping[str, Any]) -> dict[str, str]:
        """The bounds that these figures violate, with a description of each."""
        section = self._section
        passed = {}
        for name, key in (("entropy", ENTROPY), ("length", LENGTH)):
            value, first = float(logs[key]), self._first[key]
            if len(first) < section.patience:
                first.append(value)
                continue
            level = mean(first)
            what = "entropy" if name == "entropy" else "mean completion length"
            description = f"{what} {value:.3g} against {level:.3g} at first"
            if value < getattr(section, f"{name}_low") * level:
                passed[f"{name}_low"] = description
            if value > getattr(section, f"{name}_high") * level:
                passed[f"{name}_high"] = description
        if float(logs[TRUNCATED]) > section.truncated:
            passed["truncated"] = f"{100 * float(logs[TRUNCATED]):.0f}% of the completions were cut off"
        return passed
