"""Several processes for a training stage: torchrun starts them on this node and finds those of the others.

In: a recipe, a stage and this machine's place among the nodes. Out: the stage, trained. The launcher itself only waits;
it passes a request to stop (Ctrl-C, SIGTERM) on through a file in the run folder, which all nodes see.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from jigsaw.config.schema import DistributedSection, Recipe
from jigsaw.errors import JigsawError
from jigsaw.processes import die_with_parent, usable_cores
from jigsaw.topology import Topology

SECONDS_TO_GATHER = 24 * 3600
"""How long a node waits for the others: the first may have to build data before it trains."""


@dataclass(frozen=True)
class Node:
    """This machine's place in a run.

    Attributes:
        rank: its number, from 0; the first builds data, evaluates and writes.
        rendezvous: host and port of the first node, `host:port`; each stage uses a port of its own, from this one up.
    """

    rank: int = 0
    rendezvous: str | None = None

    @property
    def first(self) -> str | None:
        """Name or address of the first node; None for a run on one."""
        return None if self.rendezvous is None else self.rendezvous.rpartition(":")[0]

    def check(self, section: DistributedSection) -> None:
        """Refuse a place that does not fit the number of nodes.

        Raises:
            JigsawError: no rendezvous for several nodes, or a rank that is none of theirs.
        """
        if section.nodes > 1 and self.rendezvous is None:
            raise JigsawError(
                f"distributed.nodes: {section.nodes} nodes need --node-rank R and --rendezvous HOST:PORT on each; "
                f"--slurm writes a batch file that says so"
            )
        if not 0 <= self.rank < section.nodes:
            raise JigsawError(f"--node-rank {self.rank}: with {section.nodes} nodes it is 0 to {section.nodes - 1}")
        if self.rendezvous is not None:
            host, colon, port = self.rendezvous.rpartition(":")
            if not (host and colon and port.isdecimal()):
                raise JigsawError(f"--rendezvous {self.rendezvous}: host and port of the first node, HOST:PORT")

    def require_same_folder(self, section: DistributedSection, resume: bool) -> None:
        """Refuse a run folder that the recipe chose with `${fresh:}` for a new run on several nodes.

        Raises:
            JigsawError: each node would choose a folder of its own.
        """
        if section.nodes > 1 and not resume:
            raise JigsawError(
                "output: ${fresh:} is a folder of its own on each node; name one for all nodes with output=FOLDER"
            )


def torchrun_command(topology: Topology, node: Node, folder: Path, stage: str, number: int) -> list[str]:
    """The command that trains one stage on all processes of this node.

    Args:
        topology: processes and nodes.
        node: this one.
        folder: the run folder.
        stage: its name.
        number: its number among the stages, from 0.
    """
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={topology.per_node}"]
    command += ["--max-restarts=0", "--signals-to-handle=SIGINT,SIGHUP,SIGQUIT"]
    nodes = topology.section.nodes
    if nodes == 1:
        command += ["--standalone"]
    else:
        host, _, port = str(node.rendezvous).rpartition(":")
        command += [f"--nnodes={nodes}", f"--node-rank={node.rank}"]
        command += [f"--master-addr={host}", f"--master-port={int(port) + number}"]
        command += [f"--rdzv-conf=timeout={SECONDS_TO_GATHER}"]
    return [*command, "--module", "jigsaw.launch.worker", str(folder), stage]


def run_processes(command: list[str], recipe: Recipe) -> None:
    """Run torchrun to its end. The processes obey the stop file of the run folder, not the signals of this process.

    Raises:
        JigsawError: a process failed; it has printed why.
    """
    with subprocess.Popen(command, env=_environment(recipe), preexec_fn=_as_child, process_group=0) as torchrun:
        try:
            code = torchrun.wait()
        except KeyboardInterrupt:
            torchrun.kill()  # at once; its processes die with it
            raise
    if code:
        raise JigsawError(
            "a training process failed, see its message above; --resume continues from the last checkpoint"
        )


def _as_child() -> None:
    """Die with the launcher, and leave SIGTERM to it: torchrun would kill the processes before they have saved."""
    die_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def allocator_settings(recipe: Recipe) -> dict[str, str]:
    """How CUDA's allocator is set up in a process that trains, as environment variables.

    Sequences vary in length from step to step, and segments of fixed size would leave gaps between them. vLLM's sleep
    mode cannot free segments that grow.
    """
    chosen = {"PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"} & os.environ.keys()
    sleeps = recipe.rollout.engine == "vllm" and recipe.rollout.sleep
    return {} if chosen or sleeps else {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}


def _environment(recipe: Recipe) -> dict[str, str]:
    topology = Topology.here(recipe.distributed)
    environment = os.environ | allocator_settings(recipe)
    environment.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // topology.per_node)))
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    environment["PYTHONSAFEPATH"] = "1"
    environment["TORCHELASTIC_ERROR_FILE"] = os.devnull
    if topology.on_cpu:
        environment["DS_ACCELERATOR"] = "cpu"
        # Else accelerate (1.15) says "cpu:0", to which torch (2.13) cannot load a checkpoint's optimizer.
        environment["ACCELERATE_TORCH_DEVICE"] = "cpu"
    return environment
