"""Figures of a training step that are collected while it runs, and logged with it."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

from jigsaw.training.distributed import all_gather_object


class StepMetrics:
    """Values by name; what is logged is the mean of those that are numbers.

    A value may be known on one process alone (`pend`) or be the same on all (`add`).
    """

    def __init__(self) -> None:
        self._values: defaultdict[str, list[float]] = defaultdict(list)
        self._pending: defaultdict[str, list[float]] = defaultdict(list)

    def add(self, name: str, value: float) -> None:
        """A value that is the same on every process."""
        self._values[name].append(float(value))

    def pend(self, name: str, value: float) -> None:
        """A value of this process, to be averaged over all by `share`. Rewards get this as `log_metric`."""
        self._pending[name].append(float(value))

    def share(self) -> None:
        """Average what is pending over all processes. Collective."""
        total: defaultdict[str, list[float]] = defaultdict(list)
        for pending in all_gather_object(dict(self._pending)):
            for name, values in pending.items():
                total[name] += values
        for name, values in total.items():
            self.add(name, sum(values) / len(values))
        self._pending.clear()

    def take(self) -> dict[str, Any]:
        """The means since the last call; None where no value is a number."""
        means: dict[str, Any] = {}
        for name, values in self._values.items():
            known = [value for value in values if not math.isnan(value)]
            means[name] = sum(known) / len(known) if known else None
        self._values.clear()
        return means
