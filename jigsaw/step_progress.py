"""The progress of one step of a run: a bar on a terminal, or a line a minute in a log file.

In: a title, then the number of done units and the main figures. Out: a bar with the time per unit and the time left.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

QUIET_SECONDS = 60.0
"""Minimum time between two lines of progress if the output is not a terminal."""

WINDOW = 20
"""Updates over which the time per step is measured."""

INDENT = 4
"""Spaces before what is printed below the title of a step."""


class StepProgress:
    """The progress of one step: a bar that stays on the terminal, or one line a minute if there is no terminal.

    Args:
        console: the console to print on.
        title: title of the step.
        unit: the unit that is counted, in the singular.
    """

    def __init__(self, console: Console, title: str, unit: str = "step") -> None:
        self._console, self._title, self._unit = console, title, unit
        self._drawn = console.is_terminal and not console.quiet
        self._bar = _Bar(title, console) if self._drawn else None
        self._total = self._first = self._done = 0
        self._begun = self._printed = time.monotonic()
        self._recent: deque[tuple[float, int]] = deque(maxlen=WINDOW + 1)
        self._figures: list[str] = []

    def start(self, total: int, done: int = 0, detail: str = "") -> None:
        """Open the bar, and print the line that starts the step.

        Args:
            total: number of units.
            done: units that were done before the run was resumed.
            detail: text at the end of the line.
        """
        self._total, self._first, self._done = total, done, done
        self._begun = self._printed = time.monotonic()
        self._recent.clear()
        self._recent.append((self._begun, done))
        resumed = f", continuing after {self._unit} {done:,}" if done else ""
        text = f"{total:,} {self._unit}{'' if total == 1 else 's'}{resumed}" + (f"; {detail}" if detail else "")
        self._console.print(f"[bold]{escape(self._title)}[/bold]  {escape(text)}", highlight=False, soft_wrap=True)
        if self._bar is not None:
            self._bar.begin(total, done)

    def update(self, done: int) -> None:
        """Move the bar to a number of done units; without a terminal, print a line if one is due."""
        self._done = done
        self._recent.append((time.monotonic(), done))
        self._draw()
        now = time.monotonic()
        if self._bar is None and done < self._total and now - self._printed >= QUIET_SECONDS:
            self._printed = now
            line = f"{self._title}: {self._unit} {done:,} of {self._total:,}, {self.pace()}"
            line = "; ".join([line, *self._figures])
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def advance(self, count: int) -> None:
        """Move the bar by a number of units."""
        self.update(self._done + count)

    def figures(self, lines: Iterable[str]) -> None:
        """Set the figures to show: below the bar one line each, in a log file one after the other."""
        self._figures = [line for line in lines if line]
        self._draw()

    def pace(self) -> str:
        """`0.9 s/step, 1 min 12 s left`; empty before the first unit is done."""
        left = self._total - self._done
        (then, first), (now, last) = self._recent[0], self._recent[-1]
        if last <= first or self._done <= self._first:
            return ""
        taken = now - self._begun
        overall = taken / (self._done - self._first)
        if left <= 0:
            return f"{_seconds(overall)}/{self._unit}, took {duration(taken)}"
        return f"{_seconds((now - then) / (last - first))}/{self._unit}, {duration(overall * left)} left"

    def stop(self) -> None:
        """Close the bar; it stays on the terminal."""
        if self._bar is not None:
            self._bar.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _draw(self) -> None:
        if self._bar is not None:
            self._bar.move(self._done, self.pace(), "\n".join(self._figures))


class _Bar(Progress):
    """One bar with a line of figures below it."""

    def __init__(self, title: str, console: Console) -> None:
        columns = (
            TextColumn(" " * (INDENT - 1)),
            BarColumn(30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
        )
        self._below = ""
        super().__init__(*columns, console=console, refresh_per_second=4)
        self._row = self.add_task(title, total=None, pace="")

    def begin(self, total: int, done: int) -> None:
        self.update(self._row, total=total, completed=done)
        self.start()

    def move(self, done: int, pace: str, below: str) -> None:
        self._below = below
        self.update(self._row, completed=done, pace=pace)

    def get_renderables(self) -> Iterable[Any]:
        """The bar, and the figures."""
        yield self.make_tasks_table(self.tasks)
        if self._below:
            yield Padding(Text(self._below), (0, 0, 0, INDENT))


def duration(seconds: float) -> str:
    """A time span in its two largest units.

    >>> [duration(span) for span in (8.6, 200, 7500)]
    ['9 s', '3 min 20 s', '2 h 5 min']
    """
    rounded = round(seconds)
    if rounded >= 3600:
        return f"{rounded // 3600} h {rounded % 3600 // 60} min"
    return f"{rounded // 60} min {rounded % 60} s" if rounded >= 60 else f"{rounded} s"


def _seconds(span: float) -> str:
    """The time that one step takes: `0.08 s`, `0.9 s`, `75 s`."""
    digits = 2 if span < 0.1 else 1 if span < 9.95 else 0
    return f"{span:.{digits}f} s"
