"""Estimates of memory, disk and time as text, for `--dry-run` and the docs.

In: a recipe. Out: lines of text, labelled as computed. `jigsaw.launch.estimate` computes the figures.
"""

from __future__ import annotations

from collections.abc import Mapping

from jigsaw.config.loading import load_recipe, recipe_names
from jigsaw.config.schema import Recipe
from jigsaw.doctor import LEAST_DISK, LEAST_MEMORY
from jigsaw.launch.estimate import Estimate, estimates, smallest_machine
from jigsaw.launch.machines import Machine
from jigsaw.launch.memory import GB

CPU = "two CPU cores"
"""The machine for recipes with a tiny model."""


def estimate_lines(recipe: Recipe) -> list[str]:
    """A short table of memory, disk and time, for `--dry-run`."""
    title = "Computed, not measured (docs/gpu.md)"
    if recipe.model.path is None:
        return [f"{title}: a tiny model needs no GPU, {LEAST_MEMORY:.0f} GB of memory and {LEAST_DISK:.0f} GB of disk"]
    found = estimates(recipe)
    if not found:
        return [f"{title}: not possible, the sizes of {recipe.model.path} are unknown; download its config.json"]
    lines = []
    for one in found:
        of = f" {one.stage}," if len(found) > 1 else ""
        lines.append(f"{title},{of} for {one.machine} ({one.machine.gpu.model}):")
        lines += [f"  {name:<17}{text}" for name, text in _rows(recipe, one).items()]
    if (smaller := _machine_with_sleep(recipe, found)) is not None:
        lines.append(f"  {'smaller GPUs':<17}{smaller} fit with rollout.sleep=true")
    least = smallest_machine(recipe)
    lines.append(f"  {'smallest machine':<17}{least or 'none of docs/gpu.md with these settings'}")
    return lines


def _machine_with_sleep(recipe: Recipe, found: list[Estimate]) -> Machine | None:
    """A machine with smaller GPUs that the recipe fits on if vLLM sleeps while the trainer works; None if none does."""
    if recipe.rollout.sleep or recipe.rollout.engine != "vllm" or recipe.rollout.uses_server:
        return None
    asleep = recipe.model_copy(update={"rollout": recipe.rollout.model_copy(update={"sleep": True})})
    others = estimates(asleep)
    machine = others[-1].machine
    is_smaller = machine.gpu.memory < found[-1].machine.gpu.memory
    return machine if is_smaller and all(one.fits for one in others) else None


def _rows(recipe: Recipe, one: Estimate) -> dict[str, str]:
    held, memory = sum(one.peak.values()), one.machine.gpu.memory
    of = f" of {memory}" if held <= memory * GB else f", more than the GPU's {memory} GB"
    work, what = one.work, "an answer" if one.stage == "sft" else "a completion"
    rows = {
        "memory per GPU": f"{gigabytes(held)}{of}: {_parts(one.peak, GB)}",
        "host memory": f"{gigabytes(sum(one.host.values()))} on each node: {_parts(one.host, GB)}",
        "disk": f"{gigabytes(one.checkpoint)} for a checkpoint, {gigabytes(one.checkpoint * one.kept)} for the "
        f"{one.kept - 1} kept and a new one, {gigabytes(one.model)} for the model",
        "tokens": f"{work.prompt:.0f} in a prompt, {work.visual:.0f} of them visual; {work.completion:.0f} in {what}",
        "step": f"{in_seconds(one.step)}: {_parts(one.seconds, 1)}",
        "time": "unknown before the puzzles are built",
    }
    if one.hours is not None:
        rows["time"] = f"{in_hours(one.hours)} hours for {one.steps} steps, without periodic evaluation"
    if one.cache is not None and one.cache < 0:
        rows["vLLM"] = f"its share of memory is {gigabytes(-one.cache)} too small: raise rollout.gpu_memory_utilization"
    if one.stage == "grpo" and recipe.rollout.engine != "vllm":
        rows["rollouts"] = "not included in step and time: the speed of sampling with transformers is unknown"
    return rows


def in_hours(number: float) -> str:
    """A duration, with a decimal below three hours."""
    return f"{number:.0f}" if number >= 3 else f"{number:.1f}"


def gigabytes(number: float) -> str:
    """Bytes in GB.

    >>> gigabytes(1.161e11), gigabytes(1.94e9)
    ('116 GB', '1.9 GB')
    """
    return f"{number / GB:.0f} GB" if number >= 10 * GB else f"{number / GB:.1f} GB"


def in_seconds(number: float) -> str:
    """A duration, with a decimal below ten seconds."""
    return f"{number:.0f} s" if number >= 10 else f"{number:.1f} s"


def _parts(parts: Mapping[str, float], unit: float) -> str:
    """The parts, the largest first, without those below 1% of the sum."""
    least = sum(parts.values()) / 100
    largest = sorted(((value, name) for name, value in parts.items() if value >= least), reverse=True)
    return ", ".join(f"{name} {value / unit:.1f}" for value, name in largest)


def duration_of(found: list[Estimate]) -> str:
    """Hours of all stages, or seconds per step if the number of steps is unknown."""
    if all(one.hours is not None for one in found):
        return in_hours(sum(one.hours or 0 for one in found))
    return " + ".join(f"{in_seconds(one.step)} a step" for one in found)


def shipped_recipes() -> list[dict[str, str]]:
    """Name, description, smallest machine and hours of every shipped recipe; those for two CPU cores come first."""
    rows = []
    for name in recipe_names():
        recipe = load_recipe(name, ["output=runs/x"])
        found = estimates(recipe)
        machine, hours = (str(found[-1].machine), duration_of(found)) if found else (CPU, "below 1")
        rows.append({"name": name, "description": recipe.description, "machine": machine, "hours": hours})
    return sorted(rows, key=lambda row: row["machine"] != CPU)
