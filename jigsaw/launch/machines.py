"""The GPU machines of the estimates, from the smallest to the largest.

The rates are those that training and sampling are expected to reach, not the vendors' peaks.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU.

    Attributes:
        memory: nominal memory in GB; the real size is a few percent larger, which CUDA itself uses.
        compute: bfloat16 operations per second in training.
        bandwidth: memory bandwidth, bytes per second.
        link: bytes per second to another GPU of the node.
        model: the GPU model with these rates.
    """

    memory: int
    compute: float
    bandwidth: float
    link: float
    model: str


RTX_4090 = Gpu(24, 80e12, 1.0e12, 20e9, "RTX 4090")
H100 = Gpu(80, 400e12, 3.35e12, 300e9, "H100")
H200 = Gpu(141, 400e12, 4.8e12, 300e9, "H200")


@dataclass(frozen=True)
class Machine:
    """One or several nodes with GPUs of one kind.

    Attributes:
        gpu: kind of the GPUs.
        gpus: number of GPUs per node.
        nodes: number of nodes.
    """

    gpu: Gpu
    gpus: int = 1
    nodes: int = 1

    def __str__(self) -> str:
        """A description of the machine.

        >>> str(Machine(H100, 8)), str(Machine(H200)), str(Machine(H100, 8, 2))
        ('8 GPUs with 80 GB', 'one GPU with 141 GB', '2 nodes of 8 GPUs with 80 GB')
        """
        count = "one GPU" if self.gpus == 1 else f"{self.gpus} GPUs"
        return f"{f'{self.nodes} nodes of ' if self.nodes > 1 else ''}{count} with {self.gpu.memory} GB"

    @property
    def processes(self) -> int:
        """Training processes, one per GPU."""
        return self.gpus * self.nodes


MACHINES = (
    Machine(RTX_4090),
    Machine(H100),
    Machine(H200),
    Machine(H100, 4),
    Machine(H100, 8),
    Machine(H100, 8, 2),
)
"""From the smallest to the largest."""
