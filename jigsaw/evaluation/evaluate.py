"""`jigsaw eval` and the end of a run: a model answers puzzle sets, and its figures become an `EvalLog`.

In: a checkpoint or a run, and puzzle sets. Out: a log. With a folder these files are written::

    completions.jsonl                the settings, then every answered puzzle, batch by batch
    evaluation.json, predictions/    the log (`jigsaw.evaluation.log`)

The same command continues an evaluation that was interrupted. Only the batch that was being generated is lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jigsaw.answering.answers import AnsweredPuzzle, answer_rest
from jigsaw.answering.generation import GREEDY, Generation, open_engine
from jigsaw.answering.store import file_stamp, make_folder
from jigsaw.data.storage.parts import puzzle_of
from jigsaw.errors import JigsawError
from jigsaw.evaluation.figures import set_log
from jigsaw.evaluation.log import EvalLog, SetLog, read_log, write_log
from jigsaw.evaluation.runs import PuzzleSet, own_recipe, own_sets, trained_model, unreadable_note
from jigsaw.results.log_file import command_line, versions
from jigsaw.rewards import Composition, RewardError
from jigsaw.rewards.answers import ORDER
from jigsaw.run_folder import RunFolder
from jigsaw.tasks import task_named, varied

if TYPE_CHECKING:
    from jigsaw.config.schema import Recipe
    from jigsaw.data.inspection.answer_kinds import Kinds
    from jigsaw.engines.vllm_requests import VllmSettings
    from jigsaw.recipe_sets import HeldOut
    from jigsaw.step_progress import StepProgress
    from jigsaw.stop_request import StopRequest

COMPLETIONS = "completions.jsonl"


def evaluate_checkpoint(
    model: str,
    data: Path | Sequence[PuzzleSet],
    *,
    generation: Generation = GREEDY,
    out: Path | None = None,
    rewards: Sequence[str | Mapping[str, Any]] | None = None,
    limit: int | None = None,
    prompt_variant: int = 0,
    against: Path | None = None,
    source_root: Path | None = None,
    task: str | None = None,
) -> EvalLog:
    """Answer the puzzles of one or several sets, and compute the figures.

    Args:
        model: checkpoint folder or hub id.
        data: folder of a puzzle set; or several sets.
        generation: engine, precision, batch size and sampling settings.
        out: folder for the files above; None writes no file, so an interruption loses all answers.
        rewards: what `reward` is the weighted sum of, names or entries as in a recipe; None for `visual_jigsaw`, or
            for `answer` if a set has answers that are not orders.
        limit: maximum number of puzzles of a folder, evenly spread.
        prompt_variant: 0 for the set's own prompts, 1 and up for other prompts of its task.
        against: folder of another evaluation of the same puzzles, to compare with.
        source_root: where the sources of the set are now, if they moved.
        task: spec of the task that built the set, if it is a plug-in.

    Returns:
        The log. If no answer could be read, its `note` explains why.

    Raises:
        JigsawError: the checkpoint, a set or a folder cannot be used.
    """
    from jigsaw.data import load_puzzles
    from jigsaw.data.inspection.answer_kinds import answer_kinds

    sets = [PuzzleSet(data, "", task, limit)] if isinstance(data, Path) else list(data)
    opened = [load_puzzles(one.data, source_root, task=one.task) for one in sets]
    kinds = {str(one.data): answer_kinds(puzzles, str(one.data)) for one, puzzles in zip(sets, opened, strict=True)}
    rewards = default_rewards(kinds.values()) if rewards is None else rewards
    composition = _composition(rewards, kinds, model)
    if out is not None:
        if RunFolder(out).recipe.exists():
            raise JigsawError(f"--out: {out} is the folder of a training run; name another folder")
        make_folder(out)
    others = {} if against is None else {one.name: (str(against), one.model.samples) for one in read_log(against).sets}
    for one in sets:
        if against is not None and one.name not in others:
            raise JigsawError(f"--against: {against} has no evaluation of the set {one.name or 'without a name'}")
    answers: dict[str, list[AnsweredPuzzle]] = {}
    for one, puzzles in zip(sets, opened, strict=True):
        settings = {
            "model": str(model),
            "model_stamp": file_stamp(Path(model)),
            "data": str(one.data),
            "data_stamp": file_stamp(one.data),
            **generation.settings(),
            "prompt_variant": prompt_variant,
        }
        file = COMPLETIONS if len(sets) == 1 else f"{one.data.name}-{COMPLETIONS}"
        path = None if out is None else out / file
        answers.setdefault(one.name, []).extend(
            _answers(model, one, puzzles, generation, prompt_variant, path, settings)
        )
    logs = [set_log(name, of_set, composition, against=others.get(name)) for name, of_set in answers.items()]
    log = EvalLog(
        argv=command_line(),
        versions=versions(),
        settings=settings | {"data": [str(one.data) for one in sets]},
        rewards=list(rewards),
        sets=logs,
        note=unreadable_note(model, sets[0].data, logs[0].model.reasons),
    )
    if out is not None:
        write_log(log, out)
    return log


def _composition(rewards: Sequence[str | Mapping[str, Any]], kinds: Mapping[str, Kinds], model: str) -> Composition:
    """The composition of rewards, after a check that they score the answers of each set; `kinds` is by folder."""
    composition = Composition(list(rewards))
    for folder, of_set in kinds.items():
        try:
            composition.check_kinds(of_set)
        except RewardError as error:
            raise JigsawError(f"{folder}: {error}") from error
    composition.require_columns()
    _count_tokens(composition, model)
    return composition


def _answers(
    model: str,
    puzzle_set: PuzzleSet,
    puzzles: Any,
    generation: Generation,
    prompt_variant: int,
    path: Path | None,
    settings: Mapping[str, Any],
) -> list[AnsweredPuzzle]:
    """The answers to one set, which is opened as `puzzles`. `path` is the file where they are stored."""
    from jigsaw.data.loading.load import spread
    from jigsaw.progress import progress_bar

    chosen = spread(len(puzzles), puzzle_set.limit)
    if not chosen:
        raise JigsawError(f"{puzzle_set.data} has no puzzles; build it again")
    ids = puzzles.with_format(None)["id"]
    with progress_bar("solving", len(chosen)) as bar:

        def advance(count: int) -> None:
            for _ in range(count):
                bar.advance()

        return answer_rest(
            lambda: open_engine(model, generation),
            [ids[number] for number in chosen],
            lambda number: with_prompt_variant(puzzles[chosen[number]], prompt_variant),
            path=path,
            settings=settings,
            batch_size=generation.batch_size,
            on_batch=advance,
        )


def with_prompt_variant(row: Mapping[str, Any], number: int) -> dict[str, Any]:
    """A row with its own prompt (0), or with another prompt of its task around the same media (1, 2, ..).

    The instruction about the form of the answer is not changed, because the parser depends on it.

    Raises:
        JigsawError: the row's task has no such variant.
    """
    if number == 0:
        return dict(row)
    puzzle = puzzle_of(row)
    variants = task_named(puzzle.task).variants(puzzle)
    if not variants:
        raise JigsawError(f"--set prompt_variant: task {puzzle.task} has no prompt variants for these puzzles")
    if not 1 <= number <= len(variants):
        raise JigsawError(
            f"--set prompt_variant: task {puzzle.task} has {len(variants)} prompt variants; there is no number {number}"
        )
    return dict(row) | {"prompt": varied(row["prompt"], variants[number - 1], puzzle)}


def default_rewards(kinds: Iterable[Kinds]) -> list[str]:
    """The paper's reward if all answers are orders, else the reward that scores all kinds of answers."""
    return ["visual_jigsaw" if all(kind == ORDER for of_set in kinds for _, kind in of_set) else "answer"]


