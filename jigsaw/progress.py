"""The progress bar of long work: finished items, rate, time left, and a note such as the number of rejects.

In: a total, then one call per finished item. Out: a bar on standard error, if that is a terminal and the work has taken
more than two seconds. Elsewhere, such as in the log of a batch job, a line per minute.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PATIENCE = 2.0
"""Seconds before the bar is shown."""

LINE_EVERY = 60.0
"""Seconds between two lines where there is no terminal."""


class Progress:
    """Counts finished items. This base class shows nothing."""

    def advance(self, note: str = "") -> None:
        """Count one more item; `note` is shown behind the count."""


class ProgressBar(Progress):
    """Counts finished items on a bar of `tqdm`."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def advance(self, note: str = "") -> None:
        """Move the bar."""
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update()


class ProgressLines(Progress):
    """Counts finished items, and prints a line per minute."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._count, self._printed = what, total, 0, time.monotonic()

    def advance(self, note: str = "") -> None:
        """Print a line if a minute has passed since the last one."""
        self._count += 1
        if time.monotonic() - self._printed >= LINE_EVERY:
            self._printed = time.monotonic()
            line = f"{self._what}: {self._count} of {self._total}" + (f", {note}" if note else "")
            sys.stderr.write(line + "\n")
            sys.stderr.flush()


@contextmanager
def progress_bar(what: str, total: int, *, enabled: bool = True) -> Iterator[Progress]:
    """The progress of `total` items; a bar is closed at the end of the block."""
    if not enabled:
        yield Progress()
    elif not sys.stderr.isatty():
        yield ProgressLines(what, total)
    else:
        from tqdm import tqdm

        with tqdm(total=total, desc=what, delay=PATIENCE) as bar:
            yield ProgressBar(bar)
