"""Estimates the tokens of a training step from a recipe, before any puzzle is built.

In: a recipe and the shape of its model. Out: a `Workload`, the mean tokens of a puzzle over the entries of
`data.train`, and a `Step`, the work of one process in a step. Values that a recipe does not give are assumed: each task
has typical sources (`Task.extent`), and the lengths of texts and completions are constants of this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from jigsaw.config.data import BuildSection, DataEntry
from jigsaw.config.schema import Recipe
from jigsaw.errors import JigsawError
from jigsaw.models.shapes import Shape

TEXT = (150, 12)
"""Text tokens of a prompt, and additional ones per piece."""

STAMP = 14
"""Text tokens of a frame's time stamp, for models that read a video as images."""

CAPTION = (100, 512)
"""Text and visual tokens of a conversation; a pixel limit of the model may reduce the second."""

COMPLETION = 300
"""Mean tokens of a completion with reasoning."""

LONG_COMPLETION = ("mimo", 1400)
"""Part of the name of models that write longer completions, and their mean tokens."""

DIRECT = 3
"""Tokens per piece of an answer without reasoning."""


@dataclass(frozen=True)
class Workload:
    """Means over the training rows of a stage.

    Attributes:
        prompt: tokens of a prompt, including visual ones.
        visual: visual tokens of a prompt.
        completion: tokens of a completion, or of the answer in the supervised stage.
        puzzles: rows in one pass over the data; None if the number is unknown before they are built.
    """

    prompt: float
    visual: float
    completion: float
    puzzles: int | None


def workload_of(recipe: Recipe, stage: str, shape: Shape) -> Workload:
    """The mean tokens of a puzzle in a stage."""
    entries = [entry for entry in recipe.data.train if entry.trains(stage)]
    rows = [_of_entry(recipe, entry, shape) for entry in entries]
    weights = [entry.weight for entry in entries]

    def mean(values: Sequence[float]) -> float:
        return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)

    completion = mean([row.completion for row in rows])
    if stage == "grpo" and recipe.grpo is not None:
        completion = min(completion, recipe.grpo.max_completion_length)
    known = [row.puzzles for row in rows if row.puzzles is not None]
    return Workload(
        mean([row.prompt for row in rows]),
        mean([row.visual for row in rows]),
        completion,
        sum(known) if len(known) == len(rows) else None,
    )


def _of_entry(recipe: Recipe, entry: DataEntry, shape: Shape) -> Workload:
    # Imported here because `make gpu-check` estimates memory without Pillow.
    from jigsaw.data.storage.manifest import read_manifest
    from jigsaw.tasks import TaskError, get_task, task_names

    high = recipe.model.image.max_pixels
    if entry.conversations is not None:
        text, visual = CAPTION
        visual = min(visual, high // shape.unit**2) if high else visual
        return Workload(text + visual, visual, 0, entry.limit)
    puzzles = entry.limit
    if entry.build is not None:
        task = get_task(entry.build.task, **entry.build.config)
        puzzles = puzzles or _built(entry.build)
    else:
        try:
            manifest = read_manifest(str(entry.path))
            task = get_task(manifest.settings.task, **manifest.settings.config)
            puzzles = puzzles or manifest.counts.puzzles
        except (JigsawError, TaskError):  # it does not exist, or a plug-in built it: treated as photos
            photos = (task for task in map(get_task, task_names()) if task.source_kind == "image")
            task = next(task for task in photos if task.name == task.source_kind)
    extent = task.extent()
    limits = (recipe.model.image.min_pixels, high)
    visual = sum(shape.visual_tokens(width, height, *limits) for width, height in extent.images)
    stamps = 0
    for width, height, frames in extent.clips:
        shared = -(-frames // shape.temporal)
        visual += shared * shape.visual_tokens(width, height, *limits)
        stamps += shared if shape.stamps else 0
    text = TEXT[0] + TEXT[1] * extent.pieces + STAMP * stamps
    reasons = getattr(task.config, "answer_style", "think") != "direct"
    name = str(recipe.model.path).lower()
    written = LONG_COMPLETION[1] if LONG_COMPLETION[0] in name else COMPLETION
    return Workload(text + visual, visual, written if reasons else DIRECT * extent.pieces, puzzles)


def _built(build: BuildSection) -> int | None:
    """The number of puzzles of a build; None if its sources are not limited."""
    if build.limit is None:
        return None
    share = {"train": 1 - build.heldout, "heldout": build.heldout, None: 1.0}[build.split]
    return int(build.limit * share) * build.per_source


@dataclass(frozen=True)
class Step:
    """A training step of one process.

    Attributes:
        prompts: distinct prompts.
        rows: completions, or answers of the supervised stage.
        tokens: tokens in the loss pass; a prompt counts once for each micro-batch that has a part of its group.
        visual: visual tokens in the loss pass, counted in the same way.
        micro_batches: forward and backward passes.
        longest: maximum tokens of a micro-batch.
        scored: tokens whose logits are in memory together; 0 if the loss computes them in chunks.
    """

    prompts: int
    rows: int
    tokens: float
    visual: float
    micro_batches: int
    longest: float
    scored: float


def step_of(recipe: Recipe, stage: str, work: Workload, processes: int) -> Step:
    """A step of a stage on each process.

    Raises:
        JigsawError: the number of processes does not divide the batch.
    """
    if stage == "sft" and recipe.sft is not None:
        batches = recipe.sft.micro_batches(processes)
        rows, longest = batches.size * batches.count, batches.size * (work.prompt + work.completion)
        tokens = rows * (work.prompt + work.completion)
        return Step(rows, rows, tokens, rows * work.visual, batches.count, longest, longest)
    assert recipe.grpo is not None
    batches, group = recipe.grpo.micro_batches(processes), recipe.grpo.num_generations
    limit, most = recipe.grpo.tokens_per_micro_batch, recipe.grpo.max_completion_length
    size, count, rows = batches.size, batches.count, batches.size * batches.count
    prompts = rows // group
    if not recipe.sampling.shared_prefix:  # a copy of the prompt for each completion
        parts, longest = group, size * (work.prompt + most)
    elif limit is None:
        parts, longest = ceil(group / size), max(1, size // group) * work.prompt + size * most
    else:
        parts = max(1, ceil(group * work.completion / max(1.0, limit - work.prompt)))
        longest = max(float(limit), work.prompt + most)
        count = max(1, ceil(prompts * (parts * work.prompt + group * work.completion) / limit))
    tokens = prompts * parts * work.prompt + rows * work.completion
    return Step(prompts, rows, tokens, prompts * parts * work.visual, count, longest, 0)
