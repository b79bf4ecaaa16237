"""Runs a training stage in several processes: torchrun starts them on this node and connects the nodes.

In: a recipe, a stage and this machine's rank. Out: the trained stage. The launcher only waits; it forwards a stop
request (Ctrl-C, SIGTERM) through a file in the run folder, which all nodes share.
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
"""How long a node waits for the others: the first node may have to build data before it trains."""


@dataclass(frozen=True)
class Node:
    """This machine's rank in a run.

    Attributes:
        rank: number of the machine, from 0; the first one builds data, evaluates and writes.
        rendezvous: host and port of the first node, `host:port`; each stage uses its own port, from this one upwards.
    """

    rank: int = 0
    rendezvous: str | None = None

    @property
    def first(self) -> str | None:
        """Name or address of the first node; None for a run on one machine."""
        return None if self.rendezvous is None else self.rendezvous.rpartition(":")[0]

    def check(self, section: DistributedSection) -> None:
        """Check rank and rendezvous against the number of nodes.

        Raises:
            JigsawError: several nodes have no rendezvous, or the rank is too high.
        """
        if section.nodes > 1 and self.rendezvous is None:
            raise JigsawError(
                f"distributed.nodes: {section.nodes} nodes need --node-rank R and --rendezvous HOST:PORT on each; "
                f"--slurm prints a batch file that sets them"
            )
        if not 0 <= self.rank < section.nodes:
            raise JigsawError(
                f"--node-rank {self.rank}: it must be 0 to {section.nodes - 1}, with {section.nodes} nodes"
            )
        if self.rendezvous is not None:
            host, colon, port = self.rendezvous.rpartition(":")
            if not (host and colon and port.isdecimal()):
                raise JigsawError(f"--rendezvous {self.rendezvous}: give host and port of the first node, HOST:PORT")

    def require_same_folder(self, section: DistributedSection, resume: bool) -> None:
        """Refuse a new run on several nodes whose folder is `${fresh:...}`.

        Raises:
            JigsawError: each node would choose a different folder.
        """
        if section.nodes > 1 and not resume:
            raise JigsawError(
                "output: ${fresh:} would be a different folder on each node; set one for all nodes with output=FOLDER"
            )


def torchrun_command(topology: Topology, node: Node, folder: Path, stage: str, number: int) -> list[str]:
    """The command that trains one stage on all processes of this node.

    Args:
        topology: processes and nodes.
        node: this machine's rank.
        folder: the run folder.
        stage: name of the stage.
        number: number of the stage, from 0.
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
    """Run torchrun until it ends. Its processes stop on the stop file of the run folder, not on signals.

    Raises:
        JigsawError: a process failed and has printed the reason.
    """
    with subprocess.Popen(command, env=_environment(recipe), preexec_fn=_as_child, process_group=0) as torchrun:
        try:
            code = torchrun.wait()
        except KeyboardInterrupt:
            torchrun.kill()  # its processes die with it
            raise
    if code:
        raise JigsawError(
            "a training process failed, see its message above; --resume continues from the last checkpoint"
        )


def _as_child() -> None:
    """Make torchrun die with the launcher and ignore SIGTERM: it would kill its processes before they have saved."""
    die_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def allocator_settings(recipe: Recipe) -> dict[str, str]:
    """Environment variables with the settings of CUDA's allocator for a training process.

    The length of sequences varies from step to step, and segments of fixed size would fragment the memory. vLLM's sleep
    mode cannot free expandable segments.
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
        # Otherwise accelerate (1.15) uses "cpu:0", to which torch (2.13) cannot load a checkpoint's optimizer.
        environment["ACCELERATE_TORCH_DEVICE"] = "cpu"
    return environment
