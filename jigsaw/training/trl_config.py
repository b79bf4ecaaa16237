"""From a recipe's `sft` and `grpo` sections to TRL's configurations.

In: a recipe. Out: an `SFTConfig` or a `GRPOConfig`, with what the framework sets itself. Imports TRL.
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
        recipe: the run; it has an `sft` section.
        folder: where TRL writes.
        world_size: processes that train together.
        deepspeed: its configuration, `jigsaw.training.sharding`; None trains without it.

    Raises:
        JigsawError: a value that TRL refuses, or batch sizes that do not divide.
    """
    from trl import SFTConfig

    section = recipe.sft
    assert section is not None
    # TRL cuts sequences at 1024 tokens by default: a prompt would lose pieces and nothing would say so.
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
        recipe: the run; it has a `grpo` section.
        folder: where TRL writes.
        suppressed_tokens: ids that are never sampled.
        reward_weights: one per reward.
        world_size: processes that train together.
        deepspeed: its configuration, `jigsaw.training.sharding`; None trains without it.

    Raises:
        JigsawError: a value that TRL refuses, or batch sizes that do not divide.
    """
    from trl import GRPOConfig

    section = recipe.grpo
    assert section is not None
    values = _common(recipe, folder, deepspeed) | _fields(section, section.micro_batches(world_size))
    values |= {
        "generation_kwargs": {"suppress_tokens": suppressed_tokens},
        "reward_weights": reward_weights,
        "shuffle_dataset": False,  # `jigsaw.training.order` does it
        "router_aux_loss_coef": 0.0,  # the log-probability pass has no router's logits
    }
    return _make("grpo", GRPOConfig, values | section.extra)


def _fields(section: StageSection, batches: MicroBatches) -> dict[str, Any]:
    """The keys of a section by TRL's names, which are the same; null leaves TRL its default."""
    given = {key: value for key, value in section.model_dump(exclude=OWN_FIELDS).items() if value is not None}
    return given | {"per_device_train_batch_size": batches.size, "gradient_accumulation_steps": batches.count}


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
        values["ddp_backend"] = "gloo"  # without it accelerate looks for MPI
    return values


def _make(section: str, config: type, values: dict[str, Any]) -> Any:
    try:
        return config(**values)
    except (ValueError, TypeError) as error:
        raise JigsawError(f"{section}: {first_line(error)}") from error
