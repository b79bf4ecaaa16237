"""TRL's GRPOTrainer on finished micro-batches.

Rollouts are the data loader (`jigsaw.training.rollouts`); the losses, the KL term, the reference model, the optimizer,
checkpoints and logging are TRL's. Two private methods of TRL are overridden: `_prepare_inputs`, which would sample, and
`_get_per_token_logps_and_entropies`, which here computes a prompt once per group. The trainer keeps no state of a batch
between calls, so that other forward passes may run in between.
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
    """An object whose state changes during a run and is saved in checkpoints in addition to the trainer's own state."""

    def state(self) -> dict[str, Any]:
        """The state that a resumed run needs; JSON values."""

    def load_state(self, state: Any) -> None:
        """Restore a state."""


class PuzzleTrainer(GRPOTrainer):  # type: ignore[misc]  # TRL comes without types
    """TRL's GRPO trainer for puzzle sets.

    Args:
        setup: creates the parts of the rollouts for this trainer.
        reward_names: names of the rewards; their weights are in the configuration.
        rows: number of puzzles in the set, which TRL needs.
        agreement: monitors the difference between the sampling engine and the trainer.
        samples_elsewhere: whether another engine samples, for whose difference TRL may correct.
        shared_prefix: compute a prompt once per group in the loss pass.
        states: objects whose states checkpoints save in addition to the trainer's own, by name.
        callbacks: callbacks of transformers.
        **kwargs: further arguments of `trl.GRPOTrainer`.
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
            train_dataset=_numbers(rows),  # TRL only reads its length
            # Before the others, since some of them move the checkpoint.
            callbacks=[_StateFile(self._states), *(callbacks or ())],
            **kwargs,
        )
        self.remove_callback(PrinterCallback)
        self.args.ignore_data_skip = True  # the rollouts of a resumed run begin at the right step
        self.step_metrics = StepMetrics()
        self.forbidden_tokens = list(self.args.generation_kwargs["suppress_tokens"])
        self.rollouts = Rollouts(self, setup(self))
        # Set only now; TRL then corrects for the difference of the engines, if it is configured.
        self.use_vllm = samples_elsewhere

    @property
    def policy(self) -> Policy:
        """The model with its present weights, for an engine."""
        return Policy(self.model_wrapped, self.accelerator, self.state.global_step)

    def get_train_dataloader(self) -> Rollouts:
        """The rollouts, unwrapped: accelerate's loader would read one batch too early."""
        return self.rollouts

    def train(self, resume_from_checkpoint: Any = None, **kwargs: Any) -> Any:
        """As in TRL, and restore the states of curriculum, dynamic sampling and stability watch from the checkpoint."""
        if resume_from_checkpoint:
            states = json.loads((Path(resume_from_checkpoint) / STATE_FILE).read_text(encoding="utf-8"))
            for name, part in self._states.items():
                part.load_state(states[name])
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """As in TRL, but skip the empty inputs at the beginning of a step that needs fewer micro-batches."""
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
        """As in TRL, with the figures of the rollouts."""
        super().log(logs | self.step_metrics.take(), start_time)

    def log_probabilities(self, model: Any, micro_batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies `[B, C]` of a micro-batch under a model, of the sampler's distribution."""
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
        """The reference model of the KL term; with adapters, the policy without them."""
        if self.ref_model is not None:
            yield self.ref_model
            return
        with self.accelerator.unwrap_model(self.model).disable_adapter():
            yield self.model

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """The batch unchanged, since rollouts have finished it."""
        return generation_batch

    def _get_per_token_logps_and_entropies(
        self, model: Any, *_: Any, pixel_values: Any = None, **__: Any
    ) -> tuple[Tensor, Tensor, None]:
        """Log-probabilities of the micro-batch that `MicroBatch.for_trl` passes through TRL's loss."""
        micro_batch: MicroBatch = pixel_values
        logps, entropies = self.log_probabilities(model, micro_batch)
        sampled = micro_batch.sampled_log_probabilities
        if sampled is not None and micro_batch.on_policy:
            self._compare((logps.detach() - sampled).abs(), micro_batch.completion_mask)
        return logps, entropies, None

    def _compare(self, differences: Tensor, mask: Tensor) -> None:
        """Log and check the differences between engine and trainer, `[B, C]` with their mask. Collective.

        Raises:
            JigsawError: the mean difference is above the recipe's limit.
        """
        total = (differences * mask).sum()
        sums = self.accelerator.reduce(torch.stack([total, mask.sum().to(total.dtype)]))
        difference = float(sums[0] / sums[1].clamp(min=1))
        self.step_metrics.add("logp_difference", difference)
        self._agreement.check(difference, self.state.global_step + 1)


class _StateFile(TrainerCallback):  # type: ignore[misc]  # transformers comes without types
    """Adds the file with the `Stateful` states to every checkpoint."""

    def __init__(self, states: dict[str, Stateful]) -> None:
        self._states = states

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the file."""
        if state.is_world_process_zero:
            file = Path(args.output_dir) / f"checkpoint-{state.global_step}" / STATE_FILE
            file.write_text(json.dumps({name: part.state() for name, part in self._states.items()}), encoding="utf-8")


def _named(name: str) -> Callable[..., Any]:
    """A function with the name of a reward, for TRL; rollouts compute its values."""

    def reward(**_: Any) -> Any:
        raise NotImplementedError

    reward.__name__ = reward.__qualname__ = name
    return reward


def _numbers(count: int) -> Any:
    import datasets

    return datasets.Dataset.from_dict({"number": list(range(count))})
