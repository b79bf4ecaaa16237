"""The progress output of `jigsaw launch`: numbered steps, each with a progress bar or, in a log file, a few lines.

In: a recipe, and the progress of each step. Out: on a terminal one bar per step with the time per step, the time left
and the main figures; in a log file one line at the start of a step and then at most one line a minute.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from jigsaw.config.schema import Recipe
from jigsaw.run_folder import RunFolder

StepName = Literal["data", "model", "sft", "grpo", "evaluation"]

QUIET_SECONDS = 60.0
"""Minimum time between two lines of progress if the output is not a terminal."""

WINDOW = 20
"""Updates over which the time per step is measured."""

FEW_STEPS = 20
"""Below this number of training steps, the figures of a run are not meaningful."""

INDENT = 4


def titles(recipe: Recipe) -> dict[StepName, str]:
    """The numbered titles of a recipe's steps, in order: `{"data": "1/5 Data", ...}`."""
    named: dict[StepName, str] = {"data": "Data", "model": "Model"}
    if recipe.sft is not None:
        named["sft"] = "Supervised training" if recipe.grpo is None else "Warm-up (supervised)"
    if recipe.grpo is not None:
        named["grpo"] = "GRPO"
    named["evaluation"] = "Evaluation and report" if recipe.data.eval else "Report"
    return {name: f"{number}/{len(named)} {title}" for number, (name, title) in enumerate(named.items(), 1)}


class RunConsole:
    """Prints the steps of a run.

    Args:
        console: the console to print on.
        recipe: the recipe of the run, which determines the steps.
    """

    def __init__(self, console: Console, recipe: Recipe) -> None:
        self._console, self._titles = console, titles(recipe)

    def step(self, name: StepName, detail: str = "") -> None:
        """Start a step: print its title and a detail."""
        suffix = f"  {escape(detail)}" if detail else ""
        self._console.print(f"[bold]{self._titles[name]}[/bold]{suffix}", highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Print a line below the title of a step."""
        self._console.print(" " * INDENT + text, highlight=False, markup=False, soft_wrap=True)

    def progress(self, name: StepName, unit: str = "step") -> StepProgress:
        """The progress bar of a step, not yet started."""
        return StepProgress(self._console, self._titles[name], unit)


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


def show_result(console: Console, recipe: Recipe, folder: Path) -> None:
    """Print the result of a complete run in one sentence, and the path of its report.

    Args:
        console: the console to print on.
        recipe: the recipe of the run.
        folder: the run folder, with `evaluation.json` if there are held-out puzzles.
    """
    from jigsaw.evaluation.log import read_log
    from jigsaw.report.headline import headline

    report, lines = RunFolder(folder).report, list[str]()
    if RunFolder(folder).evaluation.is_file():
        main, *others = read_log(folder).sets
        result = headline(main)
        console.print(f"\n[bold]{escape(result.sentence)}[/bold]", highlight=False, soft_wrap=True)
        lines += [result.detail] if result.detail else []
        lines += [f"On {other.name}: {headline(other).sentence}" for other in others]
    steps = sum(section.max_steps or FEW_STEPS for section in (recipe.sft, recipe.grpo) if section is not None)
    if 0 < steps < FEW_STEPS:
        number = "1 step" if steps == 1 else f"{steps} steps"
        lines.append(f"This run trained for only {number}: it shows that everything works, not what is learned.")
    for line in [*lines, f"Report: {report}"]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


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
