"""Recipes by GPUs, and the computed lines in the heads of recipe files (docs/gpu.md).

In: the shipped recipes. Out: the lines `Hardware` and `Hours` in the head of a recipe, and the table of README and
docs/gpu.md, which `generate.py` writes.
"""

from __future__ import annotations

from dataclasses import dataclass

from jigsaw.config.loading import load_recipe
from jigsaw.config.schema import Recipe
from jigsaw.launch.estimate import estimates
from jigsaw.launch.estimate_text import duration_of, gigabytes
from jigsaw.launch.machines import H100, H200, RTX_4090, Machine
from jigsaw.launch.memory import GB


def head_of(recipe: Recipe) -> tuple[str, str] | None:
    """The lines `Hardware` and `Hours` in the head of a recipe's file; None for a tiny model."""
    if not (stages := estimates(recipe)):
        return None
    largest = max(stages, key=lambda one: sum(one.peak.values()))
    disk = max(one.checkpoint * one.kept for one in stages)
    host = max(sum(one.host.values()) for one in stages)
    hardware = (
        f"# Hardware  {largest.machine}, of which {gigabytes(sum(largest.peak.values()))} are used; "
        f"{gigabytes(host)} of host memory, {gigabytes(disk)} of disk for checkpoints."
    )
    return hardware, f"# Hours     {duration_of(stages)} (computed, not measured: docs/gpu.md)."


@dataclass(frozen=True)
class Choice:
    """A recipe for a machine.

    Attributes:
        machine: the machine.
        recipe: name of a shipped recipe.
        overrides: overrides on the command line.
        note: difference from the paper's settings.
    """

    machine: Machine
    recipe: str
    overrides: tuple[str, ...] = ()
    note: str = ""

    @property
    def command(self) -> str:
        """The command that launches it."""
        quoted = [f"'{item}'" if set(item) & set("{[ ") else item for item in self.overrides]
        return " ".join(["jigsaw launch", self.recipe, *quoted])


CHOICES = (
    Choice(Machine(RTX_4090), "image-lora-qwen3-vl-2b", (), "LoRA adapters on Qwen3-VL-2B"),
    Choice(
        Machine(RTX_4090),
        "image-lora-qwen2.5-vl-7b",
        (
            "model.path=Qwen/Qwen2.5-VL-3B-Instruct",
            "grpo.per_device_train_batch_size=2",
            "rollout.gpu_memory_utilization=0.58",
            "rollout.max_model_len=4096",
        ),
        "LoRA adapters on the 3B model",
    ),
    Choice(Machine(H100), "image-lora-qwen2.5-vl-7b", (), "LoRA adapters on the 7B model"),
    Choice(
        Machine(H200),
        "image-qwen2.5-vl-3b",
        ("distributed={gpus: 1, zero: 0, offload: none}",),
        "all weights of the 3B model",
    ),
    Choice(
        Machine(H100, 4),
        "image-qwen2.5-vl-7b",
        ("distributed.gpus=4", "rollout.sleep=true"),
        "the paper's settings; vLLM sleeps while the model is trained",
    ),
    Choice(
        Machine(H100, 4),
        "image-qwen3-vl-8b",
        ("distributed.gpus=4", "rollout.sleep=true"),
        "all weights of Qwen3-VL-8B; vLLM sleeps while the model is trained",
    ),
    Choice(Machine(H100, 8), "image-qwen2.5-vl-7b", (), "the paper's settings; also `video-` and `depth-`"),
    Choice(Machine(H100, 8), "image-qwen3-vl-8b", (), "all weights of Qwen3-VL-8B; also `video-` and `depth-`"),
    Choice(
        Machine(H100, 8, 2),
        "video-mimo-vl-7b",
        ("distributed.nodes=2",),
        "the paper's settings with longer completions",
    ),
)
"""A recipe for each machine, smallest first."""


TIGHT = 0.95
"""Share of the GPU's memory above which a row of the table is marked."""


def choices_table() -> str:
    """The table of recipes by GPUs, as Markdown, with a note on the rows that leave little memory."""
    lines = [
        "| GPUs | command | trains | GB on each GPU | host memory | disk | hours |",
        "|---|---|---|---|---|---|---|",
    ]
    for choice in CHOICES:
        recipe = load_recipe(choice.recipe, ["output=runs/x", *choice.overrides])
        stages = estimates(recipe, choice.machine)
        one = stages[-1]
        disk = gigabytes(one.checkpoint * one.kept)
        peak = sum(one.peak.values()) / GB
        cells = [
            f"{choice.machine} ({choice.machine.gpu.model})",
            f"`{choice.command}`",
            choice.note,
            f"{peak:.0f}{', tight' * (peak > TIGHT * choice.machine.gpu.memory)}",
            gigabytes(sum(one.host.values())),
            disk,
            duration_of(stages),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    note = f"tight: more than {TIGHT:.0%} of the GPU's memory, computed; the run may need slightly more and fail."
    return "\n".join([*lines, "", note]) + "\n"
