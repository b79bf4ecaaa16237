"""Builds micro-batches from scored groups: advantages, division, and log-probabilities under other weights.

In: the scored groups of a generation batch. Out: `MicroBatch`es that are ready for the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from jigsaw.models.prompt_batch import PromptBatch
from jigsaw.training.advantages import advantages_of, importance_ratio
from jigsaw.training.distributed import all_gather_object
from jigsaw.training.groups import Group
from jigsaw.training.micro_batch import MicroBatch, Part, Sizes, equal_parts, fill, split_into
from jigsaw.training.step_metrics import StepMetrics

if TYPE_CHECKING:
    from jigsaw.training.trainer import PuzzleTrainer

MEANS_OVER_ROWS = ("grpo", "sapo", "dr_grpo", "luspo")
"""TRL's losses that average over the completions of a micro-batch."""
MEANS_OVER_MICRO_BATCHES = ("bnpo",)
"""TRL's losses that average over micro-batches, whatever their size."""


class MicroBatchBuilder:
    """Builds the micro-batches of a generation batch.

    Args:
        trainer: its settings, and the model for log-probabilities.
        reward_names: names of the rewards, in the order of their weights.
        tokens_per_micro_batch: maximum tokens of a micro-batch; None divides a step evenly by completions.
    """

    def __init__(self, trainer: PuzzleTrainer, reward_names: Sequence[str], tokens_per_micro_batch: int | None) -> None:
        self._trainer, self._reward_names, self._token_limit = trainer, reward_names, tokens_per_micro_batch

    @property
    def _metrics(self) -> StepMetrics:
        return self._trainer.step_metrics

    def build(self, groups: Sequence[Group]) -> list[MicroBatch | None]:
        """The micro-batches of a generation batch, with advantages relative to all of it. Collective.

        Args:
            groups: the scored groups of this process.

        Returns:
            `steps_per_generation` entries: first None for each micro-batch that filling by tokens saves.
        """
        trainer, device = self._trainer, self._trainer.accelerator.device
        ends = {*trainer.eos_token_ids, trainer.processing_class.tokenizer.pad_token_id}
        ended = [[tokens[-1] in ends for tokens in group.completions] for group in groups]
        masks = trainer.args.mask_truncated_completions
        counted = [
            [
                0 if masks and not complete else len(tokens)
                for tokens, complete in zip(group.completions, own, strict=True)
            ]
            for group, own in zip(groups, ended, strict=True)
        ]
        names = self._reward_names
        gathered = all_gather_object(
            {
                "scores": [
                    row for group in groups for row in zip(*(group.scores[name] for name in names), strict=True)
                ],
                "lengths": [len(tokens) for group in groups for tokens in group.completions],
                "ended": [complete for own in ended for complete in own],
                "counted": sum(map(sum, counted)),
                "prompts": sum(group.encoded.lengths[group.prompt] * len(group.completions) for group in groups),
            }
        )
        advantages = self._advantages(gathered)
        num_items = torch.tensor(sum(share["counted"] for share in gathered), device=device)
        encoded = list({id(group.encoded): group.encoded for group in groups}.values())
        offsets, offset = {}, 0
        for batch in encoded:
            offsets[id(batch)], offset = offset, offset + len(batch)
        prompts = PromptBatch.join(encoded).select([offsets[id(group.encoded)] + group.prompt for group in groups])
        parts = self._parts(Sizes(prompts.lengths, counted))
        share = self._share(parts)
        finished = [
            self._with_other_policies(
                self._micro_batch(groups, prompts, part, counted, advantages, num_items, share(part))
            )
            for part in parts
        ]
        return [None] * (trainer.args.steps_per_generation - len(finished)) + finished

    def _advantages(self, gathered: Sequence[dict[str, Any]]) -> Tensor:
        """The advantages of this process's completions; logs rewards and lengths of all processes."""
        trainer, device = self._trainer, self._trainer.accelerator.device
        rows = [
            [torch.nan if value is None else value for value in row] for share in gathered for row in share["scores"]
        ]
        scores = torch.tensor(rows, dtype=torch.float32, device=device)
        found = advantages_of(
            scores,
            trainer.reward_weights.to(device),
            trainer.num_generations,
            scale=trainer.args.scale_rewards,
            aggregation=trainer.args.multi_objective_aggregation,
        )
        for number, name in enumerate(self._reward_names):
            self._metrics.add(f"rewards/{name}/mean", scores[:, number].nanmean().item())
        lengths = [length for share in gathered for length in share["lengths"]]
        ended = [complete for share in gathered for complete in share["ended"]]
        known = found.rewards[~found.rewards.isnan()]
        self._metrics.add("reward", known.mean().item())
        self._metrics.add("reward_std", known.std().item())
        self._metrics.add("frac_reward_zero_std", found.equal)
        self._metrics.add("completions/mean_length", sum(lengths) / len(lengths))
        self._metrics.add("completions/clipped_ratio", 1 - sum(ended) / len(ended))
        trainer.state.num_input_tokens_seen += sum(share["prompts"] for share in gathered) + sum(lengths)
        self._metrics.add("num_tokens", trainer.state.num_input_tokens_seen)
        rank = trainer.accelerator.process_index
        start = sum(len(share["lengths"]) for share in gathered[:rank])
        return found.values[start : start + len(gathered[rank]["lengths"])]

    def _parts(self, sizes: Sizes) -> list[Part]:
        """The completions of each micro-batch; all processes have the same number of micro-batches. Collective."""
        limit, trainer = self._token_limit, self._trainer
        if limit is None:
            return equal_parts(len(sizes.prompts), trainer.num_generations, trainer.args.steps_per_generation)
        parts = fill(sizes, limit)
        return split_into(parts, max(all_gather_object(len(parts))))

    def _share(self, parts: Sequence[Part]) -> Callable[[Part], float]:
        """The factor on the loss of a micro-batch, for micro-batches of unequal size.

        TRL divides a mean by the number of micro-batches in a step, as if all had the same number of completions.
        """
        args = self._trainer.args
        if self._token_limit is None:
            return lambda _: 1.0
        if args.loss_type in MEANS_OVER_ROWS:
            return lambda part: len(part) / args.per_device_train_batch_size
        if args.loss_type in MEANS_OVER_MICRO_BATCHES:
            return lambda _: args.gradient_accumulation_steps / len(parts)
        return lambda _: 1.0

    def _micro_batch(
        self,
        groups: Sequence[Group],
        prompts: PromptBatch,
        part: Part,
        counted: Sequence[Sequence[int]],
        advantages: Tensor,
        num_items: Tensor,
        share: float,
    ) -> MicroBatch:
        size, device = self._trainer.num_generations, self._trainer.accelerator.device
        used = list(dict.fromkeys(prompt for prompt, _ in part))
        completions = [groups[prompt].completions[number] for prompt, number in part]
        lengths = torch.tensor([counted[prompt][number] for prompt, number in part], device=device)
        width = max(map(len, completions))
        blank = self._trainer.processing_class.tokenizer.pad_token_id
        ids = torch.tensor([tokens + [blank] * (width - len(tokens)) for tokens in completions], device=device)
        sampled = None
        if groups[part[0][0]].log_probabilities is not None:
            logps = [groups[prompt].log_probabilities[number] for prompt, number in part]  # type: ignore[index]
            sampled = torch.tensor([row + [0.0] * (width - len(row)) for row in logps], device=device)
        return MicroBatch(
            prompts=prompts.select(used),
            prompt_of_row=tuple(used.index(prompt) for prompt, _ in part),
            completion_ids=ids,
            completion_mask=(torch.arange(width, device=device) < lengths[:, None]).long(),
            advantages=advantages[[prompt * size + number for prompt, number in part]],
            num_items=num_items,
            share=share,
            sampled_log_probabilities=sampled,
        )

    def _with_other_policies(self, micro_batch: MicroBatch) -> MicroBatch:
        """The micro-batch with log-probabilities under other weights than the policy's, if the loss needs them."""
        trainer, args = self._trainer, self._trainer.args
        corrects = trainer.use_vllm and args.vllm_importance_sampling_correction
        # If it is False, the first pass on the completions uses the weights that sampled them.
        stale = args.gradient_accumulation_steps % (args.steps_per_generation * args.num_iterations) != 0
        old = ratio = reference = None
        with torch.no_grad():
            if stale or corrects:
                old, _ = trainer.log_probabilities(trainer.model, micro_batch)
            sampled = micro_batch.sampled_log_probabilities
            if corrects and old is not None and sampled is not None:
                ratio = importance_ratio(old, sampled, micro_batch.completion_mask, args)
            if args.beta != 0.0:
                with trainer.reference_model() as model:
                    reference, _ = trainer.log_probabilities(model, micro_batch)
        return replace(
            micro_batch,
            old_log_probabilities=old,
            reference_log_probabilities=reference,
            importance_ratio=ratio,
        )
