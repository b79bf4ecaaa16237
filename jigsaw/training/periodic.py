"""Periodic evaluation on held-out puzzles during training, and the report that is updated with it.

In: a stage in training. Out: figures and their chance levels, scored completions, and the run's `report.html`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from jigsaw.errors import first_line
from jigsaw.recipe_sets import HeldOut
from jigsaw.run_folder import RunFolder
from jigsaw.training.distributed import process_count, process_rank
from jigsaw.training.sets import sets_of_stage
from jigsaw.training.stages import StageRun

if TYPE_CHECKING:
    from jigsaw.training.logs import PeriodicEvaluation
    from jigsaw.training.trainer import PuzzleTrainer

CHANCE_PUZZLES = 64
"""Puzzles of each training set from which the chance level on the console is computed."""


def chance_levels(run: StageRun, composition: Any) -> Mapping[str, float]:
    """The figures of random guessing on the training puzzles, if they can be computed from the puzzles."""
    from jigsaw.data.loading.load import spread
    from jigsaw.data.storage.parts import answer_of_row
    from jigsaw.results.chance import closed_form_levels

    rows: list[Mapping[str, Any]] = []
    for puzzles, _ in sets_of_stage(run.recipe, run.folder.open_train(run.recipe), "grpo"):
        plain = puzzles.with_format(None)
        stored = [plain[number] for number in spread(len(plain), CHANCE_PUZZLES)]
        rows += [{**row, "answer": answer_of_row(row)} for row in stored]
    return closed_form_levels(rows, composition)


def evaluator(
    run: StageRun, processor: Any, composition: Any, heldout: HeldOut, trainer: Callable[[], PuzzleTrainer]
) -> Callable[[int], PeriodicEvaluation]:
    """A function that evaluates the model after a step, with the engine that samples its rollouts.

    Each process solves its share of the puzzles; shares may differ in size or be empty. Collective.

    Args:
        run: the run of the stage.
        processor: the processor of the model.
        composition: the recipe's rewards and metrics.
        heldout: the held-out puzzles.
        trainer: returns the trainer, which is created later.
    """
    rows: Any = heldout.spread(run.recipe.evaluation.puzzles)

    def evaluate(step: int) -> PeriodicEvaluation:
        from jigsaw.answering.answers import answer_all
        from jigsaw.answering.generation import Generation, TextGenerator
        from jigsaw.evaluation.log import FIGURES, write_periodic
        from jigsaw.evaluation.scoring import score
        from jigsaw.results.chance import closed_form_levels
        from jigsaw.training.distributed import all_gather_interleaved
        from jigsaw.training.logs import PeriodicEvaluation

        generation = Generation(max_new_tokens=run.recipe.completion_limit)
        engine = trainer().rollouts.engine
        generate = TextGenerator(engine, processor, generation, trainer().eos_token_ids)
        share = rows.share(process_rank(), process_count())
        engine.sync(trainer().policy)
        own = answer_all(generate, share, run.recipe.evaluation.batch_size)
        engine.sleep()
        solved = all_gather_interleaved(own)
        scored = score(solved, composition)
        if run.is_first:
            write_periodic(run.folder.path, step, scored)
        known = {name: [value for item in scored if (value := getattr(item, name)) is not None] for name in FIGURES}
        figures = {name: sum(values) / len(values) for name, values in known.items() if values}
        return PeriodicEvaluation(
            figures, closed_form_levels([one.puzzle for one in solved], composition), len(scored), len(heldout)
        )

    return evaluate


class LiveReport:
    """Writes the report of a run in training when it is called; a failure is printed once and never stops the run.

    Args:
        folder: the run folder.
        console: the console for the warning.
        tasks: the tasks whose puzzles are shown.
    """

    def __init__(self, folder: Path, console: Console, tasks: Sequence[str] = ()) -> None:
        self._folder, self._console, self._tasks, self._warned = folder, console, tasks, False

    def __call__(self) -> None:
        """Write the report."""
        path = RunFolder(self._folder).report
        try:
            from jigsaw.report.page import write_report

            write_report([self._folder], path, training=True, tasks=self._tasks)
        except Exception as error:  # no error may stop a training run here
            if not self._warned:
                self._console.print(
                    f"warning: {path} was not updated ({type(error).__name__}: {first_line(error)});"
                    " training continues",
                    highlight=False,
                    markup=False,
                    soft_wrap=True,
                )
            self._warned = True
