"""The supervised stage: puzzles with their right answers, or conversations. A warm-up for GRPO, or a run of its own.

In: a set of either, or of both. Out: the model, trained in place by TRL's SFTTrainer on the answer tokens alone.
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

    How many steps a model from random weights needs differs by seed; how much it knows at a given accuracy does not.

    Args:
        level: share of the answer tokens, averaged over the last `ACCURACY_STEPS` steps.
    """

    def __init__(self, level: float) -> None:
        self._level = level

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Compare; the history is part of every checkpoint, so that a resumed stage ends at the same step."""
        values = [row["mean_token_accuracy"] for row in state.log_history if "mean_token_accuracy" in row]
        if len(values) >= ACCURACY_STEPS and mean(values[-ACCURACY_STEPS:]) >= self._level:
            control.should_training_stop = True
            control.should_save = False  # a run resumed from this step would train beyond it


def with_answer(row: dict[str, Any]) -> dict[str, Any]:
    """The row as SFTTrainer reads it: prompt, media and what is learned.

    That is a conversation's own last answer, or a puzzle's right one in its answer style.
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
        None once its result is written; the step after which it was saved if it was asked to stop.
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
    # The model is written inside of the block too: it has the steps since the last checkpoint.
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
    """Train `model` in place on the answers of `puzzles`, from the checkpoint to resume from, if any.

    Args:
        model: a vision-language model.
        processor: of the same checkpoint.
        puzzles: a puzzle set, or a mixture of several.
        config: TRL's SFTConfig.
        callbacks: `transformers` trainer callbacks.
        muon: optimise with `jigsaw.training.muon` instead of what the configuration names.
        packing: compute the rows of a micro-batch as one sequence, without padding.

    Returns:
        The trainer, which knows how the weights are spread over processes.
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
    """TRL's SFTTrainer, whose steps do not depend on how puzzles are dealt to processes and micro-batches.

    Its processes stay in step where their puzzles show different kinds of media, and every answer token of a step
    weighs the same: answers differ in length, so a mean of each process's or micro-batch's own mean would not.
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
