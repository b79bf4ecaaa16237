"""What is looked at before a run begins, and shown by `--dry-run`: keys, rewards, data, model, commands.

In: a recipe. Out: one line about the first thing that could not work; or, as text, what a run would do. Nothing is
written, built or loaded.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from jigsaw.config.schema import Recipe
from jigsaw.data import read_manifest
from jigsaw.data.given import SAMPLES, require_source
from jigsaw.errors import JigsawError
from jigsaw.launch.topology import Node, torchrun_command
from jigsaw.run_folder import RunFolder
from jigsaw.tasks import get_task

if TYPE_CHECKING:
    from jigsaw.rewards import Composition

ALONE = Node()


def dry_run(recipe: Recipe, node: Node = ALONE) -> str:
    """The resolved recipe as YAML, with TRL's keys and the rewards checked; nothing is written or trained.

    In comments below it stand the command that would train each stage, DeepSpeed's configuration and its own estimate
    of memory, where the recipe uses it and it is at hand.

    Raises:
        JigsawError: a key, a reward or a place among the nodes that a run would refuse.
    """
    from jigsaw.training.serving import server_line
    from jigsaw.training.sharding import deepspeed_config, memory_estimate
    from jigsaw.training.stages import stages_of

    node.check(recipe.distributed)
    checked(recipe)
    lines = []
    section, folder = recipe.distributed, RunFolder(recipe.output)
    for number, stage in enumerate(stages_of(recipe, folder)):
        if stage.name == "grpo" and recipe.rollout.served and node.rank == 0:
            lines.append(f"server: {server_line(recipe, folder, node.first)}")
        if section.several:
            command = torchrun_command(section, node, folder.path, stage.name, number)
            lines.append(f"{stage.name}: {shlex.join(command)}")
    if (sharding := deepspeed_config(recipe)) is not None:
        lines += ["DeepSpeed:", *json.dumps(sharding, indent=2).splitlines(), memory_estimate(recipe)]
    comments = "".join(f"# {line}\n" for line in lines)
    return OmegaConf.to_yaml(OmegaConf.create(recipe.model_dump(mode="json"))) + comments


def require_inputs(recipe: Recipe) -> None:
    """Refuse data or a model that is not there before anything is written or built."""
    from jigsaw.models.load import require_checkpoint

    for name, entries in (("train", recipe.data.train), ("eval", recipe.data.eval)):
        for number, entry in enumerate(entries):
            if entry.build is not None:
                kind = get_task(entry.build.task, **entry.build.config).source_kind
                try:
                    require_source(entry.build.source, kind)
                except JigsawError as error:
                    raise JigsawError(f"data.{name}.{number}.build: {error}") from error
            if entry.path is not None:
                read_manifest(entry.path)
            if entry.conversations not in (None, SAMPLES) and not Path(entry.conversations).exists():
                raise JigsawError(f"data.{name}.{number}.conversations: {entry.conversations} does not exist")
    if recipe.model.path is not None:
        require_checkpoint(recipe.model.path)


def checked(recipe: Recipe) -> Composition:
    """The recipe's rewards, once every key that the schema leaves to others was looked at.

    Raises:
        JigsawError: a key, a reward or a batch size that a run would refuse.
    """
    import torch

    from jigsaw.rewards import Composition, RewardError
    from jigsaw.training.trl_config import grpo_config, sft_config

    try:
        composition = Composition(recipe.rewards, recipe.metrics)
    except RewardError as error:
        raise JigsawError(f"rewards: {error}") from error
    section, folder = recipe.distributed, Path(recipe.output)
    unknown = section.gpus == "all" and not torch.cuda.is_available()
    processes = 1 if unknown else section.world_size
    if recipe.sft is not None:
        sft_config(recipe, folder, world_size=processes)
    if recipe.grpo is not None:
        grpo_config(recipe, folder, [], list(composition.weights), world_size=processes)
    return composition
