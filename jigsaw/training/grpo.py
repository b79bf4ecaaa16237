"""GRPO on puzzles: TRL's GRPOTrainer, told what a puzzle is.

In: a puzzle set, rewards and a configuration. Out: the model, trained in place. What is added to TRL: metrics that are
watched beside the rewards, media that are counted on their way to the model, and prompts that are paid for once per
group instead of once per completion (`jigsaw.training.shared_prefix`).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from typing import Any

import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    PrinterCallback,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from trl import GRPOTrainer
from trl.models import unwrap_model_for_generation
from trl.trainer.utils import split_tensor_dict

from jigsaw.errors import JigsawError
from jigsaw.schema import RolloutSection
from jigsaw.training.shared_prefix import PromptBatch, log_probabilities, sample
from jigsaw.training.vllm_engine import VllmEngine
from rewards import Composition

MEDIA = ("images", "videos")

logger = logging.getLogger(__name__)


class PuzzleTrainer(GRPOTrainer):  # type: ignore[misc]  # TRL comes without types
    """TRL's GRPO trainer for puzzle sets.

    TRL renders, tokenizes, encodes and runs a prompt once per completion. Here the distinct prompts of a generation
    batch are encoded once, kept beside TRL's own tensors, and found again by `prompt_index`, the number of each row's
    prompt.

    Args:
        composition: the rewards that are optimised (their weights stand in the configuration) and the watched metrics.
        rollout: who samples completions.
        **kwargs: of `trl.GRPOTrainer`, less `reward_funcs`.
    """

    def __init__(self, *, composition: Composition, rollout: RolloutSection, **kwargs: Any) -> None:
        self._composition = composition
        functions, _ = composition.trl_functions()
        super().__init__(reward_funcs=functions, **kwargs)
        self.remove_callback(PrinterCallback)
        self._rows: list[dict[str, Any]] = []
        self._prompts: PromptBatch | None = None
        self._prompt_of_row: Any = None
        self._logps: Any = None
        self._sampled_logps: list[list[float]] | None = None
        self._warned = False
        self._rollout = rollout
        self._forbidden = list(self.args.generation_kwargs["suppress_tokens"])
        self._engine: VllmEngine | None = None
        if rollout.engine == "vllm":
            model = self.accelerator.unwrap_model(self.model)
            self._engine = VllmEngine(model, self.processing_class, rollout, self._forbidden, seed=self.args.seed)
            self._synced = -1
            self.use_vllm = True  # from here on TRL corrects for the difference of the two engines, if it is told to

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """As TRL, but completions are dealt to micro-batches by whole groups, so that they can share their prompt."""
        steps = self.args.steps_per_generation
        self._buffered_inputs: list[Any] | None
        if self._step % (steps * self.num_iterations) == 0 or self._buffered_inputs is None:
            batch = self._generate_and_score_completions(generation_batch)
            self._buffered_inputs = split_tensor_dict(batch, steps)
        return self._buffered_inputs[self._step % steps]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Any:
        numbers: dict[str, int] = {}
        rows: list[dict[str, Any]] = []
        for row in inputs:
            if row["id"] not in numbers:
                numbers[row["id"]] = len(rows)
                rows.append(row)
        device = self.accelerator.device
        model = self.accelerator.unwrap_model(self.model)
        self._rows = rows
        self._prompts = PromptBatch.encode(model, self.processing_class, rows, device)
        self._prompt_of_row = torch.tensor([numbers[row["id"]] for row in inputs], device=device)
        # Without its media a prompt costs TRL nothing to copy, and none of its passes can run on half of them.
        light = [{key: value for key, value in row.items() if key not in MEDIA} for row in inputs]
        output = super()._generate_and_score_completions(light)
        output["prompt_index"] = self._prompt_of_row
        if self._sampled_logps is not None:
            width = output["completion_ids"].shape[1]
            output["sampled_logps"] = torch.tensor(
                [logps + [0.0] * (width - len(logps)) for logps in self._sampled_logps], device=device
            )
        return output

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        assert self._prompts is not None
        tokens = self._prompts.token_lists()
        return [tokens[number] for number in self._prompt_of_row.tolist()], None, {}

    def _generate_single_turn(self, prompt_ids: Any, *_: Any, **__: Any) -> Any:
        assert self._prompts is not None
        counts = torch.bincount(self._prompt_of_row, minlength=len(self._prompts)).tolist()
        most = max(counts)
        sampled, logps = self._sample(most)
        taken = [0] * len(counts)
        chosen = []
        for number in self._prompt_of_row.tolist():
            chosen.append(number * most + taken[number])
            taken[number] += 1
        self._sampled_logps = None if logps is None else [logps[index] for index in chosen]
        return [sampled[index] for index in chosen], self._sampled_logps

    def _sample(self, generations: int) -> tuple[list[list[int]], list[list[float]] | None]:
        """Completions of the prompts at hand, those of a prompt together, and vLLM's log-probabilities of them."""
        assert self._prompts is not None
        seeds = [self._seed(row["id"]) for row in self._rows]
        if self._engine is None:
            with unwrap_model_for_generation(self.model_wrapped, self.accelerator) as model:
                completions = sample(
                    model,
                    self._prompts,
                    generations,
                    logits_processors=self._logits_processors(),
                    max_new_tokens=self.max_completion_length,
                    eos_token_ids=self.eos_token_ids,
                    seeds=seeds,
                )
            return completions, None
        if self._synced != self.state.global_step:
            self._engine.sync(self.accelerator.unwrap_model(self.model))
            self._synced = self.state.global_step
        args = self.args
        return self._engine.generate(
            self._rows,
            self._prompts.token_lists(),
            generations,
            seeds=seeds,
            max_tokens=self.max_completion_length,
            temperature=args.temperature,
            top_p=args.top_p,
            top_k=args.top_k,
            min_p=args.min_p or 0.0,
        )

    def _logits_processors(self) -> Any:
        """What shapes the distribution that is sampled from; vision tokens are never in it."""
        args = self.args
        processors = [SuppressTokensLogitsProcessor(self._forbidden, self.accelerator.device)]
        if args.temperature != 1.0:
            processors.append(TemperatureLogitsWarper(args.temperature))
        if args.top_k:
            processors.append(TopKLogitsWarper(args.top_k))
        if args.top_p < 1.0:
            processors.append(TopPLogitsWarper(args.top_p))
        if args.min_p:
            processors.append(MinPLogitsWarper(args.min_p))
        return LogitsProcessorList(processors)

    def _seed(self, row_id: str) -> int:
        """Of the completions of a row: it depends on the run's seed, the step and the row, on no batch and no rank."""
        key = f"{self.args.seed} {self.state.global_step} {row_id}"
        return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")

    def _compute_loss(self, model: Any, inputs: Any) -> Any:
        self._prompt_of_row = inputs["prompt_index"]
        loss = super()._compute_loss(model, inputs)
        fresh = (
            self._step % (self.args.steps_per_generation * self.num_iterations) < self.args.gradient_accumulation_steps
        )
        if "sampled_logps" in inputs and fresh:
            self._compare_engines(inputs["sampled_logps"], inputs["completion_mask"])
        return loss

    def _compare_engines(self, sampled: Any, mask: Any) -> None:
        """Log how far the trainer's log-probabilities are from vLLM's under the same weights; stop beyond the limit.

        Raises:
            JigsawError: the two differ too much for the completions to be the policy's own.
        """
        apart = ((self._logps - sampled).abs() * mask).sum()
        sums = self.accelerator.reduce(torch.stack([apart, mask.sum().to(apart.dtype)]))
        difference = float(sums[0] / sums[1].clamp(min=1))
        self._log_metric("logp_difference", difference)
        limit = self._rollout.max_logp_difference
        if difference > limit:
            raise JigsawError(
                f"step {self.state.global_step}: vLLM's log-probabilities are {difference:.2g} from the trainer's, "
                f"over rollout.max_logp_difference={limit}: the two engines do not run the same policy"
            )
        if difference > limit / 4 and not self._warned:
            self._warned = True
            logger.warning(
                "vLLM's log-probabilities are %.2g from the trainer's; the run stops at %g", difference, limit
            )

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Any,
        attention_mask: Any,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **_: Any,
    ) -> Any:
        assert self._prompts is not None
        logps, entropies = log_probabilities(
            model,
            self._prompts,
            self._prompt_of_row,
            input_ids[:, -logits_to_keep:],
            attention_mask[:, -logits_to_keep:],
            temperature=self.temperature,
            forbidden_tokens=self._forbidden,
        )
        self._logps = logps.detach()
        return logps, entropies if compute_entropy else None, None

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Any:
        columns = {key: [row[key] for row in inputs] for key in inputs[0] if key != "prompt"}
        for name, values in self._composition.measure(completions, columns).items():
            known = [value for value in values if value is not None]
            if known:
                self._log_metric(name, sum(known) / len(known))
        return super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)


def train_grpo(
    model: Any,
    processor: Any,
    puzzles: Any,
    composition: Composition,
    config: Any,
    callbacks: Sequence[Any],
    *,
    rollout: RolloutSection,
) -> Any:
    """Train `model` in place with GRPO, from the checkpoint that the configuration names to resume from, if any.

    Args:
        model: a vision-language model.
        processor: of the same checkpoint.
        puzzles: a puzzle set, or a mixture of several.
        composition: what is optimised and what is watched.
        rollout: who samples completions.
        config: TRL's GRPOConfig.
        callbacks: `transformers` trainer callbacks.

    Returns:
        The trainer, which knows how the weights are spread over processes.
    """
    trainer = PuzzleTrainer(
        model=model,
        args=config,
        train_dataset=puzzles,
        processing_class=processor,
        composition=composition,
        rollout=rollout,
        callbacks=list(callbacks),
    )
    trainer.train(resume_from_checkpoint=config.resume_from_checkpoint)
    return trainer
