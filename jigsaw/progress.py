"""The progress bar of long work: items done, rate, time left, and a note such as the rejects so far.

In: a total, then one call per finished item. Out: a bar on standard error, only when that is a terminal and the work
has taken more than two seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PATIENCE = 2.0
"""Seconds of work without a bar."""


class ProgressBar:
    """Counts items; without a bar of `tqdm` it does nothing."""

    def __init__(self, bar: Any = None) -> None:
        self._bar = bar

    def advance(self, note: str = "") -> None:
        """One more item is done; `note` is printed at the end of the bar."""
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update()


@contextmanager
def progress_bar(what: str, total: int, *, enabled: bool = True) -> Iterator[ProgressBar]:
    """A bar for `total` items, closed at the end."""
    if not (enabled and sys.stderr.isatty()):
        yield ProgressBar()
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=what, delay=PATIENCE) as bar:
        yield ProgressBar(bar)
