"""Who samples completions during training: transformers with the trainer's own model, or vLLM kept in step with it.

In: rows, their prompts as the trainer has encoded them, and a seed for each. Out: `Completions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from trl.models import unwrap_model_for_generation

from jigsaw.config.schema import RolloutSection
from jigsaw.engines.serving import Address
from jigsaw.engines.transformers import sample, shaping
from jigsaw.engines.vllm import VllmEngine, check_room
from jigsaw.engines.vllm_server import VllmServer
from jigsaw.models.prompt_batch import PromptBatch
from jigsaw.models.prompts import expanded
from jigsaw.training.agreement import warn_of_truncation

if TYPE_CHECKING:
    from jigsaw.training.trainer import PuzzleTrainer

Row = dict[str, Any]


@dataclass(frozen=True)
class Completions:
    """Completions of N prompts, G of each, those of a prompt together.

    Attributes:
        tokens: `N * G` lists of token ids.
        log_probabilities: under which each token was sampled, if the engine tells.
    """

    tokens: list[list[int]]
    log_probabilities: list[list[float]] | None = None


class Sampler(Protocol):
    """Samples completions under the weights that the trainer has now."""

    def __call__(self, rows: Sequence[Row], prompts: PromptBatch | None, seeds: Sequence[int]) -> Completions:
        """Completions of rows. Collective, also where this process has none and `prompts` is None."""


def sampler_of(trainer: PuzzleTrainer, rollout: RolloutSection, server: Address | None, *, shared: bool) -> Sampler:
    """The sampler that a recipe asks for.

    Args:
        trainer: whose policy is sampled.
        rollout: of the recipe.
        server: where the server is, in server mode.
        shared: whether transformers computes a prompt once for its group.
    """
    if rollout.engine == "vllm":
        return VllmSampler(trainer, rollout, server)
    return TransformersSampler(trainer, shared=shared)


class TransformersSampler:
    """The trainer's own model, with its prompts prefilled once per group."""

    def __init__(self, trainer: PuzzleTrainer, *, shared: bool) -> None:
        self._trainer, self._shared = trainer, shared

    def __call__(self, rows: Sequence[Row], prompts: PromptBatch | None, seeds: Sequence[int]) -> Completions:
        """See `Sampler`."""
        trainer = self._trainer
        with unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator) as model:
            if prompts is None:
                return Completions([])
            tokens = sample(
                model,
                prompts,
                trainer.num_generations,
                logits_processors=shaping(trainer.args, trainer.forbidden_tokens, trainer.accelerator.device),
                max_new_tokens=trainer.max_completion_length,
                eos_token_ids=trainer.eos_token_ids,
                seeds=seeds,
                shared=self._shared,
            )
        return Completions(tokens)


class VllmSampler:
    """vLLM, beside the trainer or as a server; it gets the weights when they have changed."""

    def __init__(self, trainer: PuzzleTrainer, rollout: RolloutSection, server: Address | None) -> None:
        self._trainer, self._rollout, self._synced = trainer, rollout, -1
        args = trainer.args
        warn_of_truncation(top_p=args.top_p, top_k=args.top_k, min_p=args.min_p)
        dtype = "bfloat16" if args.bf16 else "float32"  # of the passes; weights may be kept in float32
        self._engine: VllmEngine | VllmServer
        if rollout.served:
            assert server is not None  # the stage knows it
            folder = Path(args.output_dir) / "weights"
            self._engine = VllmServer(server, trainer.forbidden_tokens, dtype=dtype, folder=folder)
            return
        self._engine = VllmEngine(
            trainer.accelerator.unwrap_model(trainer.model),
            trainer.processing_class,
            rollout,
            trainer.forbidden_tokens,
            on_cpu=trainer.accelerator.device.type == "cpu",
            dtype=dtype,
            seed=args.seed,
        )

    def __call__(self, rows: Sequence[Row], prompts: PromptBatch | None, seeds: Sequence[int]) -> Completions:
        """See `Sampler`.

        Raises:
            JigsawError: vLLM read other prompts than the trainer, has no room for one, or wrote a vision token.
        """
        trainer, args = self._trainer, self._trainer.args
        step = trainer.state.global_step
        if self._rollout.sleep or self._synced != step:  # asleep, the engine forgets its weights
            self._engine.sync(trainer.accelerator.unwrap_model(trainer.model))
            self._synced = step
        prompt_ids = [] if prompts is None else prompts.token_lists()
        rows = [dict(expanded(trainer.processing_class, row)) for row in rows]
        check_room(rows, prompt_ids, trainer.max_completion_length, self._rollout.max_model_len)
        tokens, log_probabilities = self._engine.generate(
            rows,
            prompt_ids,
            trainer.num_generations,
            seeds=seeds,
            max_tokens=trainer.max_completion_length,
            end_tokens=trainer.eos_token_ids,  # of the generation settings, which the engine's folder has none of
            temperature=args.temperature,
            top_p=args.top_p,
            top_k=args.top_k,
            min_p=args.min_p or 0.0,
        )
        return Completions(tokens, log_probabilities)
