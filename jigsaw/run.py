"""Runs a recipe: puzzle sets, supervised stage, GRPO, evaluation, report.

In: a resolved recipe. Out: a run folder (`jigsaw.run_folder` lists its files). Existing files are complete and are not
written again, so a resumed run uses the same code; an unfinished stage continues from its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from jigsaw.config.schema import Recipe
from jigsaw.console import RunConsole
from jigsaw.errors import StoppedError
from jigsaw.launch.answers import require_answers
from jigsaw.launch.checks import SINGLE_NODE, require_inputs, require_libraries, validate_settings
from jigsaw.launch.machine import require_machine
from jigsaw.launch.provenance import record_start
from jigsaw.launch.puzzle_sets import prepare_sets
from jigsaw.launch.torchrun import Node
from jigsaw.launch.train import run_worker_node, train
from jigsaw.run_folder import RunFolder
from jigsaw.stop_request import StopRequest
from jigsaw.training.stages import require_puzzles, stages_of


def run(recipe: Recipe, console: Console | None = None, *, resume: bool = False, node: Node = SINGLE_NODE) -> Path:
    """Run a recipe.

    Args:
        recipe: the resolved and validated recipe.
        console: the console for progress; None for the standard output.
        resume: continue an unfinished run of the same recipe from its last checkpoint.
        node: this machine's rank, for runs on several machines.

    Returns:
        The run folder.

    Raises:
        StoppedError: the run was asked to stop (Ctrl-C or SIGTERM) and has saved its state.
        JigsawError: a problem with recipe, data, model, machine or folders that the user can correct.
    """
    from jigsaw.evaluation.evaluate import evaluate_run
    from jigsaw.report import write_report

    node.check(recipe.distributed)
    require_machine(recipe)
    composition = validate_settings(recipe)
    folder = RunFolder(recipe.output)
    if node.rank > 0:
        run_worker_node(recipe, folder, node)
        return folder.path
    folder.require_usable(recipe, resume=resume)
    require_inputs(recipe)
    require_libraries(recipe, composition)

    console = console or Console()
    steps = RunConsole(console, recipe)
    with folder.locked(recipe, resume=resume), stop_requests(folder) as stop:
        record_start(recipe, folder)
        steps.step("data")
        train_sets, heldout = prepare_sets(recipe, folder, steps.note)
        require_puzzles(recipe, train_sets)
        require_answers(recipe, composition, train_sets, heldout.sets)
        steps.step("model", recipe.model.path or "")
        if recipe.model.tiny is not None and not folder.start.exists():
            steps.note(make_tiny(recipe, folder, train_sets))
        for stage in stages_of(recipe, folder):
            train(recipe, stage, folder, node, console, stop)
        stop.check("after its training")
        folder.remove_training_files()
        if len(heldout) and not folder.evaluation.exists():
            evaluate_run(recipe, folder, heldout, composition, stop, steps.progress("evaluation", "puzzle"))
        else:
            steps.step("evaluation")
        write_report([folder.path], folder.report, tasks=recipe.data.heldout_tasks)
        folder.finish()
    return folder.path


@contextmanager
def stop_requests(folder: RunFolder) -> Iterator[StopRequest]:
    """The stop request of a run; if the run ends at once, the `StoppedError` lists what is saved."""
    with StopRequest(folder.stop) as stop:
        try:
            yield stop
        except KeyboardInterrupt:
            raise StoppedError(f"{folder}: stopped at once; {folder.saved()}", stop.exit_code) from None


def make_tiny(recipe: Recipe, folder: RunFolder, train_sets: Sequence[Any]) -> str:
    """Write the tiny model of a recipe, and return a line about it."""
    from jigsaw.models.tiny import write_tiny

    architecture, parameters = str(recipe.model.tiny), 0

    def write(partial: Path) -> None:
        nonlocal parameters
        parameters = write_tiny(architecture, recipe.model.sizes, tokenizer_texts(train_sets), partial)

    folder.write_once(folder.start, write)
    return f"{architecture} with {parameters:,} parameters, from random weights"


def tokenizer_texts(train_sets: Sequence[Any]) -> Iterator[str]:
    """The texts on which a tiny model's tokenizer is trained: prompts and answers of each set's first rows."""
    from jigsaw.training.sft import with_answer

    for puzzles in train_sets:
        for row in (with_answer(puzzles[i]) for i in range(min(64, len(puzzles)))):
            yield from ("system\nYou are a helpful assistant.", "user\n", "assistant\n", "\n")
            turns = [*row["prompt"], *row["completion"]]
            yield from (part["text"] for turn in turns for part in turn["content"] if part["type"] == "text")
