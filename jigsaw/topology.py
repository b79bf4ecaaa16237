"""The processes and devices of training: what a recipe's `distributed` section means on this machine.

In: the section, and how many GPUs there are. Out: numbers. Nothing heavy is imported.
"""

from __future__ import annotations

from dataclasses import dataclass

from jigsaw.config.schema import DistributedSection
from jigsaw.devices import gpu_count
from jigsaw.errors import JigsawError


@dataclass(frozen=True)
class Topology:
    """Processes and devices.

    Attributes:
        section: what the recipe asks for.
        gpus: GPUs that processes on this machine may use.
    """

    section: DistributedSection
    gpus: int

    @classmethod
    def here(cls, section: DistributedSection) -> Topology:
        """The topology on this machine."""
        return cls(section, gpu_count())

    @property
    def launched(self) -> bool:
        """Whether training runs in processes that torchrun starts."""
        section = self.section
        return section.gpus is not None or section.cpu_processes is not None or section.nodes > 1 or section.zero > 0

    @property
    def per_node(self) -> int:
        """Processes of each node.

        Raises:
            JigsawError: the recipe asks for all GPUs, and there is none.
        """
        if self.section.gpus != "all":
            return self.section.gpus or self.section.cpu_processes or 1
        if not self.gpus:
            raise JigsawError("distributed.gpus: all, and this machine has none; use cpu_processes to try it without")
        return self.gpus

    @property
    def world_size(self) -> int:
        """Processes of all nodes.

        Raises:
            JigsawError: see `per_node`.
        """
        return self.per_node * self.section.nodes

    @property
    def on_cpu(self) -> bool:
        """Whether training uses no GPU."""
        return self.section.gpus is None and (self.section.cpu_processes is not None or not self.gpus)
