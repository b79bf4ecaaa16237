"""Training runs of a tiny model for the contract of model families: the quickstart with few steps, and two processes.

In: the name of a tiny architecture. Out: a figure of the run. Runs use a temporary folder; those on several processes
use torchrun with gloo on the CPU.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jigsaw.testing.findings import ContractError
from jigsaw.testing.synthetic_sources import write_sources

SIZES = "{hidden_size: 64, num_layers: 2, vision_hidden_size: 64, vision_layers: 2, initializer_range: 0.1}"

QUICKSTART = (
    "sft={max_steps: 3, per_device_train_batch_size: 4, learning_rate: 1.0e-3, gradient_checkpointing: false}",
    "grpo.max_steps=2",
    "grpo.prompts_per_step=4",
    "grpo.num_generations=4",
    "grpo.max_completion_length=6",
    "sampling.dynamic=false",
    "evaluation={every: 1, puzzles: 4, batch_size: 4}",
)
"""Overrides that reduce the recipe `quickstart` to seconds; its stages, task, rewards and report do not change."""

MIXED = """
name: mixed
seed: 3
model: {tiny: ARCHITECTURE, sizes: SIZES}
data:
  train:
    - build: {task: image, source: FOLDER/photos, grid: 2x2, tile: 28, answer_style: direct, per_source: 2}
    - build: {task: video, source: FOLDER/clips, clips: 2, min_duration: 0, fps: 0.5, max_frames: 3, max_pixels: 1568,
              static: keep, per_source: 4}
sft: {max_steps: 2, prompts_per_step: 4, per_device_train_batch_size: 1, learning_rate: 1.0e-3,
      gradient_checkpointing: false, optim: adamw_torch, adam_epsilon: 1.0e-4}
grpo: {max_steps: 2, prompts_per_step: 4, num_generations: 3, max_completion_length: 4, learning_rate: 1.0e-3,
       per_device_train_batch_size: 3, gradient_checkpointing: false, optim: adamw_torch, adam_epsilon: 1.0e-4}
rewards: [{use: "FOLDER/reward.py:by_text"}]
output: FOLDER/${name}
"""
"""A mixture of images and videos, one prompt per micro-batch: one process may have a clip while the other has tiles."""

REWARD = """
def by_text(completions, **columns):
    return [sum(map(ord, text[0]["content"])) % 7 / 7 for text in completions]
"""


def trains_to_the_end(architecture: str) -> str:
    """Run the quickstart with a tiny model of an architecture and few steps.

    Args:
        architecture: a value of `jigsaw.models.tiny.TinyArchitecture`.

    Returns:
        The numbers of steps.

    Raises:
        ContractError: a part of the run wrote no output.
    """
    with tempfile.TemporaryDirectory(prefix="jigsaw-family-") as name:
        folder = Path(name)
        write_sources("image", folder / "photos")
        build = f"{{task: image, source: {folder}/photos, grid: 2x2, tile: 28, answer_style: direct, per_source: 4}}"
        data = f"data={{train: [{{build: {build}}}], eval: [{{build: {build}}}]}}"
        overrides = [f"model={{tiny: {architecture}, sizes: {SIZES}}}", data, *QUICKSTART, f"output={folder}/run"]
        lines = _run("quickstart", overrides)
        if not (folder / "run" / "DONE").is_file() or not (folder / "run" / "report.html").is_file():
            raise ContractError("the run has no DONE or no report.html")
    steps = {stage: sum("loss" in line for line in lines if line["stage"] == stage) for stage in ("sft", "grpo")}
    if not all(steps.values()):
        raise ContractError(f"a stage logged no steps: {steps}")
    return f"{steps['sft']} supervised, {steps['grpo']} GRPO steps"


def trains_on_two_processes(architecture: str) -> float:
    """Train on a mixture of images and videos, with ZeRO-3 on two processes and without it on one process.

    Args:
        architecture: a value of `jigsaw.models.tiny.TinyArchitecture`.

    Returns:
        The largest difference of a loss or a reward between the two runs.
    """
    with tempfile.TemporaryDirectory(prefix="jigsaw-family-") as name:
        sharded = ("distributed.cpu_processes=2", "distributed.zero=3")
        runs = [
            mixed_run(architecture, Path(name) / number, *overrides)
            for number, overrides in (("one", ()), ("two", sharded))
        ]
    values = [[line[key] for line in lines for key in ("loss", "reward") if key in line] for lines in runs]
    if not values[0] or len(values[0]) != len(values[1]):
        raise ContractError(f"{len(values[0])} values with one process, {len(values[1])} with two")
    return max(abs(float(first) - float(second)) for first, second in zip(*values, strict=True))


def mixed_run(architecture: str, folder: Path, *overrides: str) -> list[dict[str, Any]]:
    """Train a tiny model on a mixture of images and videos: two supervised and two GRPO steps.

    Args:
        architecture: a value of `jigsaw.models.tiny.TinyArchitecture`.
        folder: folder of the sources and the run, which is created.
        overrides: overrides of the recipe.

    Returns:
        The lines of the run's `metrics.jsonl`.
    """
    write_sources("image", folder / "photos")
    write_sources("video", folder / "clips")
    (folder / "reward.py").write_text(REWARD, encoding="utf-8")
    recipe = MIXED.replace("ARCHITECTURE", architecture).replace("SIZES", SIZES).replace("FOLDER", str(folder))
    (folder / "mixed.yaml").write_text(recipe, encoding="utf-8")
    return _run(str(folder / "mixed.yaml"), overrides)


def _run(recipe: str, overrides: Sequence[str]) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl` of a run."""
    from rich.console import Console

    from jigsaw.config.loading import load_recipe
    from jigsaw.run import run

    done = run(load_recipe(recipe, overrides), Console(quiet=True))
    return [json.loads(line) for line in (done / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
