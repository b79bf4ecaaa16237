"""One training stage of a run, in this process or as one of several: supervised answers, or GRPO.

In: a run folder with `data.json` and the checkpoint to start from. Out: the stage's own checkpoint, in plain
transformers format; with adapters, those in `adapters/STAGE`, which `merge` turns into one. In between, `metrics.jsonl`
grows and checkpoints to resume from come and go. All processes of a stage run this; the first alone writes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from jigsaw.config.schema import Recipe
from jigsaw.files import written_whole
from jigsaw.run_folder import RunFolder, checkpoint_step, latest_checkpoint
from jigsaw.stop_request import StopRequest
from jigsaw.training.sets import StageName, mixture, used_in

if TYPE_CHECKING:
    from jigsaw.training.logs import PeriodicEvaluation

CHANCE_PUZZLES = 64
"""Puzzles of each training set from which the chance level on the console is computed."""


@dataclass(frozen=True)
class Stage:
    """A stage of a recipe.

    Attributes:
        name: `sft` or `grpo`.
        start: the checkpoint that it starts from.
        out: name of the checkpoint that it leaves in the run folder.
    """

    name: StageName
    start: str
    out: str


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
        recipe: of the run.
        stage: one of `stages_of(recipe, folder)`.
        folder: the run folder.
        console: where the first process tells of progress.
        stop: asked after every step.

    Returns:
        None once the stage's result is written; the step after which it was saved if it was asked to stop.

    Raises:
        JigsawError: anything about data, model or settings that the user can mend.
    """
    return _Training(recipe, stage, folder, console, stop).carry_out()


def merge(recipe: Recipe, stage: Stage, folder: RunFolder, out: Path) -> None:
    """Write the checkpoint of a stage that trained adapters: its start with the adapters added to the weights."""
    from peft import PeftModel

    from jigsaw.models.load import load_model, load_processor

    model = PeftModel.from_pretrained(load_model(stage.start, recipe.model.dtype), folder.adapters(stage.name))
    model.merge_and_unload().save_pretrained(out)
    load_processor(stage.start, **recipe.model.image.model_dump()).save_pretrained(out)


def require_puzzles(recipe: Recipe, train_sets: Sequence[Any]) -> None:
    """Refuse GRPO without the puzzles that it needs: before the warm-up, not after it.

    Raises:
        JigsawError: fewer puzzles than a step takes, or a stage of the curriculum asks for pieces that no set has.
    """
    from jigsaw.training.order import require_batch

    if recipe.grpo is not None:
        require_batch(mixture(recipe, train_sets, "grpo"), recipe.grpo.prompts_per_step)
        curriculum_of(recipe, train_sets)


def curriculum_of(recipe: Recipe, train_sets: Sequence[Any]) -> Any:
    """Where GRPO's puzzles come from, if a recipe asks for more than the order of the sets; else None.

    Raises:
        JigsawError: a stage of the curriculum asks for pieces that no set has.
    """
    from jigsaw.training.curriculum import Curriculum

    if recipe.curriculum.mode == "none" and not recipe.sampling.dynamic:
        return None
    used = used_in(recipe, train_sets, "grpo")
    sets, weights = [puzzles for puzzles, _ in used], [weight for _, weight in used]
    return Curriculum(sets, weights, recipe.curriculum, seed=recipe.seed)


