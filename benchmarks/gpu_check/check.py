"""What every block gets and gives: the device, where its figures go, and its verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

GB = 1e9


class NotRun(Exception):  # a verdict, not an error
    """Why a block cannot be tried here, in a sentence."""


@dataclass(frozen=True)
class Verdict:
    """How a block ended.

    Attributes:
        kind: `pass`, `fail` for wrong results or too much memory, `slow` for right ones that take too long.
        reason: in a sentence.
    """

    kind: Literal["pass", "fail", "slow", "not run"]
    reason: str = ""


@dataclass
class Span:
    """What a piece of work took.

    Attributes:
        seconds: of wall time, the device's work included.
        peak: bytes on the GPU at most, the level before included; 0 on a CPU.
    """

    seconds: float = 0.0
    peak: float = 0.0


@dataclass(frozen=True)
class Check:
    """The device of a block.

    Attributes:
        device: `cuda` or `cpu`.
        model: folder of a real checkpoint, where one was named.
        tell: gets figures as soon as they are known.
        figures: all that were reported.
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
        """Whether this is a CPU, on which blocks only show that their code runs."""
        return self.device == "cpu"

    @property
    def memory(self) -> float:
        """Bytes of the GPU that are free."""
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
        """Measure what is done meanwhile."""
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
