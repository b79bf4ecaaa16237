"""A batch file for SLURM: one launcher a node, resumed when requeued.

In: a recipe and the command line that launches it. Out: the text of an sbatch file. SLURM warns the batch shell before
it takes the nodes away (time limit or preemption); the shell asks the run to save and stop, and puts the job into the
queue again. Only options of sbatch itself are used; what a site needs (partition, account, time) comes from
`distributed.slurm`.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path

from jinja2 import StrictUndefined, Template

from jigsaw.config.schema import Recipe
from jigsaw.errors import JigsawError
from jigsaw.launch.estimate import Estimate, estimates
from jigsaw.launch.memory import GB
from jigsaw.run_folder import DONE, RECIPE, STOP
from jigsaw.topology import Topology

Option = str | int | bool

LEAST_TO_SAVE, UNKNOWN_TO_SAVE = 300, 1200
"""Seconds to save: at the least, and on GPUs where the size of the model is not known."""

CPUS_PER_PROCESS = 8
"""CPUs for each training process: many sites grant a single one for a whole task where none are asked for."""

GPU_OPTIONS = ("gpus-per-node", "gres")
"""How GPUs are asked for: by the first, or at sites that do not know it by the second."""

TEMPLATE = Path(__file__).with_name("slurm.sh.j2")
"""The batch file, to be filled by Jinja."""

TIME_LIMIT = "24:00:00"
"""Time limit where a recipe gives none; a job that reaches it is saved and queued again."""


def batch_file(recipe: Recipe, name: str, overrides: Sequence[str], *, tiny: bool = False) -> str:
    """The text of an sbatch file that launches a recipe on its nodes.

    Args:
        recipe: resolved; its run folder is fixed in the file, so that a requeued job finds it.
        name: the recipe as the user named it.
        overrides: `key=value` each, as the user gave them.
        tiny: launch the recipe's tiny preset.

    Raises:
        JigsawError: an option of `distributed.slurm` that the file sets itself, a number of GPUs that is not the
            recipe's, a time that YAML took for a number or that leaves none to train.
    """
    section, given = recipe.distributed, recipe.distributed.slurm
    found = _estimates(recipe)
    seconds = seconds_to_save(recipe, found)
    ours: dict[str, Option] = {
        "job-name": recipe.name,
        "nodes": section.nodes,
        "ntasks-per-node": 1,
        "requeue": True,
        "open-mode": "append",
        "signal": f"B:USR1@{seconds}",
    }
    if section.gpus == "all":
        ours["exclusive"] = True
    for key in given:
        if key == "signal":
            raise JigsawError(
                f"distributed.slurm.signal is set by the framework; change distributed.seconds_to_save ({seconds})"
            )
        if key in ours:
            raise JigsawError(f"distributed.slurm.{key} is set by the framework ({key}={ours[key]}); leave it out")
    if isinstance(section.gpus, int):
        ours |= _gpus(recipe, section.gpus)
    _check_time(given.get("time", TIME_LIMIT), seconds)
    defaults = {key: value for key, value in _defaults(recipe, found).items() if key not in given}
    if "cpus-per-gpu" in given:
        defaults.pop("cpus-per-task", None)
    notes = [f"# The run is asked to save {seconds} s before the end (distributed.seconds_to_save)."]
    if "gpus-per-node" in ours:
        gres = f"distributed.slurm.gres=gpu:{str(ours['gpus-per-node']).rpartition(':')[2]}"
        notes.append(f"# At a site that does not know --gpus-per-node: {gres}")
    fixed = [item for item in overrides if not item.startswith(("output=", "distributed.nodes="))]
    command = [
        sys.executable,
        "-m",
        "jigsaw",
        "launch",
        name,
        *fixed,
        f"output={recipe.output}",
        *(["--tiny"] if tiny else []),
    ]
    template = Template(TEMPLATE.read_text(encoding="utf-8"), undefined=StrictUndefined, keep_trailing_newline=True)
    text: str = template.render(
        options=_options({key: value for key, value in given.items() if key not in ours} | ours),
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


def seconds_to_save(recipe: Recipe, found: Sequence[Estimate] | None = None) -> int:
    """How long before the end a run is asked to save: three times what a step and a checkpoint take.

    Args:
        recipe: of the run; `distributed.seconds_to_save` decides where it is given.
        found: its estimates, where they are known.
    """
    section = recipe.distributed
    if section.seconds_to_save is not None:
        return section.seconds_to_save
    found = _estimates(recipe) if found is None else found
    if not found:
        return UNKNOWN_TO_SAVE if section.gpus is not None else LEAST_TO_SAVE
    return max(LEAST_TO_SAVE, 60 * ceil(3 * max(one.saving for one in found) / 60))


def _estimates(recipe: Recipe) -> list[Estimate]:
    return estimates(recipe) if recipe.distributed.gpus is not None else []


def _defaults(recipe: Recipe, found: Sequence[Estimate]) -> dict[str, Option]:
    """What a recipe may change: time, log, CPUs, and memory of the host where it is known by computation."""
    section = recipe.distributed
    values: dict[str, Option] = {"time": TIME_LIMIT, "output": f"{recipe.name}-%j.log"}
    if section.gpus != "all":  # the whole node is reserved
        values["cpus-per-task"] = CPUS_PER_PROCESS * Topology.here(section).per_node
        if found:
            values["mem"] = f"{8 * ceil(1.1 * max(sum(one.host.values()) for one in found) / GB / 8)}G"
    return values


def _gpus(recipe: Recipe, training: int) -> dict[str, Option]:
    """The option that asks for the GPUs of a node; those of a server are used on the first node only.

    Raises:
        JigsawError: the recipe's own option asks for another number.
    """
    serving = recipe.rollout.tensor_parallel_size if recipe.grpo is not None and recipe.rollout.uses_server else 0
    wanted = training + serving
    given = {key: value for key in GPU_OPTIONS if (value := recipe.distributed.slurm.get(key, False)) is not False}
    for key, value in given.items():
        kinds = [kind for kind in str(value).split(",") if key != "gres" or kind.startswith("gpu")]
        counts = [int(kind.rpartition(":")[2]) if kind.rpartition(":")[2].isdecimal() else 1 for kind in kinds]
        if sum(counts) != wanted:
            raise JigsawError(
                f"distributed.slurm.{key}: {value} is {sum(counts)} GPUs of each node, and the recipe uses {wanted}"
            )
    return given or {"gpus-per-node": wanted}


TIME = re.compile(
    r"(?:(?P<days>\d+)-(?P<hours>\d+)(?::(?P<minutes>\d+)(?::(?P<seconds>\d+))?)?"
    r"|(?:(?:(?P<hour>\d+):)?(?P<minute>\d+):(?P<second>\d+))|(?P<only>\d+))"
)
"""sbatch's forms of a time: minutes, minutes:seconds, hours:minutes:seconds, days-hours[:minutes[:seconds]]."""


