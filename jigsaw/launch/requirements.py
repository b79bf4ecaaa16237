"""What a recipe asks of this machine, looked at before anything is loaded, built or written.

In: a recipe. Out: nothing, or one line that names the key, what is missing and what to do.
"""

from __future__ import annotations

from importlib.util import find_spec

from jigsaw.config.schema import DistributedSection, Recipe
from jigsaw.errors import JigsawError
from jigsaw.extras import install_command

TRACKERS = {"trackio": "'trackio>=0.22' 'pillow<13'"}
"""What to install where the bare name gives a release that does not work: an old trackio breaks the import of TRL."""


def require_machine(recipe: Recipe) -> None:
    """Refuse a recipe that asks for GPUs or packages that are not here.

    Raises:
        JigsawError: the first thing that is missing.
    """
    section = recipe.distributed
    if section.zero:
        _require_package("deepspeed", f"distributed.zero: {section.zero}", _engines(section))
    if recipe.grpo is not None and recipe.rollout.engine == "vllm":
        _require_package("vllm", "rollout.engine: vllm", f"{_engines(section)}, or rollout.engine=transformers")
    for name in recipe.logging.report_to:
        _require_package(name, f"logging.report_to: {name}", f"pip install {TRACKERS.get(name, name)}")
    if section.gpus is not None:
        import torch

        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if found < section.per_node:
            remedy = (
                f"set distributed.gpus={found}, or run where they are"
                if found
                else "run where they are, or in small with --tiny"
            )
            raise JigsawError(f"distributed.gpus: {section.gpus} are asked for and this machine has {found}; {remedy}")
    if recipe.grpo is not None and recipe.rollout.served and not section.on_cpu:
        _require_gpus_for_server(section.per_node, recipe.rollout.tensor_parallel_size)


def _require_gpus_for_server(training: int, serving: int) -> None:
    import torch

    found = torch.cuda.device_count()
    if found < training + serving:
        raise JigsawError(
            f"rollout.mode: server needs GPUs of its own, {training} + {serving} in all, and this machine has {found}; "
            f"set distributed.gpus={max(found - serving, 1)}, or rollout.mode=colocate"
        )


def _engines(section: DistributedSection) -> str:
    """What installs vLLM and DeepSpeed for the processors that a recipe trains on."""
    return install_command("cpu" if section.on_cpu else "gpu")


def _require_package(name: str, key: str, remedy: str) -> None:
    if find_spec(name) is None:
        raise JigsawError(f"{key} needs the package {name}, which is not installed: {remedy}")
