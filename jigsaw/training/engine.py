"""Creates the engine that samples completions for a trainer, and its sampling settings, from a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jigsaw.config.schema import RolloutSection
from jigsaw.engines import Engine, Sampling
from jigsaw.training.agreement import warn_of_truncation

if TYPE_CHECKING:
    from jigsaw.engines.serving import Address
    from jigsaw.training.trainer import PuzzleTrainer


def rollout_engine(trainer: PuzzleTrainer, rollout: RolloutSection, server: Address | None, *, shared: bool) -> Engine:
    """The engine of a recipe. Collective.

    Args:
        trainer: the trainer whose policy is sampled.
        rollout: the recipe's `rollout` section.
        server: address of the server, in server mode.
        shared: whether transformers computes a prompt once per group.
    """
    args, processor = trainer.args, trainer.processing_class
    if rollout.engine == "transformers":
        from jigsaw.engines.transformers import TransformersEngine

        return TransformersEngine(None, processor, shared=shared)
    warn_of_truncation(top_p=args.top_p, top_k=args.top_k, min_p=args.min_p)
    dtype = "bfloat16" if args.bf16 else "float32"  # of the forward passes; weights may be kept in float32
    if rollout.uses_server:
        from jigsaw.engines.vllm_server import VllmServer

        assert server is not None  # the stage passes it in server mode
        folder = Path(args.output_dir) / "weights"
        return VllmServer(server, processor, dtype=dtype, room=rollout.max_model_len, folder=folder)
    from jigsaw.engines.vllm import colocated_engine

    own_completions = args.generation_batch_size // trainer.accelerator.num_processes
    return colocated_engine(
        trainer.policy.unwrapped.config,
        processor,
        rollout,
        device=trainer.accelerator.device,
        dtype=dtype,
        seed=args.seed,
        completions=own_completions,
    )


def sampling_of(trainer: PuzzleTrainer) -> Sampling:
    """The sampling settings of training; rollouts add the seeds."""
    args = trainer.args
    return Sampling(
        count=trainer.num_generations,
        max_tokens=trainer.max_completion_length,
        temperature=args.temperature,
        top_p=args.top_p,
        top_k=args.top_k,
        min_p=args.min_p or 0.0,
        forbidden_tokens=tuple(trainer.forbidden_tokens),
        end_tokens=tuple(trainer.eos_token_ids),
    )