def _check_time(value: Option, seconds: int) -> None:
    """Refuse a time limit that is none, or that ends before a run is asked to save.

    Raises:
        JigsawError: it is a number, of another form, or too short.
    """
    key = "distributed.slurm.time"
    if value is False or value == "UNLIMITED":
        return
    if not isinstance(value, str):
        raise JigsawError(f'{key}: YAML reads {value} as a number; put it in quotes: "24:00:00"')
    if (match := TIME.fullmatch(value)) is None:
        raise JigsawError(f'{key}: {value!r} is no time for sbatch; write hours:minutes:seconds, "24:00:00"')
    part = {name: int(text) for name, text in match.groupdict(default="0").items()}
    limit = 86400 * part["days"] + 3600 * (part["hours"] + part["hour"])
    limit += 60 * (part["minutes"] + part["minute"] + part["only"]) + part["seconds"] + part["second"]
    if limit <= seconds:
        raise JigsawError(
            f"{key}: {value} is over before a run that is asked to save {seconds} s ahead has trained; "
            f"give it more, or set distributed.seconds_to_save"
        )


def _options(values: Mapping[str, Option]) -> str:
    lines = [f"--{key}" if value is True else f"--{key}={value}" for key, value in values.items() if value is not False]
    return "\n".join(f"#SBATCH {line}" for line in lines)
