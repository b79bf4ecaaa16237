"""Checks before a run begins: settings, model, data, packages and devices; `--dry-run` shows them as a list.

In: a recipe. Out: a refusal in one line, or as text what a run would do and whether it could start here. Nothing is
written, built or loaded, and up to `require_libraries` neither torch nor TRL is imported.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from jigsaw.config.data import DataEntry
from jigsaw.config.schema import Recipe
from jigsaw.data.storage.manifest import read_manifest
from jigsaw.environment import user_is_offline
from jigsaw.errors import JigsawError
from jigsaw.launch.estimate_text import estimate_lines
from jigsaw.launch.machine import Check, Status, machine_checks, require
from jigsaw.launch.torchrun import Node, torchrun_command
from jigsaw.models.checkpoint_files import architecture_of, cached, is_local, require_files, size_of
from jigsaw.run_folder import RunFolder
from jigsaw.samples.builtin import SAMPLES, require_source, source_needs
from jigsaw.tasks import get_task
from jigsaw.topology import Topology

if TYPE_CHECKING:
    from jigsaw.rewards import Composition

SINGLE_NODE = Node()


def dry_run(recipe: Recipe, node: Node = SINGLE_NODE, checks: Sequence[Check] | None = None) -> str:
    """What a run would do, as YAML: the resolved recipe, and in comments commands, DeepSpeed's settings, what the run
    takes by computation, and the checks.

    Args:
        recipe: of the run.
        node: this machine's place, where a run spans several.
        checks: `checklist(recipe, node)`, where it is known.

    Raises:
        JigsawError: a key, a reward, a batch size or a place among the nodes that a run would refuse.
    """
    from jigsaw.engines.serving import server_line
    from jigsaw.training.sharding import deepspeed_config
    from jigsaw.training.stages import stages_of

    checks = checklist(recipe, node) if checks is None else checks
    lines = []
    topology, folder = Topology.here(recipe.distributed), RunFolder(recipe.output)
    for number, stage in enumerate(stages_of(recipe, folder)):
        if stage.name == "grpo" and recipe.rollout.uses_server and node.rank == 0:
            lines.append(f"server: {server_line(recipe, folder, node.first)}")
        if topology.launched:
            command = torchrun_command(topology, node, folder.path, stage.name, number)
            lines.append(f"{stage.name}: {shlex.join(command)}")
    if (sharding := deepspeed_config(recipe)) is not None:
        lines += ["DeepSpeed:", *json.dumps(sharding, indent=2).splitlines()]
    lines += estimate_lines(recipe)
    lines += ["Checks:", *map(str, checks), verdict(checks)]
    comments = "".join(f"# {line}\n" for line in lines)
    return OmegaConf.to_yaml(OmegaConf.create(recipe.model_dump(mode="json"))) + comments


def verdict(checks: Sequence[Check]) -> str:
    """Whether a run could start, in a sentence.

    >>> verdict([Check("missing", "distributed.gpus", "8 are asked for and this machine has 0")])
    'this run cannot start here: 1 thing is missing (distributed.gpus)'
    """
    missing = [check.what for check in checks if check.status == "missing"]
    if missing:
        count = f"{len(missing)} things are" if len(missing) > 1 else "1 thing is"
        return f"this run cannot start here: {count} missing ({', '.join(missing)})"
    downloads = sum(check.status == "will download" for check in checks)
    return "this run can start here" + (
        f", with {downloads} download{'s' if downloads > 1 else ''}" if downloads else ""
    )


def checklist(recipe: Recipe, node: Node = SINGLE_NODE, *, resume: bool = False) -> list[Check]:
    """Everything that a run needs on this machine, and whether it is there.

    Args:
        recipe: of the run.
        node: this machine's place; only the first reads the data and writes the run folder.
        resume: whether an unfinished run would be continued.

    Raises:
        JigsawError: a key, a reward, a batch size or a place among the nodes that a run would refuse anywhere.
    """
    node.check(recipe.distributed)
    validate_settings(recipe)
    inputs = [*input_checks(recipe), _output(recipe, resume)] if node.rank == 0 else []
    return _merged([_settings(recipe), *inputs, *machine_checks(recipe)])


def _output(recipe: Recipe, resume: bool) -> Check:
    try:
        RunFolder(recipe.output).require_usable(recipe, resume=resume)
    except JigsawError as error:
        return Check("missing", "output", str(error).removeprefix("output: "))
    return Check("ok", "output", f"{recipe.output}, {'to be continued' if resume else 'new or empty'}")


def _merged(checks: Iterable[Check]) -> list[Check]:
    """The checks, with those that say the same of several keys in one."""
    keys: dict[tuple[Status, str], list[str]] = {}
    for check in checks:
        keys.setdefault((check.status, check.detail), []).append(check.what)
    return [Check(status, _listed(names), detail) for (status, detail), names in keys.items()]


def _listed(names: Sequence[str]) -> str:
    """The first name and the number of the others.

    >>> _listed(["data.train.0.build", "data.train.1.build", "data.eval.0.build"])
    'data.train.0.build and 2 more'
    """
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def validate_settings(recipe: Recipe) -> Composition:
    """The recipe's rewards, after every setting that the schema leaves to others was checked.

    Raises:
        JigsawError: a reward or a batch size that a run would refuse.
    """
    from jigsaw.rewards import Composition, RewardError

    try:
        composition = Composition(recipe.rewards, recipe.metrics)
        composition.require_columns()
    except RewardError as error:
        raise JigsawError(f"rewards: {error}") from error
    for section in (recipe.sft, recipe.grpo):
        if section is not None:
            section.micro_batches(_processes(recipe))
    return composition


def _processes(recipe: Recipe) -> int:
    """Processes that train together; 1 for all GPUs of a machine that has none, which is refused elsewhere."""
    try:
        return Topology.here(recipe.distributed).world_size
    except JigsawError:
        return recipe.distributed.nodes


def _settings(recipe: Recipe) -> Check:
    """The batch of each stage, in numbers."""
    processes, told = _processes(recipe), []
    on = "" if processes == 1 else f" on each of {processes} processes"
    if recipe.sft is not None:
        batches = recipe.sft.micro_batches(processes)
        told.append(f"sft: {batches.size * batches.count * processes} puzzles a step, {batches.size} at a time{on}")
    if recipe.grpo is not None:
        batches = recipe.grpo.micro_batches(processes)
        size = f"{recipe.grpo.prompts_per_step} prompts x {recipe.grpo.num_generations} completions a step"
        limit = recipe.grpo.tokens_per_micro_batch
        part = f"{batches.size} completions" if limit is None else f"at most {limit:,} tokens"
        told.append(f"grpo: {size}, {part} at a time{on}")
    return Check("ok", "settings", f"keys and rewards are valid; {'; '.join(told)}")


def require_inputs(recipe: Recipe) -> None:
    """Refuse data or a model that a run could not open, before anything is written or built.

    Of a model on the hub everything but the weights is fetched, so that a wrong name ends the run here.

    Raises:
        JigsawError: the first thing that is missing.
    """
    require(input_checks(recipe))
    path = recipe.model.path
    if path is not None and not is_local(path):
        from jigsaw.models.load import fetch_configuration

        architecture_of(fetch_configuration(path))


def input_checks(recipe: Recipe) -> Iterator[Check]:
    """The model and the sources of the puzzle sets."""
    yield _model(recipe)
    for name, entries in (("train", recipe.data.train), ("eval", recipe.data.eval)):
        for number, entry in enumerate(entries):
            yield _data(f"data.{name}.{number}", entry, Path(recipe.data.folder))


def _model(recipe: Recipe) -> Check:
    path, key = recipe.model.path, "model.path"
    if path is None:
        return Check("ok", "model.tiny", f"{recipe.model.tiny}, made from random weights")
    size = size_of(path)
    told = path if size is None else f"{path}, {size}"
    try:
        if is_local(path):
            if not Path(path).is_dir():
                return Check("missing", key, f"{path}: no such checkpoint folder")
            require_files(Path(path))
            return Check("ok", key, told)
        if (folder := cached(path)) is not None:
            architecture_of(folder)
    except JigsawError as error:
        return Check("missing", key, str(error))
    try:
        if folder is not None:
            require_files(folder)
            return Check("ok", key, f"{told}, in the hub's cache")
    except JigsawError:
        pass  # what the cache lacks is fetched
    if user_is_offline():
        return Check("missing", key, f"{path} is not in the hub's cache, and HF_HUB_OFFLINE forbids to fetch it")
    return Check("will download", key, f"{told}, from the hub")


def _data(key: str, entry: DataEntry, folder: Path) -> Check:
    try:
        if entry.path is not None:
            return Check("ok", f"{key}.path", f"{read_manifest(entry.path).counts.puzzles} puzzles in {entry.path}")
        if entry.build is not None:
            key, source, told = f"{key}.build", entry.build.source, f"{entry.build.task} puzzles from "
            require_source(source, get_task(entry.build.task, **entry.build.config).source_kind)
        else:
            key, source, told = f"{key}.conversations", str(entry.conversations), ""
            if source != SAMPLES and not Path(source).exists():
                return Check("missing", key, f"{source} does not exist")
        needs = source_needs(source, folder)
    except JigsawError as error:
        return Check("missing", key, str(error))
    if needs is not None:
        return Check("will download", key, f"{told}{source}; {needs}")
    return Check("ok", key, f"{told}{source}")


def require_libraries(recipe: Recipe, composition: Composition) -> None:
    """Refuse what only torch and TRL themselves can tell, before anything is built. Imports both.

    Raises:
        JigsawError: torch sees fewer GPUs than the driver, or TRL refuses a setting.
    """
    from jigsaw.compat import quick_imports
    from jigsaw.training.trl_config import grpo_config, sft_config

    with quick_imports():
        import torch
        from trl import GRPOTrainer, SFTTrainer  # noqa: F401  # the stages need them

    section, folder = recipe.distributed, Path(recipe.output)
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if section.gpus is not None and found < Topology.here(section).per_node:
        raise JigsawError(
            f"distributed.gpus: {section.gpus} are asked for, and torch can use {found}; "
            f"see `python -c 'import torch; torch.cuda.init()'`"
        )
    if recipe.sft is not None:
        sft_config(recipe, folder, world_size=_processes(recipe))
    if recipe.grpo is not None:
        grpo_config(recipe, folder, [], list(composition.weights), world_size=_processes(recipe))
