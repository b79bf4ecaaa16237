"""The GRPO stage: a trainer and its rollouts, put together from what a recipe says."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from jigsaw.config.schema import RolloutSection, SamplingSection
from jigsaw.errors import JigsawError
from jigsaw.models.self_check import check_shared_prompt
from jigsaw.rewards import Composition
from jigsaw.training.agreement import Agreement
from jigsaw.training.curriculum import Curriculum
from jigsaw.training.groups import DynamicSampling, Group
from jigsaw.training.order import Order
from jigsaw.training.prompts import Chosen, InOrder
from jigsaw.training.rollouts import Supply
from jigsaw.training.samplers import sampler_of
from jigsaw.training.serving import Address
from jigsaw.training.stability import StabilityWatch
from jigsaw.training.trainer import PuzzleTrainer

if TYPE_CHECKING:
    from jigsaw.training.trainer import Stateful


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
    choosing: bool = False,
    server: Address | None = None,
    shuffle: bool = False,
    tokens_per_micro_batch: int | None = None,
    record: Callable[..., None] | None = None,
    callbacks: Sequence[Any] = (),
) -> PuzzleTrainer:
    """A trainer for puzzles, ready for `train()`.

    Args:
        model: trained in place.
        processor: of the same checkpoint.
        puzzles: the training set.
        config: TRL's GRPOConfig.
        composition: the rewards that are optimised (their weights are in the configuration) and the watched metrics.
        rollout: who samples completions.
        sampling: how groups are made.
        curriculum: where fresh puzzles come from, for dynamic sampling.
        choosing: whether the curriculum chooses every puzzle; else `puzzles` gives them in order.
        server: where the server is, in server mode.
        shuffle: whether each epoch has an order of its own.
        tokens_per_micro_batch: tokens that a micro-batch computes at most; None goes by the configuration.
        record: gets what was scored, `RecordedComposition.remember`.
        callbacks: of transformers.

    Raises:
        JigsawError: dynamic sampling without a curriculum to draw from.
    """
    sampling = sampling or SamplingSection()
    if curriculum is None and (sampling.dynamic or choosing):
        raise JigsawError("sampling.dynamic: there is nothing to draw fresh puzzles from")
    dynamic = DynamicSampling(sampling.max_resamples) if sampling.dynamic else None
    watch = next((callback for callback in callbacks if isinstance(callback, StabilityWatch)), None)
    states: dict[str, Stateful | None] = {"curriculum": curriculum, "sampling": dynamic, "stability": watch}

    def supply(trainer: PuzzleTrainer) -> Supply:
        args, rank = trainer.args, trainer.accelerator.process_index
        prompts = args.generation_batch_size // args.num_generations
        share = prompts // trainer.accelerator.num_processes
        chosen = None if curriculum is None else Chosen(curriculum, share=share, rank=rank)
        trained = args.max_steps * args.gradient_accumulation_steps
        generations = math.ceil(trained / (args.steps_per_generation * args.num_iterations))
        order = Order(len(puzzles), prompts, seed=args.seed, shuffle=shuffle)

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

        return Supply(
            prompts=chosen
            if choosing and chosen is not None
            else InOrder(puzzles, order, share=share, rank=rank, last=generations - 1),
            sampler=sampler_of(trainer, rollout, server, shared=sampling.shared_prefix),
            composition=composition,
            curriculum=curriculum if choosing or dynamic is not None else None,
            fresh=chosen,
            dynamic=dynamic,
            record=record,
            tokens_per_micro_batch=tokens_per_micro_batch,
            inspect=inspect if sampling.self_check else None,
        )

    return PuzzleTrainer(
        model=model,
        processing_class=processor,
        args=config,
        supply=supply,
        reward_names=composition.names,
        rows=len(puzzles),
        agreement=Agreement(rollout.max_logp_difference),
        samples_elsewhere=rollout.engine == "vllm",
        shared_prefix=sampling.shared_prefix,
        states={name: part for name, part in states.items() if part is not None},
        callbacks=list(callbacks),
    )
