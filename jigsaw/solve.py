"""`jigsaw solve`: a model answers puzzles that are cut from the user's own files, and a page shows its answers.

In: a model, and photos, videos or folders. Out: a folder with copies of the files, the puzzles, the evaluation and
`report.html`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jigsaw.answering.generation import GREEDY, Generation
from jigsaw.data import build_puzzles
from jigsaw.data.storage.manifest import read_manifest
from jigsaw.errors import JigsawError
from jigsaw.evaluation.evaluate import evaluate_checkpoint, generation_of
from jigsaw.evaluation.log import EvalLog
from jigsaw.evaluation.runs import PuzzleSet, own_recipe, own_sets, run_of, trained_model
from jigsaw.report.page import write_report
from jigsaw.rewards.answers import written
from jigsaw.run_folder import RunFolder
from jigsaw.tasks import find_task


def solve(
    model: str,
    files: Sequence[Path],
    out: Path,
    *,
    task: str | None = None,
    config: Mapping[str, Any] | None = None,
    puzzles: int = 3,
    seed: int = 0,
    generation: Mapping[str, Any] | None = None,
) -> EvalLog:
    """Let a model answer puzzles that are cut from files.

    Args:
        model: a run folder, a checkpoint folder or a hub id. A run's model gets puzzles like those of its training.
        files: photos or videos, or folders of a task's sources.
        out: a new folder for files, puzzles, answers and page.
        task: the task; None for that of the run's first held-out set, or `image`.
        config: keys of the task's configuration that replace those of the run.
        puzzles: number of puzzles per file.
        seed: of cuts and orders.
        generation: fields of `Generation` that replace the run's.

    Returns:
        The log of the evaluation.

    Raises:
        JigsawError: a file does not exist or gives no puzzle, the model cannot be used, or `out` exists.
    """
    for file in files:
        if not file.exists():
            raise JigsawError(f"{file}: no such file or folder")
    if out.exists():
        raise JigsawError(f"--out: {out} exists already; name a new folder")
    run = run_of(model)
    checkpoint = model if run is None or Path(model) != run else str(trained_model(run))
    defaults, settings, spec = _training_settings(run, task)
    sources = _gather(files, out / "files")
    build_puzzles(spec, sources, out / "puzzles", config={**settings, **(config or {})}, per_source=puzzles, seed=seed)
    log = evaluate_checkpoint(
        checkpoint,
        [PuzzleSet(out / "puzzles", "", spec)],
        generation=replace(defaults, **(generation or {})),
        out=out / "evaluation",
    )
    write_report([out / "evaluation"], RunFolder(out).report)
    return log


def free_folder(folder: Path) -> Path:
    """The folder, or the first of `NAME-2`, `NAME-3`, ... that does not exist."""
    number, free = 1, folder
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free


def answer_lines(log: EvalLog) -> Iterator[str]:
    """The model's answers, one line per puzzle, and the number of solved puzzles."""
    samples = log.sets[0].model.samples
    for sample in samples:
        right = written(sample.answer)
        answer = sample.value if sample.order is None else written(sample.order)
        if answer is None:
            completion = " ".join(sample.completion.split())
            result = f"no valid answer ({completion[:80]!r}); right is {right}"
        elif sample.exact:
            result = f"{answer}: solved"
        else:
            result = f"{answer}; right is {right}"
            result += "" if sample.place_accuracy is None else f": {sample.place_accuracy:.0%} of the places"
        yield f"{sample.source}: {result}"
    chance = log.sets[0].model.estimates["exact"].chance
    guessing = "" if chance is None else f"; guessing solves {chance:.0%}"
    yield f"{sum(sample.exact for sample in samples):.0f} of {len(samples)} solved{guessing}"
    if log.note:
        yield log.note


def _training_settings(run: Path | None, task: str | None) -> tuple[Generation, dict[str, Any], str]:
    """The settings of a run: generation, and the configuration and name of a task."""
    if run is None:
        return GREEDY, {}, task or "image"
    recipe = own_recipe(run)
    for one in own_sets(run) if recipe.data.eval else ():
        settings = read_manifest(one.data).settings
        spec = one.task or settings.task
        if task is None or find_task(task).name == find_task(spec).name:
            return generation_of(recipe), dict(settings.config), spec
    return generation_of(recipe), {}, task or "image"


def _gather(files: Sequence[Path], folder: Path) -> Path:
    """Copy the files into a folder. A single folder is used without a copy."""
    if len(files) == 1 and files[0].is_dir():
        return files[0]
    folder.mkdir(parents=True)
    for number, file in enumerate(files):
        target = folder / file.name
        target = target if not target.exists() else folder / f"{number}-{file.name}"
        (shutil.copytree if file.is_dir() else shutil.copyfile)(file, target)
    return folder
