"""Estimates the memory of training: weights, gradients, optimizer states and activations.

In: a recipe, the shape of its model, a step. Out: bytes by use. `docs/gpu.md` has the formula.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jigsaw.config.schema import Recipe
from jigsaw.config.stages import StageSection
from jigsaw.launch.workload import Step, Workload
from jigsaw.models.shapes import Shape

GB = 1e9

BUCKETS = 2 * GB
"""DeepSpeed's buffers: two buckets of 5e8 bfloat16 gradients, or the 1e9 weights that ZeRO-3 gathers at a time."""

LOGITS = 2**27 * 22
"""Bytes of a chunk of logits: `jigsaw.models.token_scores.CHUNK` of them in bfloat16 and, five times, in float32."""

ALL_LOGITS = 12
"""Bytes per logit if all are kept: logits and gradients, each in bfloat16 and in float32."""


@dataclass(frozen=True)
class States:
    """Memory of weights, gradients and optimizer states, in bytes.

    Attributes:
        on_gpu: bytes on each GPU, by use.
        on_host: bytes in the host memory of all nodes together.
        saved: bytes of a checkpoint.
        read: bytes of the model that each process reads into host memory at the start.
        trained: number of trained parameters.
    """

    on_gpu: Mapping[str, float]
    on_host: float
    saved: float
    read: float
    trained: float


def states_of(recipe: Recipe, shape: Shape, processes: int) -> States:
    """The memory of weights, gradients and optimizer states."""
    trained = _trained(recipe, shape)
    added = trained if recipe.model.lora is not None else 0.0  # adapters are added to the model
    of = _plain if recipe.distributed.zero == 0 else _sharded
    return of(recipe, shape.parameters, trained, added, processes)


def _plain(recipe: Recipe, parameters: float, trained: float, added: float, processes: int) -> States:
    """States without DeepSpeed: float32 weights under autocast, which keeps bfloat16 copies during a pass."""
    half = recipe.model.dtype == "bfloat16"
    width = 2 if half else 4
    frozen = width * (parameters + added - trained)
    on_gpu = {
        "weights": frozen + 4 * trained,
        "bfloat16 copies": 2 * trained if half else 0.0,
        "gradients": 4 * trained,
        "gradient buckets": 4 * trained if processes > 1 else 0.0,
        "optimizer": 8 * trained,
        "reference model": width * parameters if _has_reference(recipe) else 0.0,
    }
    return States(on_gpu, 0.0, 12 * trained, width * parameters, trained)


def _sharded(recipe: Recipe, parameters: float, trained: float, added: float, processes: int) -> States:
    """States with DeepSpeed: the optimizer has a float32 copy and two moments; gradients are summed in float32."""
    section, half = recipe.distributed, recipe.model.dtype == "bfloat16"
    width, moments = (2, 12) if half else (4, 8)
    weights = width * (parameters + added)
    # The number of shards of optimizer, gradients and weights.
    over = [processes if section.zero >= stage else 1 for stage in (1, 2, 3)]
    on_gpu = {
        "weights": weights / over[2],
        "gradients": 4 * trained / over[1],
        "optimizer": moments * trained / over[0],
        "second shard of weights": weights * section.nodes / processes if section.hpz else 0.0,  # within each node
        "buffers of ZeRO": min(BUCKETS, weights),
        "reference model": width * parameters / over[2] if _has_reference(recipe) else 0.0,
    }
    on_host = 0.0
    if section.offload != "none":
        # The optimizer states, the gradients that it reads, and their sum over the micro-batches of a step.
        on_host = (moments + 8) * trained
        on_gpu["optimizer"] = 0.0
        if section.zero > 1:
            on_gpu["gradients"] = 0.0
    if section.offload == "all":
        on_host += weights
        on_gpu["weights"] = 0.0
    saved = moments * trained + (width * trained if recipe.model.lora is not None else weights)
    return States(on_gpu, on_host, saved, width * parameters, trained)


def _trained(recipe: Recipe, shape: Shape) -> float:
    """Number of trained parameters. Parameters that only a name pattern freezes are counted as trained."""
    model = recipe.model
    if model.lora is not None:
        return shape.adapters(model.lora.rank)
    sizes = {"vision_tower": shape.vision, "language_model": shape.text}
    if model.pre_buffer is not None:
        # New in NEO are the pre-Buffer and, in the other layers, the projections of rows and columns.
        later = shape.layers - model.pre_buffer
        sizes["post-llm"] = (
            shape.text - model.pre_buffer * shape.layer - later * shape.hidden * (shape.query + shape.key)
        )
    return shape.parameters - sum(sizes.get(name, 0) for name in model.freeze)


def _has_reference(recipe: Recipe) -> bool:
    """Whether the KL term needs a second model; with adapters, the reference is the model without them."""
    return recipe.grpo is not None and recipe.grpo.beta > 0 and recipe.model.lora is None


def activations_of(section: StageSection, shape: Shape, work: Workload, step: Step) -> dict[str, float]:
    """Peak memory of the loss pass on each GPU, in bytes by use."""
    patches = 4 * step.visual / step.micro_batches  # a visual token is four patches
    layer = 2 * step.longest * (10 * shape.hidden + 4 * shape.feed_forward)
    block = 2 * patches * 14 * shape.vision_hidden
    if section.gradient_checkpointing:  # the input of every layer is kept; one layer at a time is recomputed
        kept = 2 * (step.longest * shape.hidden * shape.layers + patches * shape.vision_hidden * shape.vision_layers)
    else:
        kept = layer * shape.layers + block * shape.vision_layers
    logits = ALL_LOGITS * step.scored * shape.vocabulary if step.scored else LOGITS
    return {
        "kept activations": kept,
        "one layer or the head": max(layer, logits + 3 * 2 * shape.embedding),  # the head's weights and gradients
        "media": step.prompts * work.visual * shape.unit**2 * 3 * shape.temporal * 4,  # float32
    }
