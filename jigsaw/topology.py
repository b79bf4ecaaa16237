"""The number of processes and devices that a recipe's `distributed` section means on this machine.

In: the section, and the number of GPUs. Out: numbers. Nothing heavy is imported.
"""

from __future__ import annotations

from dataclasses import dataclass

from jigsaw.config.schema import DistributedSection
from jigsaw.devices import gpu_count
from jigsaw.errors import JigsawError


@dataclass(frozen=True)
class Topology:
    """Processes and devices of training.

    Attributes:
        section: the recipe's `distributed` section.
        gpus: number of GPUs that processes on this machine may use.
    """

    section: DistributedSection
    gpus: int

    @classmethod
    def here(cls, section: DistributedSection) -> Topology:
        """The topology on this machine."""
        return cls(section, gpu_count())

    @property
    def launched(self) -> bool:
        """Whether torchrun starts the training processes."""
        section = self.section
        return section.gpus is not None or section.cpu_processes is not None or section.nodes > 1 or section.zero > 0

    @property
    def per_node(self) -> int:
        """Number of processes per node.

        Raises:
            JigsawError: the recipe requires all GPUs, and there is none.
        """
        if self.section.gpus != "all":
            return self.section.gpus or self.section.cpu_processes or 1
        if not self.gpus:
            raise JigsawError("distributed.gpus: all, but this machine has no GPU; use cpu_processes to try it without")
        return self.gpus

    @property
    def world_size(self) -> int:
        """Number of processes on all nodes.

        Raises:
            JigsawError: see `per_node`.
        """
        return self.per_node * self.section.nodes

    @property
    def on_cpu(self) -> bool:
        """Whether training uses no GPU."""
        return self.section.gpus is None and (self.section.cpu_processes is not None or not self.gpus)
