"""Checks before a run begins: settings, model, data, packages and devices; `--dry-run` prints them as a list.

In: a recipe. Out: an error of one line or, for a dry run, a text with what the run would do and whether it could start
here. Nothing is written, built or loaded, and only `require_libraries` imports torch and TRL.
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
from jigsaw.data.building.selection import require_sources
from jigsaw.data.storage.manifest import read_manifest
from jigsaw.environment import user_is_offline
from jigsaw.errors import JigsawError, first_line
from jigsaw.launch.estimate_text import estimate_lines
from jigsaw.launch.machine import Check, Status, machine_checks, require
from jigsaw.launch.puzzle_sets import build_config
from jigsaw.launch.torchrun import Node, torchrun_command
from jigsaw.models.checkpoint_files import architecture_of, cached, is_local, require_files, size_of
from jigsaw.models.shapes import shape_of
from jigsaw.run_folder import RunFolder
from jigsaw.samples.builtin import KINDS, SAMPLES, require_source, source_needs
from jigsaw.topology import Topology

if TYPE_CHECKING:
    from jigsaw.rewards import Composition

SINGLE_NODE = Node()


def dry_run(recipe: Recipe, node: Node = SINGLE_NODE, checks: Sequence[Check] | None = None) -> str:
    """A description of the run as YAML: the resolved recipe and, as comments, commands, estimates and checks.

    Args:
        recipe: the recipe of the run.
        node: this machine's rank, for runs on several machines.
        checks: `checklist(recipe, node)`, if it was computed before.

    Raises:
        JigsawError: the run would refuse a key, a reward, a batch size or the rank of this machine.
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
    """One sentence about whether the run can start.

    >>> verdict([Check("missing", "distributed.gpus", "8 are required and this machine has 0")])
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
    """The checks of everything that a run needs on this machine.

    Args:
        recipe: the recipe of the run.
        node: this machine's rank; only the first node reads the data and writes the run folder.
        resume: whether an unfinished run would be continued.

    Raises:
        JigsawError: a run would refuse a key, a reward, a batch size or the rank on any machine.
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
    return Check("ok", "output", f"{recipe.output}, {'an unfinished run' if resume else 'new or empty'}")


