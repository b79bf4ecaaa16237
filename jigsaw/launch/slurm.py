"""Writes a batch file for SLURM: one launcher per node; a requeued job resumes the run.

In: a recipe and the command line that launches it. Out: the text of an sbatch file. SLURM signals the batch shell
    before
it ends the job (time limit or preemption); the shell asks the run to save and stop, and requeues the job. The options
that a site needs (partition, account, time) come from `distributed.slurm`.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path

from jinja2 import StrictUndefined, Template

from jigsaw.config.fresh import RECIPE
from jigsaw.config.schema import Recipe
from jigsaw.errors import JigsawError
from jigsaw.launch.estimate import Estimate, estimates
from jigsaw.launch.memory import GB
from jigsaw.run_folder import DONE, STOP
from jigsaw.topology import Topology

Option = str | int | bool

LEAST_TO_SAVE, UNKNOWN_TO_SAVE = 300, 1200
"""Seconds to save: the minimum, and the value for GPUs if the size of the model is unknown."""

CPUS_PER_PROCESS = 8
"""CPUs per training process: without the option, many sites grant one CPU for the complete task."""

GPU_OPTIONS = ("gpus-per-node", "gres")
"""The options that request GPUs; the second is for sites that do not support the first."""

TEMPLATE = Path(__file__).with_name("slurm.sh.j2")
"""The Jinja template of the batch file."""

TIME_LIMIT = "24:00:00"
"""Default time limit; a job that reaches it is saved and requeued."""


def batch_file(recipe: Recipe, name: str, overrides: Sequence[str], *, tiny: bool = False) -> str:
    """The text of an sbatch file that launches a recipe on its nodes.

    Args:
        recipe: the resolved recipe; the file contains its run folder, so that a requeued job uses the same.
        name: the recipe argument of the user.
        overrides: the overrides of the user, `key=value` each.
        tiny: launch the recipe's tiny preset.

    Raises:
        JigsawError: `distributed.slurm` has an option that the file sets itself, another number of GPUs than the
            recipe, or a time that YAML read as a number or that is too short for training.
    """
    section, options = recipe.distributed, recipe.distributed.slurm
    stages = _estimates(recipe)
    seconds = seconds_to_save(recipe, stages)
    fixed: dict[str, Option] = {
        "job-name": recipe.name,
        "nodes": section.nodes,
        "ntasks-per-node": 1,
        "requeue": True,
        "open-mode": "append",
        "signal": f"B:USR1@{seconds}",
    }
    if section.gpus == "all":
        fixed["exclusive"] = True
    for key in options:
        if key == "signal":
            raise JigsawError(
                f"distributed.slurm.signal is set by the framework; change distributed.seconds_to_save ({seconds})"
            )
        if key in fixed:
            raise JigsawError(f"distributed.slurm.{key} is set by the framework ({key}={fixed[key]}); leave it out")
    if isinstance(section.gpus, int):
        fixed |= _gpus(recipe, section.gpus)
    _check_time(options.get("time", TIME_LIMIT), seconds)
    defaults = {key: value for key, value in _defaults(recipe, stages).items() if key not in options}
    if "cpus-per-gpu" in options:
        defaults.pop("cpus-per-task", None)
    notes = [f"# The run is asked to save {seconds} s before the end (distributed.seconds_to_save)."]
    if "gpus-per-node" in fixed:
        gres = f"distributed.slurm.gres=gpu:{str(fixed['gpus-per-node']).rpartition(':')[2]}"
        notes.append(f"# If the site does not support --gpus-per-node: {gres}")
    kept = [item for item in overrides if not item.startswith(("output=", "distributed.nodes="))]
    command = [
        sys.executable,
        "-m",
        "jigsaw",
        "launch",
        name,
        *kept,
        f"output={recipe.output}",
        *(["--tiny"] if tiny else []),
    ]
    template = Template(TEMPLATE.read_text(encoding="utf-8"), undefined=StrictUndefined, keep_trailing_newline=True)
    text: str = template.render(
        options=_options({key: value for key, value in options.items() if key not in fixed} | fixed),
        defaults=_options(defaults),
        notes="\n".join(notes),
        run=shlex.quote(recipe.output),
        stop_file=STOP,
        done=DONE,
        recipe=RECIPE,
        command=shlex.join(command),
        nodes=section.nodes,
    )
    return text


def seconds_to_save(recipe: Recipe, stages: Sequence[Estimate] | None = None) -> int:
    """Seconds before the end at which a run is asked to save: three times a step and a checkpoint.

    Args:
        recipe: the recipe of the run; `distributed.seconds_to_save` overrides the computation.
        stages: its estimates, if they were computed before.
    """
    section = recipe.distributed
    if section.seconds_to_save is not None:
        return section.seconds_to_save
    stages = _estimates(recipe) if stages is None else stages
    if not stages:
        return UNKNOWN_TO_SAVE if section.gpus is not None else LEAST_TO_SAVE
    return max(LEAST_TO_SAVE, 60 * ceil(3 * max(one.saving for one in stages) / 60))


def _estimates(recipe: Recipe) -> list[Estimate]:
    return estimates(recipe) if recipe.distributed.gpus is not None else []


def _defaults(recipe: Recipe, stages: Sequence[Estimate]) -> dict[str, Option]:
    """Options that a recipe may change: time, log, CPUs and, if it could be estimated, host memory."""
    section = recipe.distributed
    values: dict[str, Option] = {"time": TIME_LIMIT, "output": f"{recipe.name}-%j.log"}
    if section.gpus != "all":  # otherwise the complete node is reserved
        values["cpus-per-task"] = CPUS_PER_PROCESS * Topology.here(section).per_node
        if stages:
            values["mem"] = f"{8 * ceil(1.1 * max(sum(one.host.values()) for one in stages) / GB / 8)}G"
    return values


def _gpus(recipe: Recipe, training: int) -> dict[str, Option]:
    """The option that requests the GPUs of a node; those of a server are only used on the first node.

    Raises:
        JigsawError: an option of the recipe requests another number.
    """
    serving = recipe.rollout.tensor_parallel_size if recipe.grpo is not None and recipe.rollout.uses_server else 0
    required = training + serving
    options = {key: value for key in GPU_OPTIONS if (value := recipe.distributed.slurm.get(key, False)) is not False}
    for key, value in options.items():
        kinds = [kind for kind in str(value).split(",") if key != "gres" or kind.startswith("gpu")]
        counts = [int(kind.rpartition(":")[2]) if kind.rpartition(":")[2].isdecimal() else 1 for kind in kinds]
        if sum(counts) != required:
            raise JigsawError(
                f"distributed.slurm.{key}: {value} is {sum(counts)} GPUs per node, but the recipe uses {required}"
            )
    return options or {"gpus-per-node": required}


TIME = re.compile(
    r"(?:(?P<days>\d+)-(?P<hours>\d+)(?::(?P<minutes>\d+)(?::(?P<seconds>\d+))?)?"
    r"|(?:(?:(?P<hour>\d+):)?(?P<minute>\d+):(?P<second>\d+))|(?P<only>\d+))"
)
"""sbatch's time formats: minutes, minutes:seconds, hours:minutes:seconds, days-hours[:minutes[:seconds]]."""