class _Training:
    """What the steps of one stage share."""

    def __init__(self, recipe: Recipe, stage: Stage, folder: RunFolder, console: Console, stop: StopRequest) -> None:
        import torch.distributed as dist

        self._recipe, self._stage, self._folder, self._console, self._stop = recipe, stage, folder, console, stop
        self._rank: int = dist.get_rank() if dist.is_initialized() else 0
        self._size: int = dist.get_world_size() if dist.is_initialized() else 1
        self._scratch = folder.scratch / stage.name
        self._checkpoints = folder.checkpoints(stage.name)

    def carry_out(self) -> int | None:
        from transformers import set_seed

        from jigsaw.models.load import load_model, load_processor
        from jigsaw.models.prompts import completion_tokens
        from jigsaw.training.checkpoints import CheckpointCallback
        from jigsaw.training.sft import AccuracyStop
        from jigsaw.training.stability import StabilityWatch
        from jigsaw.training.trainable import prepare

        recipe, stage = self._recipe, self._stage
        set_seed(recipe.seed)
        processor = load_processor(stage.start, **recipe.model.image.model_dump())
        composition = self._composition()
        composition.tokenize = completion_tokens(processor)
        # Before the model: with ZeRO-3 it is the configuration that makes transformers load it in shards.
        config = self._config(processor, composition)
        puzzles, boundary = self._puzzles(config)
        latest = latest_checkpoint(self._checkpoints)
        config.resume_from_checkpoint = None if latest is None else str(latest)
        done = 0 if latest is None else checkpoint_step(latest)
        sharded, adapted = recipe.distributed.zero > 0, recipe.model.lora is not None
        if latest is None or sharded or adapted:  # the trainer reads shards and adapters from its checkpoint itself
            model = load_model(stage.start, recipe.model.dtype)
        else:
            # It would also read whole weights, but by their names in memory; files have those of the hub, and what does
            # not match is skipped with a warning (transformers 5.17). Trained weights are float32 there.
            model = load_model(str(latest), "float32")
            model.config._name_or_path = stage.start  # where TRL opens what grpo.beta measures the distance from
        model, trainable = prepare(model, recipe.model, sharded=sharded)
        model.train()
        checkpoints = CheckpointCallback(
            self._checkpoints,
            every=recipe.checkpoint.every,
            keep=recipe.checkpoint.keep,
            boundary=boundary,
            stop=self._stop,
        )
        log = self._log(model, processor, composition, done, str(trainable))
        callbacks = [log, checkpoints]
        if stage.name == "grpo":
            callbacks.append(StabilityWatch(recipe.stability))
        elif recipe.sft is not None and recipe.sft.stop_at_accuracy is not None:
            callbacks.append(AccuracyStop(recipe.sft.stop_at_accuracy))
        # The model is written inside of the block too: it has the steps since the last checkpoint.
        with self._stop.heeded("after this step and saving"), closing(log), checkpoints.explained():
            trainer = self._train(model, processor, puzzles, composition, config, callbacks)
            if checkpoints.stopped_at is None:
                self._write(trainer, processor)
        return checkpoints.stopped_at

    def _composition(self) -> Any:
        from jigsaw.training.completions import RecordedComposition

        keep = self._recipe.logging.completions if self._rank == 0 else 0
        return RecordedComposition(self._recipe.rewards, self._recipe.metrics, keep=keep)

    def _config(self, processor: Any, composition: Any) -> Any:
        from jigsaw.models.load import vision_token_ids
        from jigsaw.training.sharding import deepspeed_config
        from jigsaw.training.trl_config import grpo_config, sft_config

        sharding = deepspeed_config(self._recipe)
        if self._stage.name == "sft":
            return sft_config(self._recipe, self._scratch, world_size=self._size, deepspeed=sharding)
        return grpo_config(
            self._recipe,
            self._scratch,
            vision_token_ids(processor),
            list(composition.weights),
            world_size=self._size,
            deepspeed=sharding,
        )

    def _puzzles(self, config: Any) -> tuple[Any, int]:
        """The rows of the stage, and the steps that are trained on one generation batch."""
        from jigsaw.training.order import require_batch

        puzzles = mixture(self._recipe, self._folder.open_train(self._recipe), self._stage.name)
        if self._stage.name == "sft":
            if config.max_steps <= 0:
                step = config.per_device_train_batch_size * config.gradient_accumulation_steps * self._size
                config.max_steps = max(1, int(config.num_train_epochs * len(puzzles) / step))
            return puzzles, 1
        prompts = config.generation_batch_size // config.num_generations
        boundary = config.steps_per_generation * config.num_iterations // config.gradient_accumulation_steps
        if config.max_steps <= 0:
            config.max_steps = max(1, int(config.num_train_epochs * len(puzzles) / prompts)) * boundary
        require_batch(puzzles, prompts)
        return puzzles, boundary

    def _log(self, model: Any, processor: Any, composition: Any, done: int, detail: str) -> Any:
        """The callback that logs the stage, its log cut back to the step that training continues from."""
        from jigsaw.console import RunConsole
        from jigsaw.report.live import LiveReport
        from jigsaw.training.logs import MetricsLog, StageCallback
        from jigsaw.training.trackers import Trackers

        recipe, stage = self._recipe, self._stage.name
        log = MetricsLog(self._folder.metrics)
        progress = RunConsole(self._console, recipe).progress(stage)
        if self._rank == 0:
            log.forget(stage, after=done)
            composition.forget(self._folder.completions, after=done)
        trackers = Trackers(recipe, self._folder.path, stage) if self._rank == 0 and recipe.logging.report_to else None
        if stage == "sft":
            return StageCallback(stage, log, progress, detail=detail, trackers=trackers)
        heldout = self._folder.open_heldout(recipe).main
        rows = heldout.spread(recipe.evaluation.puzzles)

        def evaluate(step: int) -> PeriodicEvaluation:
            return self._evaluate(model, processor, rows, len(heldout), composition, step)

        return StageCallback(
            stage,
            log,
            progress,
            detail=detail,
            metrics=recipe.metrics,
            chance=self._chance(composition) if self._rank == 0 else {},
            evaluate=evaluate,
            every=recipe.evaluation.every if len(heldout) else 0,
            on_evaluation=LiveReport(self._folder.path, self._console),
            trackers=trackers,
            completions=composition.writer(self._folder.completions, every=recipe.logging.completions_every),
        )

    def _chance(self, composition: Any) -> Mapping[str, float]:
        """What guessing earns on the training puzzles, as far as that can be told from the puzzles alone."""
        from jigsaw.data.load import spread
        from jigsaw.evaluation.random_play import known_levels

        rows: list[Mapping[str, Any]] = []
        for puzzles, _ in used_in(self._recipe, self._folder.open_train(self._recipe), "grpo"):
            plain = puzzles.with_format(None)
            rows += [plain[number] for number in spread(len(plain), CHANCE_PUZZLES)]
        return known_levels(rows, composition)

    def _evaluate(
        self, model: Any, processor: Any, rows: Any, total: int, composition: Any, step: int
    ) -> PeriodicEvaluation:
        """Evaluate on held-out rows, each process solving its share of them."""
        from jigsaw.evaluation.predictions import write_periodic
        from jigsaw.evaluation.random_play import known_levels
        from jigsaw.evaluation.solve import solve
        from jigsaw.evaluation.summary import FIGURES, score
        from jigsaw.training.logs import PeriodicEvaluation
        from jigsaw.training.world import gathered_everywhere, whole_weights

        batch_size, limit = self._recipe.evaluation.batch_size, self._recipe.completion_limit
        with whole_weights(model):
            share = rows.share(self._rank, self._size)
            solved = gathered_everywhere(solve(model, processor, share, batch_size=batch_size, max_new_tokens=limit))
        scored = score(solved, composition)
        if self._rank == 0:
            write_periodic(self._folder.path, step, scored)
        figures = {name: sum(getattr(item, name) for item in scored) / len(scored) for name in FIGURES}
        return PeriodicEvaluation(figures, known_levels(solved, composition), len(scored), total)

    def _train(
        self, model: Any, processor: Any, puzzles: Any, composition: Any, config: Any, callbacks: Sequence[Any]
    ) -> Any:
        """Run the trainer, and give it back."""
        from jigsaw.training.grpo import grpo_trainer
        from jigsaw.training.serving import server_address
        from jigsaw.training.sft import train_sft

        recipe = self._recipe
        if self._stage.name == "sft":
            muon = recipe.sft is not None and recipe.sft.optim == "muon"
            return train_sft(model, processor, puzzles, config, callbacks, muon=muon)
        section = recipe.grpo
        assert section is not None
        trainer = grpo_trainer(
            model=model,
            processor=processor,
            puzzles=puzzles,
            config=config,
            composition=composition,
            rollout=recipe.rollout,
            sampling=recipe.sampling,
            curriculum=curriculum_of(recipe, self._folder.open_train(recipe)),
            choosing=recipe.curriculum.mode != "none",
            server=server_address(recipe, os.environ.get("MASTER_ADDR")),
            shuffle=section.shuffle_dataset,
            tokens_per_micro_batch=section.tokens_per_micro_batch,
            record=composition.remember,
            callbacks=callbacks,
        )
        trainer.train(resume_from_checkpoint=config.resume_from_checkpoint)
        return trainer

    def _write(self, trainer: Any, processor: Any) -> None:
        """The trained weights under the stage's name, written by the first process, gathered from all."""
        weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        if self._rank:
            return
        model = trainer.accelerator.unwrap_model(trainer.model)
        adapted = self._recipe.model.lora is not None
        target = self._folder.adapters(self._stage.name) if adapted else self._folder.model(self._stage.out)
        target.parent.mkdir(exist_ok=True)
        with written_whole(target) as partial:
            _save(model, weights, self._recipe.model.dtype, partial)
            processor.save_pretrained(partial)


def _save(model: Any, weights: Mapping[str, Any], dtype: str, path: Path) -> None:
    """Save in the recipe's dtype, whatever the weights were trained in; adapters stay as they are."""
    import torch
    from peft import PeftModel

    if isinstance(model, PeftModel):
        model.save_pretrained(path, state_dict=weights)
        return
    wanted = getattr(torch, dtype)
    cast = {name: value.to(wanted) if value.is_floating_point() else value for name, value in weights.items()}
    model.save_pretrained(path, state_dict=cast)
    model.config.dtype = wanted  # save_pretrained has written the dtype of the model in memory
    model.config.save_pretrained(path)
