"""The progress bar of long work: sources done, rate, puzzles and rejects so far.

In: a total, then one call per finished item. Out: a bar on standard error, only when that is a terminal and the work
has taken more than two seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PATIENCE = 2.0
"""Seconds of work without a bar."""


class ProgressBar:
    """Counts items; draws itself when there is someone to see it."""

    def __init__(self, what: str, total: int, enabled: bool) -> None:
        self._what = what
        self._total = total
        self._enabled = enabled and sys.stderr.isatty()
        self._start = time.monotonic()
        self._done = 0
        self._bar: Any = None
        self._row: Any = None

    def advance(self, note: str = "") -> None:
        """One more item is done; `note` stands at the end of the bar."""
        self._done += 1
        if not self._enabled or time.monotonic() - self._start < PATIENCE:
            return
        if self._bar is None:
            self._open()
        rate = self._done / (time.monotonic() - self._start)
        self._bar.update(self._row, completed=self._done, note=f"{rate:.1f}/s  {note}")

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn(self._what),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._bar = Progress(*columns, console=Console(stderr=True))
        self._row = self._bar.add_task(self._what, total=self._total, note="")
        self._bar.start()

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()


@contextmanager
def progress_bar(what: str, total: int, *, enabled: bool = True) -> Iterator[ProgressBar]:
    """A bar for `total` items, closed at the end."""
    bar = ProgressBar(what, total, enabled)
    try:
        yield bar
    finally:
        bar.close()
