"""From a recipe's `sft` and `grpo` sections to TRL's configurations: checks the keys, adds what the framework decides.

In: the section as written. Out: an `SFTConfig` or a `GRPOConfig`. A key that TRL does not know is refused with the
nearest one that it does; a key that the framework sets itself is refused with the recipe key that is meant.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from jigsaw.config.schema import Recipe
from jigsaw.errors import JigsawError, first_line
from jigsaw.rewards.errors import did_you_mean

OURS = {
    "output_dir": "output",
    "seed": "seed",
    "data_seed": "seed",
    "use_cpu": "nothing: a GPU is used where there is one",
    "deepspeed": "distributed.zero",
    "fsdp": "distributed.zero",
    "report_to": "logging.report_to",
    "log_completions": "logging.completions",
    "num_completions_to_print": "logging.completions",
    "log_unique_prompts": "logging.completions",
    "log_multimodal": "logging.completions",
    "log_completions_hub_repo": "logging.completions",
    "save_strategy": "checkpoint.every",
    "save_steps": "checkpoint.every",
    "save_total_limit": "checkpoint.keep",
    "resume_from_checkpoint": "nothing: launch with --resume",
    "peft_config": "model.lora",
    "bf16": "model.dtype",
    "fp16": "model.dtype",
    "reward_weights": "rewards",
    "eval_strategy": "evaluation.every",
    "eval_steps": "evaluation.every",
    "generation_batch_size": "grpo.prompts_per_step",
    "gradient_accumulation_steps": "grpo.prompts_per_step",
    "use_vllm": "rollout.engine",
    "vllm_mode": "rollout.mode",
    "vllm_enable_sleep_mode": "rollout.sleep",
    "vllm_gpu_memory_utilization": "rollout.gpu_memory_utilization",
    "vllm_max_model_length": "rollout.max_model_len",
    "vllm_tensor_parallel_size": "rollout.tensor_parallel_size",
    "vllm_server_port": "rollout.port",
    "vllm_group_port": "rollout.port",
    "vllm_server_host": "nothing: the server is started with the run",
    "vllm_server_base_url": "nothing: the server is started with the run",
    "vllm_server_timeout": "nothing: the server is started with the run",
    "model_init_kwargs": "model",
    "trust_remote_code": "nothing: code that comes with a checkpoint is never run",
    "remove_unused_columns": "nothing: rewards read every column",
}
"""TRL fields that a recipe says elsewhere, and where."""

UNREAD = {
    "cache_implementation",
    "chat_template_kwargs",
    "ds3_gather_for_generation",
    "generation_kwargs",
    "max_tool_calling_iterations",
    "num_generations_eval",
    "repetition_penalty",
    "transformers_continuous_batching_config",
    "use_transformers_continuous_batching",
    "use_transformers_paged",
    "vllm_model_impl",
    "vllm_structured_outputs_regex",
}
"""GRPOConfig's fields of what is done in another way here: sampling and held-out looks. They would be ignored."""

PAPER: Mapping[str, Any] = {
    "prompts_per_step": 32,
    "num_generations": 16,
    "max_completion_length": 2048,
    "learning_rate": 1e-6,
    "lr_scheduler_type": "constant",
    "beta": 0.0,  # no KL
    "epsilon": 0.2,  # and the same above, unless epsilon_high is given
    "loss_type": "dapo",  # the mean over all tokens of a step
    "temperature": 1.0,
    "vllm_importance_sampling_correction": False,
}
"""GRPO as in arXiv 2509.25190, section 4.1: what holds where a recipe says nothing."""


def completion_limit(recipe: Recipe) -> int:
    """Most tokens of an answer to a held-out puzzle: `evaluation.max_new_tokens`, or as in GRPO."""
    limit: int = recipe.evaluation.max_new_tokens or {**PAPER, **(recipe.grpo or {})}["max_completion_length"]
    return limit


