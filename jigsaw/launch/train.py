"""Trains a stage of a run, in this process or in several that torchrun starts, with a vLLM server if needed.

In: a stage whose start model exists. Out: the trained model in the run folder.
"""

from __future__ import annotations

import os
import shutil
from contextlib import AbstractContextManager, nullcontext

from rich.console import Console

from jigsaw.config.schema import Recipe
from jigsaw.errors import StoppedError
from jigsaw.launch.torchrun import Node, allocator_settings, run_processes, torchrun_command
from jigsaw.run_folder import RunFolder, checkpoint_step, latest_checkpoint
from jigsaw.stop_request import StopRequest
from jigsaw.topology import Topology
from jigsaw.training.stages import Stage, merge, stages_of, train_stage


def train(recipe: Recipe, stage: Stage, folder: RunFolder, node: Node, console: Console, stop: StopRequest) -> None:
    """Train a stage from its newest intact checkpoint, unless its model exists.

    Args:
        recipe: the recipe of the run.
        stage: one of `stages_of(recipe, folder)`.
        folder: the run folder.
        node: the first node.
        console: the console for progress.
        stop: the stop request, which ends the stage after a step.

    Raises:
        StoppedError: the run was asked to stop and has saved a checkpoint.
        JigsawError: a problem with data, model or settings that the user can correct.
    """
    model = folder.model(stage.out)
    if model.exists():
        return
    stop.check(f"before {stage.name}")
    folder.remove_results(stage.out)
    if not _is_trained(folder, stage):
        with _server(recipe, stage, folder, node, console):
            _train(recipe, stage, folder, node, console, stop)
        if not _is_trained(folder, stage):
            raise StoppedError(f"{folder}: stopped and saved, {_where(folder, stage)}", stop.exit_code)
        shutil.rmtree(folder.checkpoints(stage.name), ignore_errors=True)
    if recipe.model.lora is not None:
        folder.write_once(model, lambda partial: merge(recipe, stage, folder, partial))


def run_worker_node(recipe: Recipe, folder: RunFolder, node: Node) -> None:
    """Train together with the first node, which does everything else; completed stages are skipped.

    Raises:
        StoppedError: the run was asked to stop, and has saved a checkpoint.
    """
    with StopRequest(folder.stop) as stop:
        left = [stage for stage in stages_of(recipe, folder) if not _is_trained(folder, stage)]
        for stage in left:
            _run_processes(recipe, stage, folder, node, stop)
            if stage != left[-1] or not _is_trained(folder, stage):
                stop.check(_where(folder, stage))


def _train(recipe: Recipe, stage: Stage, folder: RunFolder, node: Node, console: Console, stop: StopRequest) -> None:
    from jigsaw.training.checkpoints import quarantine_damaged

    for line in quarantine_damaged(folder.checkpoints(stage.name)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if _in_this_process(recipe):
        os.environ.update(allocator_settings(recipe))
        train_stage(recipe, stage, folder, console, stop)
    else:
        _run_processes(recipe, stage, folder, node, stop)


def _run_processes(recipe: Recipe, stage: Stage, folder: RunFolder, node: Node, stop: StopRequest) -> None:
    number = stages_of(recipe, folder).index(stage)
    command = torchrun_command(Topology.here(recipe.distributed), node, folder.path, stage.name, number)
    with stop.deferred("after this step and saving"):
        run_processes(command, recipe)


def _is_trained(folder: RunFolder, stage: Stage) -> bool:
    """Whether the model of a stage exists, or the adapters from which it is merged."""
    return folder.model(stage.out).exists() or folder.adapters(stage.name).exists()


def _in_this_process(recipe: Recipe) -> bool:
    """Whether to train in this process: the recipe needs one process, and at most one GPU is visible."""
    import torch

    return not Topology.here(recipe.distributed).launched and torch.cuda.device_count() <= 1


def _server(
    recipe: Recipe, stage: Stage, folder: RunFolder, node: Node, console: Console
) -> AbstractContextManager[None]:
    """The server that samples for a stage, if there is one."""
    from jigsaw.engines.serving import serving

    if stage.name != "grpo" or not recipe.rollout.uses_server:
        return nullcontext()
    return serving(recipe, stage.start, folder, node.first, console)


def _where(folder: RunFolder, stage: Stage) -> str:
    latest = latest_checkpoint(folder.checkpoints(stage.name))
    return f"in {stage.name}" if latest is None else f"after step {checkpoint_step(latest)} of {stage.name}"
