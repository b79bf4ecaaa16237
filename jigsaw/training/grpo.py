"""The GRPO stage: creates model, rewards, trainer and rollouts from a recipe, and trains.

In: a recipe, and the run folder with its puzzle sets. Out: the trained model in that folder. `run_grpo` runs the
complete stage; `grpo_trainer` creates the trainer (`jigsaw.training.trainer`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

import torch

from jigsaw.config.schema import RolloutSection, SamplingSection
from jigsaw.console import RunConsole
from jigsaw.engines.serving import Address, server_address
from jigsaw.errors import JigsawError
from jigsaw.models.load import load_processor, vision_token_ids
from jigsaw.models.prompt_batch import PromptBatch
from jigsaw.models.prompts import completion_tokens
from jigsaw.models.self_check import check_shared_prompt
from jigsaw.rewards import Composition
from jigsaw.training.agreement import Agreement
from jigsaw.training.completions import RecordedComposition
from jigsaw.training.curriculum import Curriculum
from jigsaw.training.distributed import process_count
from jigsaw.training.engine import rollout_engine, sampling_of
from jigsaw.training.groups import DynamicSampling, Group
from jigsaw.training.logs import StageCallback
from jigsaw.training.order import Order, require_batch
from jigsaw.training.periodic import LiveReport, chance_levels, evaluator
from jigsaw.training.prompts import CurriculumPrompts, OrderedPrompts
from jigsaw.training.rollouts import RolloutSetup
from jigsaw.training.sets import mixture
from jigsaw.training.sharding import deepspeed_config
from jigsaw.training.stability import StabilityWatch
from jigsaw.training.stages import (
    StageRun,
    checkpoints_of,
    curriculum_of,
    metrics_log,
    start_model,
    trackers_of,
    write_result,
)
from jigsaw.training.trainer import PuzzleTrainer
from jigsaw.training.trl_config import grpo_config

if TYPE_CHECKING:
    from jigsaw.engines import AsyncEngine
    from jigsaw.training.trainer import Stateful


def run_grpo(run: StageRun) -> int | None:
    """Train the GRPO stage of a recipe.

    Returns:
        None if the stage is complete; otherwise the step after which it was saved and stopped.
    """
    recipe, section = run.recipe, run.recipe.grpo
    assert section is not None
    processor = load_processor(run.stage.start, **recipe.model.processing)
    keep = recipe.logging.completions if run.is_first else 0
    composition = RecordedComposition(recipe.rewards, recipe.metrics, keep=keep)
    composition.tokenize = completion_tokens(processor)
    config = grpo_config(
        recipe,
        run.scratch,
        vision_token_ids(processor),
        list(composition.weights),
        world_size=process_count(),
        deepspeed=deepspeed_config(recipe),
    )
    sets = run.folder.open_train(recipe)
    puzzles = mixture(recipe, sets, "grpo")
    prompts = config.generation_batch_size // config.num_generations
    require_batch(puzzles, prompts)
    boundary = config.steps_per_generation * config.num_iterations // config.gradient_accumulation_steps
    if config.max_steps <= 0:
        config.max_steps = max(1, int(config.num_train_epochs * len(puzzles) / prompts)) * boundary
    model, trainable, done = start_model(run, config)
    log = _log(run, processor, composition, done, str(trainable), lambda: trainer)
    checkpoints = checkpoints_of(run, boundary=boundary)
    # The model is also written inside the block, since it has the steps after the last checkpoint.
    with run.stop.deferred("after this step and saving"), closing(log), checkpoints.explain_save_errors():
        trainer = grpo_trainer(
            model=model,
            processor=processor,
            puzzles=puzzles,
            config=config,
            composition=composition,
            rollout=recipe.rollout,
            sampling=recipe.sampling,
            curriculum=curriculum_of(recipe, sets),
            use_curriculum=recipe.curriculum.mode != "none",
            server=server_address(recipe, os.environ.get("MASTER_ADDR")),
            shuffle=section.shuffle_dataset,
            tokens_per_micro_batch=section.tokens_per_micro_batch,
            record=composition.record,
            callbacks=[log, checkpoints, StabilityWatch(recipe.stability)],
        )
        trainer.train(resume_from_checkpoint=config.resume_from_checkpoint)
        if checkpoints.stopped_at is None:
            write_result(run, trainer, processor)
    trainer.rollouts.engine.close()  # the last, since it may end the process group
    return checkpoints.stopped_at


def _log(
    run: StageRun,
    processor: Any,
    composition: RecordedComposition,
    done: int,
    detail: str,
    trainer: Callable[[], PuzzleTrainer],
) -> Any:
    """The callback that logs the stage and runs periodic evaluations."""
    recipe, folder = run.recipe, run.folder
    if run.is_first:
        composition.truncate(folder.completions, after=done)
    heldout = folder.open_heldout(recipe).main
    return StageCallback(
        "grpo",
        metrics_log(run, done),
        RunConsole(run.console, recipe).progress("grpo"),
        detail=detail,
        metrics=recipe.metrics,
        chance=chance_levels(run, composition) if run.is_first else {},
        evaluate=evaluator(run, processor, composition, heldout, trainer),
        every=recipe.evaluation.every if len(heldout) else 0,
        on_evaluation=LiveReport(folder.path, run.console, run.recipe.data.heldout_tasks),
        trackers=trackers_of(run),
        completions=composition.writer(folder.completions, every=recipe.logging.completions_every),
    )


def grpo_trainer(
    *,
    model: Any,
    processor: Any,
    puzzles: Any,
    config: Any,
    composition: Composition,
    rollout: RolloutSection,
    sampling: SamplingSection | None = None,
    curriculum: Curriculum | None = None,
    use_curriculum: bool = False,
    server: Address | None = None,
    shuffle: bool = False,
    tokens_per_micro_batch: int | None = None,
    record: Callable[..., None] | None = None,
    callbacks: Sequence[Any] = (),
) -> PuzzleTrainer:
    """A trainer for puzzles, ready for `train()`.

    Args:
        model: the model, trained in place.
        processor: the processor of the same checkpoint.
        puzzles: the training set.
        config: TRL's GRPOConfig.
        composition: the rewards to optimise (their weights are in the configuration) and the logged metrics.
        rollout: the recipe's `rollout` section.
        sampling: the recipe's `sampling` section.
        curriculum: the source of fresh puzzles for dynamic sampling.
        use_curriculum: whether the curriculum chooses all puzzles; otherwise they come from `puzzles` in order.
        server: address of the server, in server mode.
        shuffle: whether to shuffle the puzzles in every epoch.
        tokens_per_micro_batch: maximum tokens of a micro-batch; None to use the configuration's batch size.
        record: called with each scored batch, `RecordedComposition.record`.
        callbacks: callbacks of transformers.

    Raises:
        JigsawError: dynamic sampling has no curriculum to sample from.
    """
    sampling = sampling or SamplingSection()
    if curriculum is None and (sampling.dynamic or use_curriculum):
        raise JigsawError("sampling.dynamic: there is no curriculum to sample fresh puzzles from")
    dynamic = DynamicSampling(sampling.max_resamples) if sampling.dynamic else None
    watch = next((callback for callback in callbacks if isinstance(callback, StabilityWatch)), None)
    states: dict[str, Stateful | None] = {"curriculum": curriculum, "sampling": dynamic, "stability": watch}

    def setup(trainer: PuzzleTrainer) -> RolloutSetup:
        args, rank = trainer.args, trainer.accelerator.process_index
        prompts = args.generation_batch_size // args.num_generations
        share = prompts // trainer.accelerator.num_processes
        chosen = None if curriculum is None else CurriculumPrompts(curriculum, share=share, rank=rank)
        trained = args.max_steps * args.gradient_accumulation_steps
        generations = math.ceil(trained / (args.steps_per_generation * args.num_iterations))
        order = Order(len(puzzles), prompts, seed=args.seed, shuffle=shuffle)

        def encode(rows: Sequence[Mapping[str, Any]]) -> PromptBatch:
            return PromptBatch.encode(trainer.model, processor, rows, trainer.accelerator.device)

        def inspect(groups: Sequence[Group]) -> None:
            dtype = torch.bfloat16 if args.bf16 else torch.float32
            group = groups[0]
            with trainer.accelerator.autocast():
                check_shared_prompt(
                    trainer.model,
                    processor,
                    group.row,
                    group.encoded.select([group.prompt]),
                    group.completions,
                    shared=sampling.shared_prefix,
                    dtype=dtype,
                )

        engine = rollout_engine(trainer, rollout, server, shared=sampling.shared_prefix)
        return RolloutSetup(
            prompts=chosen
            if use_curriculum and chosen is not None
            else OrderedPrompts(puzzles, order, encode, share=share, rank=rank, last=generations - 1),
            engine=engine,
            sampling=sampling_of(trainer),
            composition=composition,
            curriculum=curriculum if use_curriculum or dynamic is not None else None,
            fresh=chosen,
            dynamic=dynamic,
            record=record,
            tokens_per_micro_batch=tokens_per_micro_batch,
            inspect=inspect if sampling.self_check else None,
            ahead=cast("AsyncEngine", engine) if rollout.ahead else None,
            last=generations - 1,
        )

    return PuzzleTrainer(
        model=model,
        processing_class=processor,
        args=config,
        setup=setup,
        reward_names=composition.names,
        rows=len(puzzles),
        agreement=Agreement(rollout.max_logp_difference),
        samples_elsewhere=rollout.engine == "vllm",
        shared_prefix=sampling.shared_prefix,
        states={name: part for name, part in states.items() if part is not None},
        callbacks=list(callbacks),
    )
