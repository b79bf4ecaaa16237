"""GRPO on puzzles: TRL's GRPOTrainer, told what a puzzle is.

In: a puzzle set, rewards and a configuration. Out: the model, trained in place. What is added to TRL: metrics that are
watched beside the rewards, media that are counted on their way to the model, and prompts that are paid for once per
group instead of once per completion (`jigsaw.training.shared_prefix`).
"""

from __future__ import annotations

import hashlib
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

from jigsaw.training.shared_prefix import PromptBatch, log_probabilities, sample
from rewards import Composition

MEDIA = ("images", "videos")


class PuzzleTrainer(GRPOTrainer):  # type: ignore[misc]  # TRL comes without types
    """TRL's GRPO trainer for puzzle sets.

    TRL renders, tokenizes, encodes and runs a prompt once per completion. Here the distinct prompts of a generation
    batch are encoded once, kept beside TRL's own tensors, and found again by `prompt_index`, the number of each row's
    prompt.

    Args:
        composition: the rewards that are optimised (their weights stand in the configuration) and the watched metrics.
        **kwargs: of `trl.GRPOTrainer`, less `reward_funcs`.
    """

    def __init__(self, *, composition: Composition, **kwargs: Any) -> None:
        self._composition = composition
        functions, _ = composition.trl_functions()
        super().__init__(reward_funcs=functions, **kwargs)
        self.remove_callback(PrinterCallback)
        self._prompts: PromptBatch | None = None
        self._prompt_of_row: Any = None

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
        self._prompts = PromptBatch.encode(model, self.processing_class, rows, device)
        self._prompt_of_row = torch.tensor([numbers[row["id"]] for row in inputs], device=device)
        # Without its media a prompt costs TRL nothing to copy, and none of its passes can run on half of them.
        light = [{key: value for key, value in row.items() if key not in MEDIA} for row in inputs]
        output = super()._generate_and_score_completions(light)
        output["prompt_index"] = self._prompt_of_row
        return output

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        assert self._prompts is not None
        tokens = self._prompts.token_lists()
        return [tokens[number] for number in self._prompt_of_row.tolist()], None, {}

    def _generate_single_turn(self, prompt_ids: Any, *_: Any, **__: Any) -> Any:
        assert self._prompts is not None
        counts = torch.bincount(self._prompt_of_row, minlength=len(self._prompts)).tolist()
        most = max(counts)
        with unwrap_model_for_generation(self.model_wrapped, self.accelerator) as model:
            sampled = sample(
                model,
                self._prompts,
                most,
                logits_processors=self._logits_processors(),
                max_new_tokens=self.max_completion_length,
                eos_token_ids=self.eos_token_ids,
                generator=self._generator(),
            )
        taken = [0] * len(counts)
        completions = []
        for number in self._prompt_of_row.tolist():
            completions.append(sampled[number * most + taken[number]])
            taken[number] += 1
        return completions, None

    def _logits_processors(self) -> Any:
        """What shapes the distribution that is sampled from; vision tokens are never in it."""
        args = self.args
        processors = [SuppressTokensLogitsProcessor(args.generation_kwargs["suppress_tokens"], self.accelerator.device)]
        if args.temperature != 1.0:
            processors.append(TemperatureLogitsWarper(args.temperature))
        if args.top_k:
            processors.append(TopKLogitsWarper(args.top_k))
        if args.top_p < 1.0:
            processors.append(TopPLogitsWarper(args.top_p))
        if args.min_p:
            processors.append(MinPLogitsWarper(args.min_p))
        return LogitsProcessorList(processors)

    def _generator(self) -> Any:
        """Randomness that depends on the seed, the step and the rank alone, so that a resumed run samples the same."""
        key = f"{self.args.seed} {self.state.global_step} {self.accelerator.process_index}"
        number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big")
        return torch.Generator(self.accelerator.device).manual_seed(number)

    def _compute_loss(self, model: Any, inputs: Any) -> Any:
        self._prompt_of_row = inputs["prompt_index"]
        return super()._compute_loss(model, inputs)

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
        )
        return logps, entropies if compute_entropy else None, None

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Any:
        columns = {key: [row[key] for row in inputs] for key in inputs[0] if key != "prompt"}
        for name, values in self._composition.measure(completions, columns).items():
            known = [value for value in values if value is not None]
            if known:
                self._log_metric(name, sum(known) / len(known))
        return super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)


def train_grpo(
    model: Any, processor: Any, puzzles: Any, composition: Composition, config: Any, callbacks: Sequence[Any]
) -> Any:
    """Train `model` in place with GRPO, from the checkpoint that the configuration names to resume from, if any.

    Args:
        model: a vision-language model.
        processor: of the same checkpoint.
        puzzles: a puzzle set, or a mixture of several.
        composition: what is optimised and what is watched.
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
        callbacks=list(callbacks),
    )
    trainer.train(resume_from_checkpoint=config.resume_from_checkpoint)
    return trainer