def _merged(checks: Iterable[Check]) -> list[Check]:
    """The checks, with checks of the same status and detail merged into one."""
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
    """Check the settings that the schema does not check, and return the recipe's rewards.

    Raises:
        JigsawError: the run would refuse a reward or a batch size.
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
    """Number of training processes; one per node if all GPUs are required and there is none, which is refused later."""
    try:
        return Topology.here(recipe.distributed).world_size
    except JigsawError:
        return recipe.distributed.nodes


def _settings(recipe: Recipe) -> Check:
    """The check of settings, with the batch sizes of each stage."""
    processes, batch_sizes = _processes(recipe), []
    on = "" if processes == 1 else f" on each of {processes} processes"
    if recipe.sft is not None:
        batches = recipe.sft.micro_batches(processes)
        step = batches.size * batches.count * processes
        batch_sizes.append(f"sft: {step} puzzles per step, {batches.size} per micro-batch{on}")
    if recipe.grpo is not None:
        batches = recipe.grpo.micro_batches(processes)
        size = f"{recipe.grpo.prompts_per_step} prompts x {recipe.grpo.num_generations} completions per step"
        limit = recipe.grpo.tokens_per_micro_batch
        part = f"{batches.size} completions" if limit is None else f"at most {limit:,} tokens"
        batch_sizes.append(f"grpo: {size}, {part} per micro-batch{on}")
    return Check("ok", "settings", f"keys and rewards are valid; {'; '.join(batch_sizes)}")


def require_inputs(recipe: Recipe) -> None:
    """Check that a run can open its data and model, before anything is written or built.

    For a model on the hub, all files except the weights are downloaded, so that a wrong name is reported here.

    Raises:
        JigsawError: data or model are missing; the message names the first problem.
    """
    require(input_checks(recipe))
    path = recipe.model.path
    if path is not None and not is_local(path):
        from jigsaw.models.load import fetch_configuration

        architecture_of(fetch_configuration(path))


def input_checks(recipe: Recipe) -> Iterator[Check]:
    """The checks of the model and of the sources of the puzzle sets."""
    yield _model(recipe)
    recorded = RunFolder(recipe.output).data.exists()  # a resumed run opens the sets that it built
    for name, entries in (("train", recipe.data.train), ("eval", recipe.data.eval)):
        for number, entry in enumerate(entries):
            yield _data(f"data.{name}.{number}", entry, Path(recipe.data.folder), listed=not recorded)


def _model(recipe: Recipe) -> Check:
    path, key = recipe.model.path, "model.path"
    if path is None:
        return Check("ok", "model.tiny", f"{recipe.model.tiny} with random weights")
    size = size_of(path)
    detail = path if size is None else f"{path}, {size}"
    try:
        if is_local(path):
            if not Path(path).is_dir():
                return Check("missing", key, f"{path}: no such checkpoint folder")
            require_files(Path(path))
            return Check("ok", key, detail)
        if (folder := cached(path)) is not None:
            architecture_of(folder)
    except JigsawError as error:
        return Check("missing", key, str(error))
    try:
        if folder is not None:
            require_files(folder)
            return Check("ok", key, f"{detail}, in the hub's cache")
    except JigsawError:
        pass  # files that the cache lacks are downloaded
    if user_is_offline():
        return Check("missing", key, f"{path} is not in the hub's cache, and HF_HUB_OFFLINE forbids the download")
    later = "; its architecture is checked after the download, docs/models.md lists the supported ones"
    is_known = folder is not None or shape_of(path) is not None
    return Check("will download", key, f"{detail}, from the hub{'' if is_known else later}")


def _data(key: str, entry: DataEntry, folder: Path, *, listed: bool) -> Check:
    """The check of a set; if `listed`, its source must have files of the right kind in the split that is built."""
    try:
        if entry.path is not None:
            return Check("ok", f"{key}.path", f"{read_manifest(entry.path).counts.puzzles} puzzles in {entry.path}")
        if entry.build is not None:
            key, source, prefix = f"{key}.build", entry.build.source, f"{entry.build.task} puzzles from "
            config = build_config(entry.build)
            require_source(source, config.make_task().source_kind)
            if listed and source not in KINDS:
                require_sources(config, Path(source), folder)
        else:
            key, source, prefix = f"{key}.conversations", str(entry.conversations), ""
            if source != SAMPLES and not Path(source).exists():
                return Check("missing", key, f"{source} does not exist")
        needs = source_needs(source, folder)
    except JigsawError as error:
        return Check("missing", key, str(error))
    if needs is not None:
        return Check("will download", key, f"{prefix}{source}; {needs}")
    return Check("ok", key, f"{prefix}{source}")


def require_libraries(recipe: Recipe, composition: Composition) -> None:
    """Check what only torch and TRL know, before anything is built. Imports both.

    Raises:
        JigsawError: TRL cannot be imported, torch sees too few GPUs, or TRL refuses a setting.
    """
    from jigsaw.compat import quick_imports
    from jigsaw.training.trl_config import grpo_config, sft_config

    with quick_imports():
        import torch

        try:
            from trl import GRPOTrainer, SFTTrainer  # noqa: F401  # the stages need them
        except (ImportError, RuntimeError) as error:  # TRL also imports optional packages, if they are installed
            raise JigsawError(
                f"TRL cannot be imported: {first_line(error.__cause__ or error)}; "
                "reinstall or remove the package that is named"
            ) from error

    section, folder = recipe.distributed, Path(recipe.output)
    usable = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if section.gpus is not None and usable < Topology.here(section).per_node:
        raise JigsawError(
            f"distributed.gpus: {section.gpus} are required, and torch can use {usable}; "
            f"see `python -c 'import torch; torch.cuda.init()'`"
        )
    if recipe.sft is not None:
        sft_config(recipe, folder, world_size=_processes(recipe))
    if recipe.grpo is not None:
        grpo_config(recipe, folder, [], list(composition.weights), world_size=_processes(recipe))
