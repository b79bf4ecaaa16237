"""A training stage of a run, supervised or GRPO, in one process or in several.

In: a run folder with `data.json`, and the start checkpoint. Out: the stage's checkpoint in transformers format or, with
LoRA, adapters in `adapters/STAGE`, which `merge` merges into a checkpoint. During the stage, `metrics.jsonl` and
checkpoints to resume from are written. All processes of a stage run this code, and only the first one writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from jigsaw.config.schema import Recipe
from jigsaw.files import atomic_path
from jigsaw.run_folder import RunFolder, checkpoint_step, latest_checkpoint
from jigsaw.stop_request import StopRequest
from jigsaw.training.distributed import process_rank
from jigsaw.training.sets import StageName, mixture, sets_of_stage

if TYPE_CHECKING:
    from jigsaw.training.checkpoints import CheckpointCallback
    from jigsaw.training.logs import MetricsLog
    from jigsaw.training.trackers import Trackers
    from jigsaw.training.trainable import Trainable


@dataclass(frozen=True)
class Stage:
    """A stage of a recipe.

    Attributes:
        name: `sft` or `grpo`.
        start: the checkpoint to start from.
        out: name of the trained checkpoint in the run folder.
    """

    name: StageName
    start: str
    out: str


@dataclass(frozen=True)
class StageRun:
    """The context of a stage's training.

    Attributes:
        recipe: the recipe of the run.
        stage: the stage to train.
        folder: the run folder.
        console: the console on which the first process prints progress.
        stop: the stop request, which is read after every step.
    """

    recipe: Recipe
    stage: Stage
    folder: RunFolder
    console: Console
    stop: StopRequest

    @property
    def scratch(self) -> Path:
        """The folder that TRL writes to."""
        return self.folder.scratch / self.stage.name

    @property
    def is_first(self) -> bool:
        """Whether this is the first process, the only one that writes."""
        return process_rank() == 0


def stages_of(recipe: Recipe, folder: RunFolder) -> list[Stage]:
    """The stages of a recipe, in order."""
    start = recipe.model.path or str(folder.start)
    stages: list[Stage] = []
    if recipe.sft is not None:
        stages.append(Stage("sft", start, "model" if recipe.grpo is None else "warmup"))
        start = str(folder.model(stages[-1].out))
    if recipe.grpo is not None:
        stages.append(Stage("grpo", start, "model"))
    return stages


def train_stage(recipe: Recipe, stage: Stage, folder: RunFolder, console: Console, stop: StopRequest) -> int | None:
    """Train a stage, from its latest checkpoint if there is one.

    Args:
        recipe: the recipe of the run.
        stage: one of `stages_of(recipe, folder)`.
        folder: the run folder.
        console: the console on which the first process prints progress.
        stop: the stop request, which is read after every step.

    Returns:
        None if the stage is complete; otherwise the step after which it was saved and stopped.

    Raises:
        JigsawError: a problem with data, model or settings that the user can correct.
    """
    from transformers import set_seed

    set_seed(recipe.seed)
    run = StageRun(recipe, stage, folder, console, stop)
    if stage.name == "sft":
        from jigsaw.training.sft import run_sft

        return run_sft(run)
    from jigsaw.training.grpo import run_grpo

    return run_grpo(run)


def merge(recipe: Recipe, stage: Stage, folder: RunFolder, out: Path) -> None:
    """Write the checkpoint of a stage that trained adapters: its start checkpoint with the adapters merged."""
    from peft import PeftModel

    from jigsaw.models.load import load_model, load_processor

    model = PeftModel.from_pretrained(load_model(stage.start, recipe.model.dtype), folder.adapters(stage.name))
    model.merge_and_unload().save_pretrained(out)
    load_processor(stage.start, **recipe.model.processing).save_pretrained(out)


def require_puzzles(recipe: Recipe, train_sets: Sequence[Any]) -> None:
    """Check before the warm-up that GRPO has the puzzles that it needs.

    Raises:
        JigsawError: there are fewer puzzles than a step needs, or no set has the pieces of a curriculum stage.
    """
    from jigsaw.training.order import require_batch

    if recipe.grpo is not None:
        require_batch(mixture(recipe, train_sets, "grpo"), recipe.grpo.prompts_per_step)
        curriculum_of(recipe, train_sets)


def curriculum_of(recipe: Recipe, train_sets: Sequence[Any]) -> Any:
    """The curriculum of a recipe; None if it uses neither a curriculum nor dynamic sampling.

    Raises:
        JigsawError: no set has the pieces of a curriculum stage.
    """
    from jigsaw.training.curriculum import Curriculum

    if recipe.curriculum.mode == "none" and not recipe.sampling.dynamic:
        return None
    used = sets_of_stage(recipe, train_sets, "grpo")
    sets, weights = [puzzles for puzzles, _ in used], [weight for _, weight in used]
    return Curriculum(sets, weights, recipe.curriculum, seed=recipe.seed)


def start_model(run: StageRun, config: Any) -> tuple[Any, Trainable, int]:
    """The model to train, from the latest checkpoint of the stage or from its start.

    The trainer's configuration must exist before, since with ZeRO-3 it makes transformers load the model in shards.

    Args:
        run: the run of the stage.
        config: the configuration of TRL's trainer; its `resume_from_checkpoint` is set.

    Returns:
        The model, how much of it is trained, and the step from which training continues (0 at the start).
    """
    from jigsaw.models.load import limit_threads, load_model
    from jigsaw.training.trainable import prepare

    recipe, stage = run.recipe, run.stage
    latest = latest_checkpoint(run.folder.checkpoints(stage.name))
    config.resume_from_checkpoint = None if latest is None else str(latest)
    sharded, adapted = recipe.distributed.zero > 0, recipe.model.lora is not None
    if latest is None or sharded or adapted:  # the trainer reads shards and adapters from its checkpoint itself
        model = load_model(stage.start, recipe.model.dtype)
    else:
        # The trainer would also read full weights, but by their names in memory; the files have the names of the hub,
        # and weights whose names do not match are skipped with a warning (transformers 5.17). Checkpoints are float32.
        model = load_model(str(latest), "float32")
        model.config._name_or_path = stage.start  # TRL opens the reference model of the KL term from here
    model, trainable = prepare(limit_threads(model), recipe.model, sharded=sharded)
    model.train()
    return model, trainable, 0 if latest is None else checkpoint_step(latest)


def checkpoints_of(run: StageRun, *, boundary: int = 1) -> CheckpointCallback:
    """The callback that writes the stage's checkpoints and handles a stop request.

    Args:
        run: the run of the stage.
        boundary: optimizer steps per generation batch.
    """
    from jigsaw.training.checkpoints import CheckpointCallback

    recipe = run.recipe
    return CheckpointCallback(
        run.folder.checkpoints(run.stage.name),
        every=recipe.checkpoint.every,
        keep=recipe.checkpoint.keep,
        boundary=boundary,
        stop=run.stop,
    )


def metrics_log(run: StageRun, done: int) -> MetricsLog:
    """The run's log, truncated to the step from which training continues."""
    from jigsaw.training.logs import MetricsLog

    log = MetricsLog(run.folder.metrics)
    if run.is_first:
        log.truncate(run.stage.name, after=done)
    return log