def _count_tokens(composition: Composition, model: str) -> None:
    """Give the composition a tokenizer if a reward counts tokens."""
    if "completion_ids" in composition.columns:
        from jigsaw.models.load import load_processor
        from jigsaw.models.prompts import completion_tokens

        composition.tokenize = completion_tokens(load_processor(model))


def evaluate_on_own_sets(
    run: Path,
    *,
    generation: Mapping[str, Any] | None = None,
    rewards: Sequence[str] | None = None,
    limit: int | None = None,
    **options: Any,
) -> EvalLog:
    """Evaluate a run's model on its own held-out sets, with the run's settings.

    Args:
        run: folder of a run that has a model.
        generation: fields of `Generation` that replace the recipe's.
        rewards: what `reward` is the sum of; None for the recipe's rewards.
        limit: maximum number of puzzles of each set, evenly spread; None for as many as the run evaluates.
        **options: further arguments of `evaluate_checkpoint`.

    Raises:
        JigsawError: the run has no model or no held-out puzzles.
    """
    model, sets, recipe = trained_model(run), own_sets(run), own_recipe(run)
    return evaluate_checkpoint(
        str(model),
        [one if limit is None else replace(one, limit=limit) for one in sets],
        generation=replace(generation_of(recipe), **(generation or {})),
        rewards=recipe.rewards if rewards is None else list(rewards),
        **options,
    )


