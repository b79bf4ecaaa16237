"""The progress bar of long work: finished items, rate, time left, and a note such as the number of rejects.

In: a total, then one call per finished item. Out: a bar on standard error, if that is a terminal and the work has taken
more than two seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PATIENCE = 2.0
"""Seconds before the bar is shown."""


class ProgressBar:
    """Counts finished items; does nothing without a bar of `tqdm`."""

    def __init__(self, bar: Any = None) -> None:
        self._bar = bar

    def advance(self, note: str = "") -> None:
        """Count one more item; `note` is shown at the end of the bar."""
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update()


@contextmanager
def progress_bar(what: str, total: int, *, enabled: bool = True) -> Iterator[ProgressBar]:
    """A bar for `total` items, which is closed at the end of the block."""
    if not (enabled and sys.stderr.isatty()):
        yield ProgressBar()
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=what, delay=PATIENCE) as bar:
        yield ProgressBar(bar)