def sft_config(recipe: Recipe, folder: Path, *, world_size: int = 1, deepspeed: Mapping[str, Any] | None = None) -> Any:
    """TRL's configuration of the supervised stage.

    `prompts_per_step` puzzles make one step on all processes together, `per_device_train_batch_size` of them at a time
    on each; without `prompts_per_step` TRL's own keys say the same. Beside the optimizers that TRL knows there is
    `optim: muon`, for models that start from random weights.

    Args:
        recipe: the run.
        folder: where TRL writes.
        world_size: processes that train together.
        deepspeed: its configuration, `jigsaw.training.sharding`; None trains without it.

    Raises:
        JigsawError: a key that TRL's SFTConfig does not have, a value that it refuses, or batch sizes that do not
        divide.
    """
    from trl import SFTConfig

    section = dict(recipe.sft or {})
    _check_keys("sft", section, SFTConfig, extra=("prompts_per_step",))
    # TRL cuts sequences at 1024 tokens by default: a prompt would lose pieces and nothing would say so.
    section.setdefault("max_length", None)
    if section.get("optim") == "muon":  # ours, not TRL's: `jigsaw.training.muon`
        if deepspeed is not None:
            raise JigsawError("sft.optim: muon trains without DeepSpeed; take another, or set distributed.zero: 0")
        del section["optim"]
    if "prompts_per_step" in section:
        prompts = _positive("sft.prompts_per_step", section.pop("prompts_per_step"))
        section |= _shares("sft", section, prompts, "puzzles", world_size)
    return _make("sft", SFTConfig, {**_common(recipe, folder, deepspeed), **section})


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

    TRL counts completions; a recipe counts prompts: `prompts_per_step` x `num_generations` completions make one step on
    all processes together, and `per_device_train_batch_size` of them are held in memory at a time on each (its whole
    share where that is not given).

    Args:
        recipe: the run.
        folder: where TRL writes.
        suppressed_tokens: ids that are never sampled.
        reward_weights: one per reward.
        world_size: processes that train together.
        deepspeed: its configuration, `jigsaw.training.sharding`; None trains without it.

    Raises:
        JigsawError: a key that TRL's GRPOConfig does not have, a value that it refuses, or batch sizes that do not
        divide.
    """
    from trl import GRPOConfig

    _check_keys("grpo", recipe.grpo or {}, GRPOConfig, extra=("prompts_per_step",), unread=UNREAD)
    section: dict[str, Any] = {**PAPER, **(recipe.grpo or {})}
    prompts = _positive("grpo.prompts_per_step", section.pop("prompts_per_step"))
    generations = _positive("grpo.num_generations", section["num_generations"])
    if generations < 2:
        raise JigsawError("grpo.num_generations: 1 leaves nothing to compare a completion with; use 2 or more")
    section |= _shares("grpo", section, prompts, "prompts", world_size, each=generations)
    section["shuffle_dataset"] = False  # `jigsaw.training.order` has done it
    return _make(
        "grpo",
        GRPOConfig,
        {
            **_common(recipe, folder, deepspeed),
            "generation_kwargs": {"suppress_tokens": suppressed_tokens},
            "reward_weights": reward_weights,
            **section,
        },
    )


def _shares(
    section: str, given: Mapping[str, Any], prompts: int, what: str, world_size: int, each: int = 1
) -> dict[str, int]:
    """The prompts of a step dealt to processes, and their rows (`each` of a prompt) to micro-batches."""
    share, left = divmod(prompts, world_size)
    if left:  # a group that two processes shared would be sampled twice over
        raise JigsawError(
            f"{section}.prompts_per_step: {world_size} processes do not divide the {prompts} {what} of a step"
        )
    key = f"{section}.per_device_train_batch_size"
    at_once = _positive(key, given.get("per_device_train_batch_size", share * each))
    if share * each % at_once:
        of = f"{share * each} completions" if each > 1 else f"{share} {what}"
        where = "of a step" if world_size == 1 else f"of a step on each of {world_size} processes"
        raise JigsawError(f"{key}: {at_once} does not divide the {of} {where}")
    return {"per_device_train_batch_size": at_once, "gradient_accumulation_steps": share * each // at_once}


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
        values |= {"deepspeed": dict(deepspeed), "optim": "adamw_torch"}
    if not cuda and torch.distributed.is_initialized():
        values["ddp_backend"] = "gloo"  # without it accelerate looks for MPI
    return values


def _check_keys(
    section: str,
    given: Mapping[str, Any],
    config: type,
    extra: tuple[str, ...],
    unread: Collection[str] = (),
) -> None:
    known = sorted({field.name for field in fields(config)} - OURS.keys() - set(unread) | set(extra))
    for key in given:
        if key in OURS:
            raise JigsawError(f"{section}.{key} is set by the framework: in a recipe, see {OURS[key]}")
        if key in unread:
            raise JigsawError(
                f"{section}.{key} would change nothing: rollout.engine draws completions, by temperature, top_p, top_k "
                f"and min_p alone; leave it out"
            )
        if key not in known:
            hint = did_you_mean(key, known, f"it is no field of TRL's {config.__name__}")
            raise JigsawError(f"unknown key {section}.{key}; {hint}")
    hints = get_type_hints(config)
    for key, value in given.items():
        if key in extra:
            continue
        try:
            TypeAdapter(hints[key]).validate_python(value)
        except ValidationError as error:  # TRL itself takes anything, and fails in the middle of training
            wanted = error.errors()[0]["msg"]
            raise JigsawError(f"{section}.{key}: {wanted[0].lower()}{wanted[1:]}, not {value!r}") from error


def _positive(key: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise JigsawError(f"{key}: a whole number of at least 1 is needed, not {value!r}")
    return value


def _make(section: str, config: type, values: dict[str, Any]) -> Any:
    try:
        return config(**values)
    except (ValueError, TypeError) as error:
        raise JigsawError(f"{section}: {first_line(error)}") from error
