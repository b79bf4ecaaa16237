"""Input and output of a block: the device, the recorded figures, and the verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

GB = 1e9


class NotRun(Exception):  # a verdict, not an error
    """Raised with the reason if a block cannot run here."""


@dataclass(frozen=True)
class Verdict:
    """Result of a block.

    Attributes:
        kind: `pass`, `fail` for wrong results or too much memory, `slow` for right ones that take too long.
        reason: a sentence.
    """

    kind: Literal["pass", "fail", "slow", "not run"]
    reason: str = ""


@dataclass
class Span:
    """Time and memory of a piece of work.

    Attributes:
        seconds: wall-clock seconds, including the work of the device.
        peak: peak bytes on the GPU, including the level before; 0 on a CPU.
    """

    seconds: float = 0.0
    peak: float = 0.0


@dataclass(frozen=True)
class Check:
    """The device of a block.

    Attributes:
        device: `cuda` or `cpu`.
        model: folder of a real checkpoint, if given.
        tell: receives figures as soon as they are measured.
        figures: all reported figures.
    """

    device: str
    model: str | None = None
    tell: Callable[[dict[str, Any]], None] = lambda figures: None
    figures: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def here(cls, *, cpu: bool, model: str | None = None, tell: Callable[[dict[str, Any]], None]) -> Check:
        """The GPU of this machine, if there is one and it may be used."""
        torch.manual_seed(0)
        return cls("cuda" if torch.cuda.is_available() and not cpu else "cpu", model, tell)

    @property
    def small(self) -> bool:
        """Whether this is a CPU, where blocks only test their code."""
        return self.device == "cpu"

    @property
    def memory(self) -> float:
        """Free bytes of the GPU."""
        return float(torch.cuda.mem_get_info()[0]) if not self.small else 0.0

    def add(self, **figures: Any) -> None:
        """Report figures; floats are rounded to four digits."""
        rounded = {
            name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in figures.items()
        }
        self.figures.update(rounded)
        self.tell(rounded)

    @contextmanager
    def span(self) -> Iterator[Span]:
        """Measure the time and memory of the body."""
        found = Span()
        if not self.small:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        yield found
        if not self.small:
            torch.cuda.synchronize()
            found.peak = float(torch.cuda.max_memory_allocated())
        found.seconds = time.perf_counter() - start