def evaluate_run(
    recipe: Recipe,
    folder: RunFolder,
    heldout: HeldOut,
    composition: Composition,
    stop: StopRequest,
    progress: StepProgress,
) -> None:
    """The final evaluation of a run: `model/`, and `warmup/` if it exists, on the held-out puzzles.

    The log is written into the run's folder. `stop` is checked after every batch.

    Raises:
        StoppedError: a stop was requested; the answers so far are stored.
    """
    _count_tokens(composition, str(folder.model("model")))
    answers: dict[str, list[AnsweredPuzzle]] = {}
    models = [name for name in ("model", "warmup") if folder.model(name).is_dir()]
    with progress:
        progress.start(len(models) * len(heldout), detail=" and ".join(f"{name}/" for name in models))
        for name in models:
            answers[name] = _answers_of_run(recipe, folder, name, heldout, stop, progress)
    sets: list[SetLog] = []
    for set_name in heldout.names:
        rows = heldout.rows_of(set_name)
        per_model = {name: [all_answers[row] for row in rows] for name, all_answers in answers.items()}
        sets.append(set_log(set_name or "", per_model["model"], composition, warmup=per_model.get("warmup")))
    data = [str(path) for path in folder.read_sets()["eval"]] if folder.data.is_file() else []
    log = EvalLog(
        argv=json.loads(folder.info.read_text(encoding="utf-8"))["argv"] if folder.info.is_file() else command_line(),
        versions=versions(),
        settings=generation_of(recipe).settings() | {"model": "model", "data": data},
        rewards=list(recipe.rewards),
        sets=sets,
    )
    write_log(log, folder.path)


def _vllm_settings(recipe: Recipe) -> VllmSettings:
    """vLLM's settings for rollouts, with the completion limit of the evaluation, and on all free memory."""
    from jigsaw.engines.vllm_requests import VllmSettings

    rollout = recipe.rollout
    extra = recipe.completion_limit - (recipe.grpo.max_completion_length if recipe.grpo is not None else 0)
    return VllmSettings(
        dtype=recipe.model.dtype,
        seed=recipe.seed,
        max_model_len=rollout.max_model_len + max(extra, 0),
        tensor_parallel_size=rollout.tensor_parallel_size,
        enforce_eager=rollout.enforce_eager,
    )


def generation_of(recipe: Recipe) -> Generation:
    """The settings with which a run evaluates its model."""
    return Generation(
        dtype=recipe.model.dtype, batch_size=recipe.evaluation.batch_size, max_new_tokens=recipe.completion_limit
    )


def _answers_of_run(
    recipe: Recipe, folder: RunFolder, model: str, heldout: HeldOut, stop: StopRequest, progress: StepProgress
) -> list[AnsweredPuzzle]:
    """The answers of a model to the held-out puzzles. Puzzles that these weights have answered are not repeated."""
    checkpoint = folder.model(model)
    generation = replace(generation_of(recipe), engine=recipe.rollout.engine)
    stamp = file_stamp(checkpoint)

    def on_batch(count: int) -> None:
        progress.advance(count)
        stop.check("in its evaluation")

    with stop.deferred("after this batch of held-out puzzles"):
        return answer_rest(
            lambda: open_engine(str(checkpoint), generation, _vllm_settings(recipe)),
            heldout.ids,
            heldout.__getitem__,
            path=folder.answers / f"{model}-{stamp}" / COMPLETIONS,
            settings={"model": model, "model_stamp": stamp, **generation.settings()},
            batch_size=generation.batch_size,
            on_batch=on_batch,
        )
