"""Converts a recipe's `sft` and `grpo` sections to TRL's configurations.

In: a recipe. Out: an `SFTConfig` or a `GRPOConfig`, with the fields that the framework sets. Imports TRL.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jigsaw.config.schema import Recipe
from jigsaw.config.stages import MicroBatches, StageSection
from jigsaw.errors import JigsawError, first_line

OWN_FIELDS = {"extra", "packing", "prompts_per_step", "stop_at_accuracy", "tokens_per_micro_batch"}
"""Keys of the sections that TRL does not have."""


def sft_config(recipe: Recipe, folder: Path, *, world_size: int = 1, deepspeed: Mapping[str, Any] | None = None) -> Any:
    """TRL's configuration of the supervised stage.

    Args:
        recipe: the recipe, with an `sft` section.
        folder: the folder that TRL writes to.
        world_size: number of training processes.
        deepspeed: DeepSpeed's configuration (`jigsaw.training.sharding`), or None.

    Raises:
        JigsawError: TRL refuses a value, or a batch size does not divide the step.
    """
    from trl import SFTConfig

    section = recipe.sft
    assert section is not None
    # TRL truncates sequences to 1024 tokens by default, and a prompt would silently lose pieces.
    values = _common(recipe, folder, deepspeed) | {"max_length": None}
    values |= _fields(section, section.micro_batches(world_size))
    if section.optim == "muon":  # `jigsaw.training.muon`; TRL does not know it
        del values["optim"]
    return _make("sft", SFTConfig, values | section.extra)


def grpo_config(
    recipe: Recipe,
    folder: Path,
    suppressed_tokens: list[int],
    reward_weights: list[float],
    *,
    world_size: int = 1,
    deepspeed: Mapping[str, Any] | None = None,
) -> Any:
    """TRL's configuration of GRPO.

    Args:
        recipe: the recipe, with a `grpo` section.
        folder: the folder that TRL writes to.
        suppressed_tokens: ids that are never sampled.
        reward_weights: one weight per reward.
        world_size: number of training processes.
        deepspeed: DeepSpeed's configuration (`jigsaw.training.sharding`), or None.

    Raises:
        JigsawError: TRL refuses a value, or a batch size does not divide the step.
    """
    from trl import GRPOConfig

    section = recipe.grpo
    assert section is not None
    values = _common(recipe, folder, deepspeed) | _fields(section, section.micro_batches(world_size))
    values |= {
        "generation_kwargs": {"suppress_tokens": suppressed_tokens},
        "reward_weights": reward_weights,
        "shuffle_dataset": False,  # `jigsaw.training.order` shuffles
        "router_aux_loss_coef": 0.0,  # the log-probability pass has no router logits
    }
    return _make("grpo", GRPOConfig, values | section.extra)


def _fields(section: StageSection, batches: MicroBatches) -> dict[str, Any]:
    """The keys of a section, which have TRL's names; null means TRL's default."""
    fields = {key: value for key, value in section.model_dump(exclude=OWN_FIELDS).items() if value is not None}
    return fields | {"per_device_train_batch_size": batches.size, "gradient_accumulation_steps": batches.count}


def _common(recipe: Recipe, folder: Path, deepspeed: Mapping[str, Any] | None) -> dict[str, Any]:
    import torch

    cuda = torch.cuda.is_available() and recipe.distributed.cpu_processes is None
    values: dict[str, Any] = {
        "output_dir": str(folder),
        "seed": recipe.seed,
        "use_cpu": not cuda,
        "bf16": recipe.model.dtype == "bfloat16",
        "fp16": False,
        "report_to": "none",
        "save_strategy": "no",  # `jigsaw.training.checkpoints` asks for checkpoints itself
        "logging_steps": 1,
        "disable_tqdm": True,
        "dataloader_pin_memory": cuda,
        "remove_unused_columns": False,  # rewards read every column
    }
    if deepspeed is not None:
        values |= {"deepspeed": dict(deepspeed), "optim": "adamw_torch_fused"}
    if not cuda and torch.distributed.is_initialized():
        values["ddp_backend"] = "gloo"  # otherwise accelerate looks for MPI
    return values


def _make(section: str, config: type, values: dict[str, Any]) -> Any:
    try:
        return config(**values)
    except (ValueError, TypeError) as error:
        raise JigsawError(f"{section}: {first_line(error)}") from error