def trackers_of(run: StageRun) -> Trackers | None:
    """The trackers of the stage; None if the recipe has none or this is not the first process."""
    from jigsaw.training.trackers import Trackers

    if not run.is_first or not run.recipe.logging.report_to:
        return None
    return Trackers(run.recipe, run.folder.path, run.stage.name)


def write_result(run: StageRun, trainer: Any, processor: Any) -> None:
    """Write the trained weights, gathered from all processes, under the stage's name; only the first process writes."""
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if not run.is_first:
        return
    model = trainer.accelerator.unwrap_model(trainer.model)
    adapted = run.recipe.model.lora is not None
    target = run.folder.adapters(run.stage.name) if adapted else run.folder.model(run.stage.out)
    target.parent.mkdir(exist_ok=True)
    with atomic_path(target) as partial:
        _save(model, weights, run.recipe.model.dtype, partial)
        processor.save_pretrained(partial)


def _save(model: Any, weights: Mapping[str, Any], dtype: str, path: Path) -> None:
    """Save weights in the recipe's dtype; adapters are saved in the dtype that they were trained in."""
    import torch
    from peft import PeftModel

    if isinstance(model, PeftModel):
        model.save_pretrained(path, state_dict=weights)
        return
    target = getattr(torch, dtype)
    cast = {name: value.to(target) if value.is_floating_point() else value for name, value in weights.items()}
    model.save_pretrained(path, state_dict=cast)
    model.config.dtype = target  # save_pretrained has written the dtype of the model in memory
    model.config.save_pretrained(path)
