"""The GPU machines that estimates are made for, from the smallest to the largest.

The rates are what training and sampling are expected to reach, not the vendors' peaks.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU.

    Attributes:
        memory: in GB, as sold; a few percent of the real size are left for CUDA itself.
        compute: bfloat16 operations per second in training.
        bandwidth: of its memory, bytes per second.
        link: bytes per second to another GPU of the node.
        model: the GPU that the rates are of.
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
    """Nodes of equal GPUs.

    Attributes:
        gpu: their kind.
        gpus: on each node.
        nodes: machines.
    """

    gpu: Gpu
    gpus: int = 1
    nodes: int = 1

    def __str__(self) -> str:
        """The machine in words.

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
