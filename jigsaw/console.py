"""The output of `jigsaw launch`: the numbered steps of a run, and its result.

In: a recipe. Out: a title per step, with its progress (`jigsaw.step_progress`), and at the end the result.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.markup import escape

from jigsaw.config.schema import Recipe
from jigsaw.run_folder import RunFolder
from jigsaw.step_progress import INDENT, StepProgress

StepName = Literal["data", "model", "sft", "grpo", "evaluation"]

FEW_STEPS = 20
"""Below this number of training steps, the figures of a run are not meaningful."""


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
