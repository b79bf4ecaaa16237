"""A batch file for SLURM: one launcher a node, resumed when requeued.

In: a recipe and the command line that launches it. Out: the text of an sbatch file. SLURM warns the batch shell five
minutes before it takes the nodes away (time limit or preemption); the shell asks the run to save and stop, and puts
itself into the queue again. Only options of sbatch itself are used; what a site needs (partition, account, time) comes
from `distributed.slurm`.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence

from jigsaw.config.schema import Recipe
from jigsaw.errors import JigsawError
from jigsaw.run_folder import DONE, RECIPE, STOP

SECONDS_TO_SAVE = 300

CPUS_PER_PROCESS = 8
"""CPUs for each training process: many sites grant a single one for a whole task where none are asked for."""

TIME_LIMIT = "24:00:00"
"""Time limit where a recipe gives none; a job that reaches it is saved and queued again."""

TEMPLATE = """\
#!/bin/bash
{options}
# Defaults, to be changed by distributed.slurm in the recipe or in the lines below. A job that reaches the time limit is
# saved and queued again. Most sites also want a partition and an account.
{defaults}
# Submit with: sbatch FILE. Nodes, run folder and environment must be on file systems that all nodes see.
set -euo pipefail

run={run}
export PYTHONSAFEPATH=1
if [ -n "${{SLURM_CPUS_PER_TASK:-}}" ]; then export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"; fi  # for srun below

# Before SLURM takes the nodes away: let the run save and stop, then queue again, to go on from there.
save_and_requeue() {{
    echo "$(date): asked to stop; saving"
    touch "$run/{stop_file}" || kill "$launchers"  # no run folder: nothing to save yet
    wait "$launchers" || true
    if [ ! -e "$run/{done}" ]; then scontrol requeue "$SLURM_JOB_ID"; fi
    exit 0
}}
trap save_and_requeue USR1

resume=()
if [ -e "$run/{recipe}" ]; then resume=(--resume); fi
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))

srun --ntasks-per-node=1 --kill-on-bad-exit=1 bash -c '
    exec "$@" --node-rank "$SLURM_NODEID"
' launcher {command} --nodes {nodes} --rendezvous "$first:$port" "${{resume[@]}}" &
launchers=$!
wait "$launchers"
"""


def batch_file(recipe: Recipe, name: str, overrides: Sequence[str], *, tiny: bool = False) -> str:
    """The text of an sbatch file that launches a recipe on its nodes.

    Args:
        recipe: resolved; its run folder is fixed in the file, so that a requeued job finds it.
        name: the recipe as the user named it.
        overrides: `key=value` each, as the user gave them.
        tiny: launch the recipe's tiny preset.

    Raises:
        JigsawError: an option of `distributed.slurm` that the file sets itself, or a time that YAML took for a number.
    """
    section = recipe.distributed
    ours: dict[str, str | int | bool] = {
        "job-name": recipe.name,
        "nodes": section.nodes,
        "ntasks-per-node": 1,
        "requeue": True,
        "open-mode": "append",
        "signal": f"B:USR1@{SECONDS_TO_SAVE}",
    }
    if section.gpus == "all":
        ours["exclusive"] = True
    elif section.gpus is not None:
        serving = recipe.rollout.tensor_parallel_size if recipe.grpo is not None and recipe.rollout.served else 0
        ours["gpus-per-node"] = section.gpus + serving  # the server's are used on the first node alone
    defaults: dict[str, str | int | bool] = {"time": TIME_LIMIT, "output": f"{recipe.name}-%j.log"}
    if section.gpus != "all":  # the whole node is reserved
        defaults["cpus-per-task"] = CPUS_PER_PROCESS * section.per_node
    for key, value in section.slurm.items():
        if key in ours:
            raise JigsawError(f"distributed.slurm.{key} is set by the framework ({key}={ours[key]}); leave it out")
        if key == "time" and not isinstance(value, str):
            raise JigsawError(f'distributed.slurm.time: YAML reads {value} as a number; put it in quotes: "24:00:00"')
    defaults = {key: value for key, value in defaults.items() if key not in section.slurm}
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
    return TEMPLATE.format(
        options=_options(ours | section.slurm),
        defaults=_options(defaults),
        run=shlex.quote(recipe.output),
        stop_file=STOP,
        done=DONE,
        recipe=RECIPE,
        command=shlex.join(command),
        nodes=section.nodes,
    )


def _options(values: Mapping[str, str | int | bool]) -> str:
    lines = [f"--{key}" if value is True else f"--{key}={value}" for key, value in values.items() if value is not False]
    return "\n".join(f"#SBATCH {line}" for line in lines)
