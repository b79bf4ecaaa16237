"""TRL's GRPOTrainer on finished micro-batches.

Rollouts are the data loader (`jigsaw.training.rollouts`); the losses, the KL term, the reference model, the optimizer,
checkpoints and logging are TRL's. Two private methods of TRL are overridden: `_prepare_inputs`, which would sample, and
`_get_per_token_logps_and_entropies`, which computes a prompt once per group here. Nothing of a batch is kept between
calls, so that any other forward pass may come in between.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOTrainer

from jigsaw.engines.weights import Policy
from jigsaw.models.shared_prefix import log_probabilities
from jigsaw.training.agreement import Agreement
from jigsaw.training.micro_batch import MicroBatch
from jigsaw.training.rollouts import Rollouts, RolloutSetup
from jigsaw.training.step_metrics import StepMetrics

STATE_FILE = "jigsaw.json"


class Stateful(Protocol):
    """Something that changes during a run, in addition to what the trainer saves itself."""

    def state(self) -> dict[str, Any]:
        """What a resumed run needs; JSON values."""

    def load_state(self, state: Any) -> None:
        """Go on from a state."""


class PuzzleTrainer(GRPOTrainer):  # type: ignore[misc]  # TRL comes without types
    """TRL's GRPO trainer for puzzle sets.

    Args:
        setup: makes what rollouts are made from, given this trainer.
        reward_names: of the rewards; their weights are in the configuration.
        rows: puzzles in the set, which TRL wants to know.
        agreement: watches the difference between the engine that samples and the trainer.
        samples_elsewhere: another engine samples, for whose difference TRL may correct.
        shared_prefix: compute a prompt once per group in the loss pass.
        states: what checkpoints carry beside the trainer's own state, by name.
        callbacks: of transformers.
        **kwargs: of `trl.GRPOTrainer`.
    """

    def __init__(
        self,
        *,
        setup: Callable[[PuzzleTrainer], RolloutSetup],
        reward_names: list[str],
        rows: int,
        agreement: Agreement,
        samples_elsewhere: bool = False,
        shared_prefix: bool = True,
        states: dict[str, Stateful] | None = None,
        callbacks: list[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._states, self._shared, self._agreement = dict(states or {}), shared_prefix, agreement
        super().__init__(
            reward_funcs=[_named(name) for name in reward_names],
            train_dataset=_numbers(rows),  # TRL reads its length alone
            # Before the others: some of them move the checkpoint away.
            callbacks=[_StateFile(self._states), *(callbacks or ())],
            **kwargs,
        )
        self.remove_callback(PrinterCallback)
        self.args.ignore_data_skip = True  # a resumed run's rollouts begin at its step by themselves
        self.step_metrics = StepMetrics()
        self.forbidden_tokens = list(self.args.generation_kwargs["suppress_tokens"])
        self.rollouts = Rollouts(self, setup(self))
        # From here on TRL corrects for the difference of the two engines, if the configuration says so.
        self.use_vllm = samples_elsewhere

    @property
    def policy(self) -> Policy:
        """The model as it is now, for an engine."""
        return Policy(self.model_wrapped, self.accelerator, self.state.global_step)

    def get_train_dataloader(self) -> Rollouts:
        """The rollouts, as they are: accelerate's loader would ask for one batch ahead of its time."""
        return self.rollouts

    def train(self, resume_from_checkpoint: Any = None, **kwargs: Any) -> Any:
        """As TRL; a checkpoint also tells where curriculum, dynamic sampling and stability watch were."""
        if resume_from_checkpoint:
            states = json.loads((Path(resume_from_checkpoint) / STATE_FILE).read_text(encoding="utf-8"))
            for name, part in self._states.items():
                part.load_state(states[name])
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """As TRL; a step whose tokens fill fewer micro-batches than it may have begins with empty ones."""
        if inputs["micro_batch"] is None:
            return torch.zeros((), device=self.accelerator.device)
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        return loss

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """TRL's loss of a micro-batch."""
        micro_batch: MicroBatch = inputs["micro_batch"]
        loss: Tensor = super().compute_loss(model, micro_batch.for_trl(), return_outputs, num_items_in_batch)
        return loss if micro_batch.share == 1.0 else loss * micro_batch.share

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """As TRL, with the figures of the rollouts."""
        super().log(logs | self.step_metrics.take(), start_time)

    def log_probabilities(self, model: Any, micro_batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies `[B, C]` of a micro-batch under a model, as the sampler's distribution is."""
        with self.accelerator.autocast():
            return log_probabilities(
                model,
                micro_batch.prompts,
                micro_batch.prompt_of_row,
                micro_batch.completion_ids,
                micro_batch.completion_mask,
                temperature=self.temperature,
                forbidden_tokens=self.forbidden_tokens,
                shared=self._shared,
            )

    @contextmanager
    def reference_model(self) -> Iterator[Any]:
        """The model that the KL term measures the distance from; with adapters, the policy without them."""
        if self.ref_model is not None:
            yield self.ref_model
            return
        with self.accelerator.unwrap_model(self.model).disable_adapter():
            yield self.model

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """The batch as it is: rollouts have finished it."""
        return generation_batch

    def _get_per_token_logps_and_entropies(
        self, model: Any, *_: Any, pixel_values: Any = None, **__: Any
    ) -> tuple[Tensor, Tensor, None]:
        """Of the micro-batch that `MicroBatch.for_trl` hands through TRL's loss."""
        micro_batch: MicroBatch = pixel_values
        logps, entropies = self.log_probabilities(model, micro_batch)
        sampled = micro_batch.sampled_log_probabilities
        if sampled is not None and micro_batch.on_policy:
            self._compare((logps.detach() - sampled).abs(), micro_batch.completion_mask)
        return logps, entropies, None

    def _compare(self, differences: Tensor, mask: Tensor) -> None:
        """Log how far the engine is from the trainer, `[B, C]` with its mask. Collective.

        Raises:
            JigsawError: farther than the recipe allows.
        """
        apart = (differences * mask).sum()
        sums = self.accelerator.reduce(torch.stack([apart, mask.sum().to(apart.dtype)]))
        difference = float(sums[0] / sums[1].clamp(min=1))
        self.step_metrics.add("logp_difference", difference)
        self._agreement.check(difference, self.state.global_step + 1)


class _StateFile(TrainerCallback):  # type: ignore[misc]  # transformers comes without types
    """Adds a file with states to every checkpoint."""

    def __init__(self, states: dict[str, Stateful]) -> None:
        self._states = states

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write it."""
        if state.is_world_process_zero:
            file = Path(args.output_dir) / f"checkpoint-{state.global_step}" / STATE_FILE
            file.write_text(json.dumps({name: part.state() for name, part in self._states.items()}), encoding="utf-8")


def _named(name: str) -> Callable[..., Any]:
    """A function that gives TRL the name of a reward; rollouts have computed its values."""

    def reward(**_: Any) -> Any:
        raise NotImplementedError

    reward.__name__ = reward.__qualname__ = name
    return reward


def _numbers(count: int) -> Any:
    import datasets

    return datasets.Dataset.from_dict({"number": list(range(count))})
