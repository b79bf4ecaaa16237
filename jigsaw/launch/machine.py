"""Checks the packages and GPUs that a recipe needs, before anything is loaded, built or written.

In: a recipe. Out: one `Check` per requirement. torch is not imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from jigsaw.config.schema import DistributedSection, Recipe
from jigsaw.devices import driver_gpus, gpu_count, torch_build
from jigsaw.errors import JigsawError
from jigsaw.extras import install_command
from jigsaw.topology import Topology

Status = Literal["ok", "missing", "will download"]

TRACKERS = {"trackio": "'trackio>=0.22' 'pillow<13'"}
"""Requirements of trackers whose name alone would install a broken release: an old trackio breaks the import of TRL."""


@dataclass(frozen=True)
class Check:
    """A requirement of a run, checked.

    Attributes:
        status: `ok`, `missing`, or `will download` if the run downloads it itself.
        what: the recipe's key, or a short name.
        detail: what was found; for a missing requirement the reason and the remedy.
    """

    status: Status
    what: str
    detail: str

    def __str__(self) -> str:
        return f"{self.status:<13}  {self.what}: {self.detail}"


def require(checks: Iterator[Check]) -> None:
    """Raise an error for the first missing requirement.

    Raises:
        JigsawError: a requirement is missing.
    """
    for check in checks:
        if check.status == "missing":
            raise JigsawError(f"{check.what}: {check.detail}")


def require_machine(recipe: Recipe) -> None:
    """Check that this machine has the GPUs and packages that a recipe needs.

    Raises:
        JigsawError: one is missing.
    """
    require(machine_checks(recipe))


def machine_checks(recipe: Recipe) -> Iterator[Check]:
    """The checks of packages and devices."""
    section = recipe.distributed
    if section.zero:
        yield _package("deepspeed", "distributed.zero", str(section.zero), _engines(section))
    if recipe.grpo is not None and recipe.rollout.engine == "vllm":
        yield _package("vllm", "rollout.engine", "vllm", f"{_engines(section)}, or rollout.engine=transformers")
    if recipe.model.lora is not None:
        yield _package("peft", "model.lora", "adapters", "pip install peft")
    for name in recipe.logging.report_to:
        yield _package(name, "logging.report_to", name, f"pip install {TRACKERS.get(name, name)}")
    yield _devices(section)
    if recipe.grpo is not None and recipe.rollout.uses_server and not Topology.here(section).on_cpu:
        yield _server_gpus(section, recipe.rollout.tensor_parallel_size)


def _package(name: str, key: str, value: str, remedy: str) -> Check:
    if find_spec(name) is None:
        return Check("missing", key, f"{value} needs the package {name}, which is not installed: {remedy}")
    return Check("ok", key, f"{value}, {name} is installed" if value != name else f"{name} is installed")


def _devices(section: DistributedSection) -> Check:
    """The check of the training GPUs."""
    count = gpu_count()
    if section.gpus is None:
        if section.cpu_processes is None and count:
            return Check("ok", "device", "one GPU")
        processes = section.cpu_processes or 1
        return Check("ok", "device", f"CPU, {processes} process{'es' if processes > 1 else ''}")
    required = max(count, 1) if section.gpus == "all" else section.gpus
    if count >= required:
        return Check("ok", "distributed.gpus", f"{required} of {count} GPUs of this machine")
    remedy = "run on a machine with GPUs, or try the recipe with --tiny"
    if count:
        remedy = f"set distributed.gpus={count}, or run on a larger machine"
    elif torch_build() == "cpu" and (hidden := len(driver_gpus())):
        remedy = f"its {hidden} cannot be used, since the installed torch is built for CPUs; install a CUDA build"
    return Check("missing", "distributed.gpus", f"{section.gpus} are required and this machine has {count}; {remedy}")


def _server_gpus(section: DistributedSection, serving: int) -> Check:
    """The check of the vLLM server's GPUs, which come after those of training."""
    count = gpu_count()
    training = section.gpus if isinstance(section.gpus, int) else max(count, 1)
    if count >= training + serving:
        return Check("ok", "rollout.mode", f"server on {serving} more GPUs")
    return Check(
        "missing",
        "rollout.mode",
        f"the server needs its own GPUs, {training} + {serving} in all, and this machine has {count}; "
        f"set distributed.gpus={max(count - serving, 1)}, or rollout.mode=colocate",
    )


def _engines(section: DistributedSection) -> str:
    """The command that installs vLLM and DeepSpeed for the devices that a recipe trains on."""
    return install_command("cpu" if Topology.here(section).on_cpu else "gpu")
