"""The `sft` and `grpo` sections of a recipe: the settings of the two training stages.

In: the content of a section. Out: a frozen, typed section. Names and meanings are TRL's. GRPO's defaults are the
settings of arXiv 2509.25190, section 4.1. TRL's other fields are written below `extra`; `jigsaw.config.trl_fields`
checks them. `jigsaw.training.trl_config` makes TRL's configuration objects, so that nothing heavy is imported here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from jigsaw.config.section import Section
from jigsaw.errors import JigsawError

Schedule = Literal[
    "constant",
    "constant_with_warmup",
    "linear",
    "cosine",
    "cosine_with_restarts",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "inverse_sqrt",
    "polynomial",
    "warmup_stable_decay",
]
"""Learning rate schedules of transformers, except the two that depend on an evaluation loss."""

SFT_BATCH = 8
"""Default puzzles per supervised step and process, as in TRL."""


NOT_WITH_TOKENS = {
    "per_device_train_batch_size": "which counts completions",
    "steps_per_generation": "which counts micro-batches",
    "entropy_coef": "which TRL weighs by micro-batch, whatever its size",
    "use_adaptive_entropy": "which TRL weighs by micro-batch, whatever its size",
}
"""Settings that cannot be combined with `grpo.tokens_per_micro_batch`, and why."""


@dataclass(frozen=True)
class MicroBatches:
    """How a step is computed on each process.

    Attributes:
        size: rows in a micro-batch: puzzles of the supervised stage, completions of GRPO.
        count: micro-batches in a step.
    """

    size: int
    count: int


class StageSection(Section):
    """Settings that both stages have.

    Attributes:
        max_steps: optimizer steps; null to use `num_train_epochs`.
        num_train_epochs: passes over the training puzzles, if `max_steps` is null.
        per_device_train_batch_size: rows in a micro-batch on each process (puzzles of `sft`, completions of `grpo`);
            null for the process's complete share of a step.
        learning_rate: learning rate of the optimizer.
        lr_scheduler_type: schedule of the learning rate.
        warmup_steps: steps over which the learning rate rises from 0; below 1, a share of all steps.
        weight_decay: weight decay of AdamW.
        adam_beta1, adam_beta2, adam_epsilon: parameters of AdamW.
        max_grad_norm: gradients are clipped to this norm; 0 for no clipping.
        optim: name of an optimizer of transformers; null for AdamW. `sft` also takes `muon`, for models that start
            from random weights.
        gradient_checkpointing: recompute activations in the backward pass: less memory, about a third more time.
        extra: other fields of TRL's configuration, by their names in TRL.
    """

    max_steps: int | None = Field(None, ge=1)
    num_train_epochs: float = Field(3.0, gt=0)
    per_device_train_batch_size: int | None = Field(None, ge=1)
    learning_rate: float = Field(gt=0)
    lr_scheduler_type: Schedule
    warmup_steps: float = Field(0, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    adam_beta2: float = Field(0.999, ge=0, lt=1)
    adam_epsilon: float = Field(1e-8, gt=0)
    max_grad_norm: float = Field(1.0, ge=0)
    optim: str | None = None
    gradient_checkpointing: bool = True
    extra: dict[str, Any] = Field(default_factory=dict)


class SftSection(StageSection):
    """The supervised stage: TRL's SFTTrainer on the right answers, or on conversations.

    Attributes:
        prompts_per_step: puzzles of a step on all processes together; null for `per_device_train_batch_size` on each
            process, or 8 if that is null too.
        max_length: maximum tokens of a sequence; null for no limit, since truncation would lose pieces of a puzzle.
        packing: compute the rows of a micro-batch as one sequence without padding; loss and gradients stay the same.
        stop_at_accuracy: end the stage as soon as this share of the answer tokens is predicted correctly, on average
            over 5 steps; null for all steps. With it, GRPO starts from the same accuracy for every seed.
        dataloader_num_workers: processes that prefetch puzzles.
    """

    prompts_per_step: int | None = Field(None, ge=1)
    learning_rate: float = Field(2e-5, gt=0)
    lr_scheduler_type: Schedule = "linear"
    max_length: int | None = Field(None, ge=1)
    packing: bool = False
    stop_at_accuracy: float | None = Field(None, gt=0, le=1)
    dataloader_num_workers: int = Field(0, ge=0)

    def micro_batches(self, world_size: int) -> MicroBatches:
        """How each of `world_size` processes computes its share of a step.

        Raises:
            JigsawError: a batch size does not divide the step.
        """
        if self.prompts_per_step is None:
            return MicroBatches(self.per_device_train_batch_size or SFT_BATCH, 1)
        return _divided("sft", self.prompts_per_step, "puzzles", world_size, self.per_device_train_batch_size)


class GrpoSection(StageSection):
    """Group Relative Policy Optimization: TRL's GRPOTrainer on puzzles.

    The defaults are the settings of arXiv 2509.25190, except its batches of 256 and 128 prompts. Settings that the
    paper does not give are TRL's.

    Attributes:
        prompts_per_step: prompts of a step on all processes together, each with `num_generations` completions.
        tokens_per_micro_batch: maximum tokens of a micro-batch, prompts and completions; groups of similar length share
            a micro-batch, and a longer group is split. Null to use `per_device_train_batch_size`.
        num_generations: completions of a group, that is of one prompt.
        max_completion_length: maximum tokens of a completion.
        steps_per_generation: micro-batches of one generation batch; null for those of a step.
        num_iterations: number of times that a generation batch is trained on.
        loss_type: how token losses are weighted, `dapo` for the mean over all tokens of a step; TRL's names.
        scale_rewards: divide advantages by the standard deviation of the `group` or of the `batch`; `none` for neither.
        importance_sampling_level: ratio of new to old probability per `token`, or per `sequence` (GSPO).
        epsilon: clipping range of the ratio below 1.
        epsilon_high: clipping range of the ratio above 1; null for `epsilon`.
        beta: weight of the KL term, measured from the model at the start of the stage; 0 for no KL term.
        mask_truncated_completions: exclude completions that reached the token limit from the loss.
        temperature: sampling temperature.
        top_p: sample from the most probable tokens whose probabilities add up to this share; 1 for all tokens.
        top_k: sample from this number of most probable tokens; 0 for all tokens.
        min_p: exclude tokens whose probability is below this share of the highest one; null for no exclusion.
        shuffle_dataset: shuffle the puzzles in every epoch.
        vllm_importance_sampling_correction: correct for the difference between vLLM's probabilities and the trainer's.
    """

    learning_rate: float = Field(1e-6, gt=0)
    lr_scheduler_type: Schedule = "constant"
    prompts_per_step: int = Field(32, ge=1)
    tokens_per_micro_batch: int | None = Field(None, ge=1)
    num_generations: int = Field(16, ge=1)
    max_completion_length: int = Field(2048, ge=1)
    steps_per_generation: int | None = Field(None, ge=1)
    num_iterations: int = Field(1, ge=1)
    loss_type: Literal["grpo", "dapo", "dr_grpo", "bnpo", "cispo", "sapo", "luspo", "vespo"] = "dapo"
    scale_rewards: Literal["group", "batch", "none"] = "group"
    importance_sampling_level: Literal["token", "sequence"] = "token"
    epsilon: float = Field(0.2, ge=0)
    epsilon_high: float | None = Field(None, ge=0)
    beta: float = Field(0.0, ge=0)
    mask_truncated_completions: bool = False
    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    min_p: float | None = Field(None, ge=0, le=1)
    shuffle_dataset: bool = True
    vllm_importance_sampling_correction: bool = False

    @field_validator("num_generations")
    @classmethod
    def _has_a_group(cls, value: int) -> int:
        if value == 1:
            raise ValueError("a group of 1 has no other completion to compare with; use 2 or more")
        return value

    @field_validator("optim")
    @classmethod
    def _optimizer_of_trl(cls, value: str | None) -> str | None:
        if value == "muon":
            raise ValueError("muon is only for the supervised stage; leave it out")
        return value

    @model_validator(mode="after")
    def _losses_fit(self) -> GrpoSection:
        level = self.importance_sampling_level
        if self.loss_type == "luspo" and level != "sequence":
            raise ValueError("loss_type: luspo needs importance_sampling_level: sequence")
        if self.loss_type == "vespo" and level != "token":
            raise ValueError("loss_type: vespo needs importance_sampling_level: token")
        return self

    @model_validator(mode="after")
    def _goes_with_tokens(self) -> GrpoSection:
        if self.tokens_per_micro_batch is None:
            return self
        given = self.extra | {name: value for name, value in self if name in NOT_WITH_TOKENS}
        for name, why in NOT_WITH_TOKENS.items():
            if given.get(name):
                raise ValueError(
                    f"tokens_per_micro_batch cannot be combined with {name}, {why}; set one of them to null"
                )
        return self

    def micro_batches(self, world_size: int) -> MicroBatches:
        """How each of `world_size` processes computes its share of a step.

        If micro-batches are filled by tokens, this is their maximum number, one per completion. How many a step needs
        depends on the lengths of its completions (`jigsaw.training.rollouts`).

        Raises:
            JigsawError: a batch size does not divide the step.
        """
        found = _divided(
            "grpo",
            self.prompts_per_step,
            "prompts",
            world_size,
            self.per_device_train_batch_size if self.tokens_per_micro_batch is None else 1,
            each=self.num_generations,
        )
        steps = self.steps_per_generation or found.count
        if (found.size * world_size * steps) % self.num_generations:
            raise JigsawError(
                f"grpo.steps_per_generation: {steps} micro-batches of {found.size} completions on {world_size} "
                f"process{'es' if world_size > 1 else ''} do not divide into whole groups of {self.num_generations}"
            )
        if (steps * self.num_iterations) % found.count:
            raise JigsawError(
                f"grpo.steps_per_generation: {steps} x num_iterations {self.num_iterations} must be a multiple of the "
                f"{found.count} micro-batches of a step"
            )
        return found


def _divided(
    section: str, prompts: int, what: str, world_size: int, at_once: int | None, each: int = 1
) -> MicroBatches:
    """The prompts of a step divided among processes, and their rows (`each` per prompt) among micro-batches."""
    share, left = divmod(prompts, world_size)
    if left:  # two processes that share a group would both sample it
        raise JigsawError(
            f"{section}.prompts_per_step: {world_size} processes do not divide the {prompts} {what} of a step"
        )
    rows = share * each
    size = rows if at_once is None else at_once
    if rows % size:
        of = f"{rows} completions" if each > 1 else f"{rows} {what}"
        where = "of a step" if world_size == 1 else f"of a step on each of {world_size} processes"
        raise JigsawError(f"{section}.per_device_train_batch_size: {size} does not divide the {of} {where}")
    return MicroBatches(size, rows // size)
