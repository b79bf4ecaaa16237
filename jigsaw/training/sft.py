"""The supervised stage, on puzzles with their right answers or on conversations: a warm-up for GRPO, or the only stage.

In: a puzzle set, conversations, or a mixture. Out: the model, trained by TRL's SFTTrainer on the answer tokens only.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from statistics import mean
from typing import Any

from transformers import TrainerCallback

from jigsaw.compat import weigh_answer_tokens_equally
from jigsaw.rewards.answers import kind_of_row
from jigsaw.training.distributed import process_count
from jigsaw.training.mixture import map_rows
from jigsaw.training.sets import mixture
from jigsaw.training.stages import StageRun, checkpoints_of, metrics_log, start_model, trackers_of, write_result

ACCURACY_STEPS = 5
"""Steps over which `AccuracyStop` averages."""


class AccuracyStop(TrainerCallback):  # type: ignore[misc]  # transformers comes without types
    """Ends the supervised stage once the model predicts enough of the answer tokens.

    The number of steps that a model from random weights needs depends on the seed, but models of the same accuracy are
    comparable.

    Args:
        level: share of correctly predicted answer tokens, averaged over the last `ACCURACY_STEPS` steps.
    """

    def __init__(self, level: float) -> None:
        self._level = level

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check the accuracy. Checkpoints have the history, so that a resumed stage ends at the same step."""
        values = [row["mean_token_accuracy"] for row in state.log_history if "mean_token_accuracy" in row]
        if len(values) >= ACCURACY_STEPS and mean(values[-ACCURACY_STEPS:]) >= self._level:
            control.should_training_stop = True
            control.should_save = False  # a run resumed from this step would train beyond it


def with_answer(row: dict[str, Any]) -> dict[str, Any]:
    """The row as SFTTrainer reads it: prompt, media and the completion to learn.

    The completion is the last answer of a conversation, or the right answer of a puzzle in its answer style.
    """
    completion = row.get("completion")
    if completion is None:
        text = kind_of_row(row).format(row["answer"], row["answer_style"])
        completion = [{"role": "assistant", "content": [{"type": "text", "text": text}]}]
    return {
        "id": row["id"],
        "prompt": row["prompt"],
        "images": row.get("images"),
        "videos": row.get("videos"),
        "completion": completion,
    }


def run_sft(run: StageRun) -> int | None:
    """Train the supervised stage of a recipe.

    Returns:
        None if the stage is complete; otherwise the step after which it was saved and stopped.
    """
    from jigsaw.console import RunConsole
    from jigsaw.models.load import load_processor
    from jigsaw.training.logs import StageCallback
    from jigsaw.training.sharding import deepspeed_config
    from jigsaw.training.trl_config import sft_config

    recipe, size = run.recipe, process_count()
    assert recipe.sft is not None
    processor = load_processor(run.stage.start, **recipe.model.processing)
    puzzles = mixture(recipe, run.folder.open_train(recipe), "sft")
    config = sft_config(recipe, run.scratch, world_size=size, deepspeed=deepspeed_config(recipe))
    if config.max_steps <= 0:
        step = config.per_device_train_batch_size * config.gradient_accumulation_steps * size
        config.max_steps = max(1, int(config.num_train_epochs * len(puzzles) / step))
    model, trainable, done = start_model(run, config)
    log = StageCallback(
        "sft",
        metrics_log(run, done),
        RunConsole(run.console, recipe).progress("sft"),
        detail=str(trainable),
        trackers=trackers_of(run),
    )
    checkpoints = checkpoints_of(run)
    callbacks: list[Any] = [log, checkpoints]
    if recipe.sft.stop_at_accuracy is not None:
        callbacks.append(AccuracyStop(recipe.sft.stop_at_accuracy))
    # The model is also written inside the block, since it has the steps after the last checkpoint.
    with run.stop.deferred("after this step and saving"), closing(log), checkpoints.explain_save_errors():
        muon = recipe.sft.optim == "muon"
        packing = recipe.sft.packing
        trainer = train_sft(model, processor, puzzles, config, callbacks, muon=muon, packing=packing)
        if checkpoints.stopped_at is None:
            write_result(run, trainer, processor)
    return checkpoints.stopped_at


def train_sft(
    model: Any,
    processor: Any,
    puzzles: Any,
    config: Any,
    callbacks: Sequence[Any],
    *,
    muon: bool = False,
    packing: bool = False,
) -> Any:
    """Train `model` in place on the answers of `puzzles`, from the configuration's checkpoint if it has one.

    Args:
        model: a vision-language model.
        processor: the processor of the same checkpoint.
        puzzles: a puzzle set, or a mixture of several.
        config: TRL's SFTConfig.
        callbacks: `transformers` trainer callbacks.
        muon: use `jigsaw.training.muon` instead of the configuration's optimizer.
        packing: compute the rows of a micro-batch as one sequence, without padding.

    Returns:
        The trainer, which can gather the weights from all processes.
    """
    from transformers import PrinterCallback

    from jigsaw.training.collate import PuzzleCollator
    from jigsaw.training.muon import muon_factory

    trainer = _trainer_class(packing)(
        model=model,
        args=config,
        train_dataset=map_rows(puzzles, with_answer),
        processing_class=processor,
        data_collator=PuzzleCollator(processor),
        callbacks=list(callbacks),
        optimizer_cls_and_kwargs=muon_factory(config) if muon else None,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=config.resume_from_checkpoint)
    return trainer


def _trainer_class(packing: bool) -> Any:
    """TRL's SFTTrainer with steps that do not depend on the division of puzzles among processes and micro-batches.

    Blank media keep its processes synchronous if their puzzles have different kinds of media. Every answer token of a
    step has the same weight, which a mean of the means of processes or micro-batches would not give.
    """
    from trl import SFTTrainer

    from jigsaw.models.prompt_batch import add_blank_media
    from jigsaw.training.packing import pack_rows, separate_rows

    class PuzzleSFTTrainer(SFTTrainer):  # type: ignore[misc]  # TRL comes without types
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            weigh_answer_tokens_equally(self)

        def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            if not packing:
                return super().compute_loss(model, add_blank_media(model, inputs), *args, **kwargs)
            inputs = add_blank_media(model, pack_rows(model, inputs))
            with separate_rows(model, inputs):
                return super().compute_loss(model, inputs, *args, **kwargs)

    return PuzzleSFTTrainer
