"""The process group of distributed training, and collective operations on Python objects.

In: the environment that torchrun sets. Out: a process group, gloo between CPU processes and NCCL between GPUs, that the
trainer and DeepSpeed use.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from jigsaw.compat import sum_without_shared_memory
from jigsaw.config.schema import DistributedSection
from jigsaw.topology import Topology

PATIENCE = timedelta(hours=2)
"""How long processes wait for each other; completions, rewards and evaluations take unequal time."""


@contextmanager
def process_group(section: DistributedSection) -> Iterator[int]:
    """Join the process group that torchrun has prepared; yields this process's rank."""
    import torch
    import torch.distributed as dist

    backend = "gloo" if Topology.here(section).on_cpu else "nccl"
    if backend == "nccl":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group(backend, timeout=PATIENCE)
    if section.zero:
        import deepspeed

        if backend == "gloo":
            sum_without_shared_memory()
        # Without this its process group has one process, while the trainer's has all (DeepSpeed 0.19).
        deepspeed.init_distributed(dist_backend=backend, timeout=PATIENCE)
    try:
        yield dist.get_rank()
    finally:
        if dist.is_initialized():  # a vLLM engine in this process destroys the group itself when it is collected (0.31)
            dist.destroy_process_group()


def process_rank() -> int:
    """The rank of this process; 0 without a process group."""
    import torch.distributed as dist

    return int(dist.get_rank()) if dist.is_initialized() else 0


def process_count() -> int:
    """The number of training processes; 1 without a process group."""
    import torch.distributed as dist

    return int(dist.get_world_size()) if dist.is_initialized() else 1


def all_gather_object(what: Any) -> list[Any]:
    """The objects of all processes by rank, on every process; also works without a process group. Collective."""
    import torch.distributed as dist

    if not dist.is_initialized():
        return [what]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, what)
    return gathered


def all_gather_interleaved(items: Sequence[Any]) -> list[Any]:
    """The items of all processes on every process, interleaved: one item of each process in turn. Collective."""
    found = all_gather_object(list(items))
    longest = max(map(len, found))
    return [share[i] for i in range(longest) for share in found if i < len(share)]
