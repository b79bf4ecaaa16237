"""Collects the figures of a training step for its log."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

from jigsaw.training.distributed import all_gather_object


class StepMetrics:
    """Values by name, of which the mean is logged; NaN is ignored.

    A value is either the same on all processes (`add`) or that of one process (`pend`).
    """

    def __init__(self) -> None:
        self._values: defaultdict[str, list[float]] = defaultdict(list)
        self._pending: defaultdict[str, list[float]] = defaultdict(list)

    def add(self, name: str, value: float) -> None:
        """Add a value that is the same on all processes."""
        self._values[name].append(float(value))

    def pend(self, name: str, value: float) -> None:
        """Add a value of this process, which `share` averages over all processes. Rewards get it as `log_metric`."""
        self._pending[name].append(float(value))

    def share(self) -> None:
        """Average the pending values over all processes. Collective."""
        total: defaultdict[str, list[float]] = defaultdict(list)
        for pending in all_gather_object(dict(self._pending)):
            for name, values in pending.items():
                total[name] += values
        for name, values in total.items():
            self.add(name, sum(values) / len(values))
        self._pending.clear()

    def take(self) -> dict[str, Any]:
        """The means since the last call; None if all values are NaN."""
        means: dict[str, Any] = {}
        for name, values in self._values.items():
            known = [value for value in values if not math.isnan(value)]
            means[name] = sum(known) / len(known) if known else None
        self._values.clear()
        return means