def _check_time(value: Option, seconds: int) -> None:
    """Refuse a time limit that is not valid, or that ends before a run is asked to save.

    Raises:
        JigsawError: the limit is a number, has another format, or is too short.
    """
    key = "distributed.slurm.time"
    if value is False or value == "UNLIMITED":
        return
    if not isinstance(value, str):
        raise JigsawError(f'{key}: YAML reads {value} as a number; put it in quotes: "24:00:00"')
    if (match := TIME.fullmatch(value)) is None:
        raise JigsawError(f'{key}: {value!r} is not a time for sbatch; write hours:minutes:seconds, "24:00:00"')
    part = {name: int(text) for name, text in match.groupdict(default="0").items()}
    limit = 86400 * part["days"] + 3600 * (part["hours"] + part["hour"])
    limit += 60 * (part["minutes"] + part["minute"] + part["only"]) + part["seconds"] + part["second"]
    if limit <= seconds:
        raise JigsawError(
            f"{key}: {value} is too short for a run that is asked to save {seconds} s before the end; "
            f"increase it, or set distributed.seconds_to_save"
        )


def _options(values: Mapping[str, Option]) -> str:
    lines = [f"--{key}" if value is True else f"--{key}={value}" for key, value in values.items() if value is not False]
    return "\n".join(f"#SBATCH {line}" for line in lines)
