"""The estimates of a recipe in words: for `--dry-run`, for the head of a recipe file, for README and docs.

In: a recipe. Out: lines of text, each labelled as computed. `jigsaw.launch.estimate` has the figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jigsaw.config.loading import load_recipe, recipe_names
from jigsaw.config.schema import Recipe
from jigsaw.doctor import LEAST_DISK, LEAST_MEMORY
from jigsaw.launch.estimate import Estimate, estimates, smallest_machine
from jigsaw.launch.machines import H100, H200, RTX_4090, Machine
from jigsaw.launch.memory import GB

CPU = "two CPU cores"
"""The machine of recipes with a tiny model."""


def computed_lines(recipe: Recipe) -> list[str]:
    """A short table of memory, disk and time, for `--dry-run`.

    Args:
        recipe: of the run.
    """
    title = "Computed, not measured (docs/gpu.md)"
    if recipe.model.path is None:
        return [f"{title}: a tiny model needs no GPU, {LEAST_MEMORY:.0f} GB of memory and {LEAST_DISK:.0f} GB of disk"]
    found = estimates(recipe)
    if not found:
        return [f"{title}: nothing, since the sizes of {recipe.model.path} are not known here; fetch its config.json"]
    lines = []
    for one in found:
        of = f" {one.stage}," if len(found) > 1 else ""
        lines.append(f"{title},{of} for {one.machine} ({one.machine.gpu.model}):")
        lines += [f"  {name:<17}{text}" for name, text in _rows(recipe, one).items()]
    least = smallest_machine(recipe)
    lines.append(f"  {'smallest machine':<17}{least or 'none of docs/gpu.md with these settings'}")
    return lines


def _rows(recipe: Recipe, one: Estimate) -> dict[str, str]:
    held, memory = sum(one.peak.values()), one.machine.gpu.memory
    of = f" of {memory}" if held <= memory * GB else f", more than the {memory} GB that there are"
    work, what = one.work, "an answer" if one.stage == "sft" else "a completion"
    rows = {
        "memory per GPU": f"{_gb(held)}{of}: {_parts(one.peak, GB)}",
        "host memory": f"{_gb(sum(one.host.values()))} on each node: {_parts(one.host, GB)}",
        "disk": f"{_gb(one.checkpoint)} for a checkpoint, {_gb(one.checkpoint * one.kept)} while one is written beside "
        f"{one.kept - 1} kept, {_gb(one.model)} for the model",
        "tokens": f"{work.prompt:.0f} in a prompt, {work.visual:.0f} of them visual; {work.completion:.0f} in {what}",
        "step": f"{_seconds(one.step)}: {_parts(one.seconds, 1)}",
        "time": "not known before the puzzles are built" if one.hours is None else _time(one),
    }
    if one.cache is not None and one.cache < 0:
        rows["vLLM"] = f"its share of memory is {_gb(-one.cache)} too small: raise rollout.gpu_memory_utilization"
    if one.stage == "grpo" and recipe.rollout.engine != "vllm":
        rows["rollouts"] = "not counted in step and time: how fast transformers samples is not known"
    return rows


def _time(one: Estimate) -> str:
    return f"{_hours(one)} hours for {one.steps} steps, without periodic evaluation"


def _hours(one: Estimate) -> str:
    assert one.hours is not None
    return f"{one.hours:.0f}" if one.hours >= 3 else f"{one.hours:.1f}"


def _gb(number: float) -> str:
    """Bytes in GB.

    >>> _gb(1.161e11), _gb(1.94e9)
    ('116 GB', '1.9 GB')
    """
    return f"{number / GB:.0f} GB" if number >= 10 * GB else f"{number / GB:.1f} GB"


def _seconds(number: float) -> str:
    return f"{number:.0f} s" if number >= 10 else f"{number:.1f} s"


def _parts(parts: Mapping[str, float], unit: float) -> str:
    """The parts from the largest, those below 1% of the sum left out."""
    least = sum(parts.values()) / 100
    largest = sorted(((value, name) for name, value in parts.items() if value >= least), reverse=True)
    return ", ".join(f"{name} {value / unit:.1f}" for value, name in largest)


def head_of(recipe: Recipe) -> tuple[str, str] | None:
    """The lines `Hardware` and `Hours` in the head of a recipe's file; None for a tiny model.

    Args:
        recipe: of that file.
    """
    if not (found := estimates(recipe)):
        return None
    largest = max(found, key=lambda one: sum(one.peak.values()))
    disk = max(one.checkpoint * one.kept for one in found)
    hardware = (
        f"# Hardware  {largest.machine}, of which {_gb(sum(largest.peak.values()))} are used; "
        f"{_gb(max(sum(one.host.values()) for one in found))} of host memory, {_gb(disk)} of disk for checkpoints."
    )
    return hardware, f"# Hours     {duration_of(found)} (computed, not measured: docs/gpu.md)."


def duration_of(found: list[Estimate]) -> str:
    """Hours of all stages, or seconds of a step where the number of steps is not known.

    Args:
        found: estimates of a recipe.
    """
    if all(one.hours is not None for one in found):
        hours = sum(one.hours or 0 for one in found)
        return f"{hours:.0f}" if hours >= 3 else f"{hours:.1f}"
    return " + ".join(f"{_seconds(one.step)} a step" for one in found)


def shipped() -> list[dict[str, str]]:
    """Name, description, smallest machine and hours of every recipe that ships; what anyone can run comes first."""
    rows = []
    for name in recipe_names():
        recipe = load_recipe(name, ["output=runs/x"])
        found = estimates(recipe)
        machine, hours = (str(found[-1].machine), duration_of(found)) if found else (CPU, "below 1")
        rows.append({"name": name, "description": recipe.description, "machine": machine, "hours": hours})
    return sorted(rows, key=lambda row: row["machine"] != CPU)


@dataclass(frozen=True)
class Choice:
    """A recipe for a machine.

    Attributes:
        machine: what there is.
        recipe: name of a recipe that ships.
        overrides: of the command line.
        note: what is different from the paper's settings.
    """

    machine: Machine
    recipe: str
    overrides: tuple[str, ...] = ()
    note: str = ""

    @property
    def command(self) -> str:
        """What launches it."""
        quoted = [f"'{item}'" if set(item) & set("{[ ") else item for item in self.overrides]
        return " ".join(["jigsaw launch", self.recipe, *quoted])


CHOICES = (
    Choice(
        Machine(RTX_4090),
        "image-lora-qwen2.5-vl-7b",
        (
            "model.path=Qwen/Qwen2.5-VL-3B-Instruct",
            "grpo.per_device_train_batch_size=2",
            "rollout.gpu_memory_utilization=0.58",
            "rollout.max_model_len=4096",
        ),
        "adapters on the 3B model",
    ),
    Choice(Machine(H100), "image-lora-qwen2.5-vl-7b", (), "adapters on the 7B model"),
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
        "the paper's settings",
    ),
    Choice(Machine(H100, 8), "image-qwen2.5-vl-7b", (), "the paper's settings; `video-` and `depth-` as well"),
    Choice(
        Machine(H100, 8, 2),
        "video-mimo-vl-7b",
        ("distributed.nodes=2",),
        "the paper's settings with longer completions",
    ),
)
"""A recipe for each machine, from the smallest."""


def choices_table() -> str:
    """Which recipe for which GPUs, as a Markdown table."""
    lines = [
        "| GPUs | command | trains | GB on each GPU | host memory | disk | hours |",
        "|---|---|---|---|---|---|---|",
    ]
    for choice in CHOICES:
        recipe = load_recipe(choice.recipe, ["output=runs/x", *choice.overrides])
        found = estimates(recipe, choice.machine)
        one = found[-1]
        disk = _gb(one.checkpoint * one.kept)
        cells = [
            f"{choice.machine} ({choice.machine.gpu.model})",
            f"`{choice.command}`",
            choice.note,
            f"{sum(one.peak.values()) / GB:.0f}",
            _gb(sum(one.host.values())),
            disk,
            duration_of(found),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
