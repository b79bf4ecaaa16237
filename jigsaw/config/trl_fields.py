"""Checks the fields of TRL below `sft.extra` and `grpo.extra`: which ones a recipe may set, and their types.

In: an unvalidated section of a recipe. Out: nothing, or an error of one line. The names and types are read from the
sources of the installed TRL and transformers, since importing these takes seconds.
"""

from __future__ import annotations

import ast
import typing
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from jigsaw.config.stages import GrpoSection, SftSection, StageSection
from jigsaw.errors import JigsawError, did_you_mean

StageName = Literal["sft", "grpo"]

SECTIONS: Mapping[str, type[StageSection]] = {"sft": SftSection, "grpo": GrpoSection}
CONFIGS = {"sft": "SFTConfig", "grpo": "GRPOConfig"}
SOURCES = {
    "trl": ("trainer/grpo_config.py", "trainer/sft_config.py", "trainer/base_config.py"),
    "transformers": ("training_args.py",),
}
"""The files that define the dataclasses, by package."""

SET_BY_FRAMEWORK = {
    "output_dir": "output",
    "seed": "seed",
    "data_seed": "seed",
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
    "model_init_kwargs": "model",
}
"""TRL fields that are set from other keys of a recipe, and these keys."""

FIXED = {
    "use_cpu": "a GPU is used where there is one",
    "resume_from_checkpoint": "launch with --resume",
    "vllm_server_host": "the server is started with the run",
    "vllm_server_base_url": "the server is started with the run",
    "vllm_server_timeout": "the server is started with the run",
    "trust_remote_code": "code that comes with a checkpoint is never run",
    "remove_unused_columns": "rewards read every column",
}
"""TRL fields that no recipe can set, and why."""

UNUSED = {
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
"""Fields of GRPOConfig that would be ignored, since sampling and evaluation are not done by TRL."""


def check_stage(stage: StageName, content: Mapping[str, Any]) -> None:
    """Refuse keys of a `sft` or `grpo` section that are unknown, set by the framework, or without effect.

    Args:
        stage: name of the section.
        content: the unvalidated section.

    Raises:
        JigsawError: a key of the section or of its `extra` is refused, or a value of `extra` has another type.
    """
    own = SECTIONS[stage].model_fields
    for key in content:
        if key not in own:
            _refuse_reserved(stage, key, key)
            raise JigsawError(f"unknown key {stage}.{key}; {_hint(stage, key)}")
    _check_optimizer(stage, content.get("optim"))
    extra = content.get("extra") or {}
    if not isinstance(extra, Mapping):
        return  # the schema will refuse it
    for key, value in extra.items():
        place = f"extra.{key}"
        if key in own:
            raise JigsawError(f"{stage}.{place}: {key} is a key of the section itself; write it as {stage}.{key}")
        _refuse_reserved(stage, key, place)
        fields = trl_fields(stage)
        if fields and key not in fields:
            hint = did_you_mean(key, _open_fields(stage), f"it is not a field of TRL's {CONFIGS[stage]}")
            raise JigsawError(f"unknown key {stage}.{place}; {hint}")
        if fields:
            _check_value(f"{stage}.{place}", fields[key], value)


def _check_optimizer(stage: StageName, name: Any) -> None:
    """Refuse a name that is not an optimizer of transformers; the schema checks `muon`."""
    known = optimizers()
    if isinstance(name, str) and known and name not in {*known, "muon"}:
        more = ["muon"] if stage == "sft" else []
        raise JigsawError(f"{stage}.optim: unknown optimizer {name!r}; {did_you_mean(name, [*known, *more])}")


def _refuse_reserved(stage: StageName, key: str, place: str) -> None:
    if key in SET_BY_FRAMEWORK:
        raise JigsawError(f"{stage}.{place} is set by the framework: in a recipe, see {SET_BY_FRAMEWORK[key]}")
    if key in FIXED:
        raise JigsawError(f"{stage}.{place} is set by the framework: {FIXED[key]}; leave it out")
    if stage == "grpo" and key in UNUSED:
        raise JigsawError(
            f"{stage}.{place} has no effect: rollout.engine samples completions, and only temperature, top_p, top_k "
            f"and min_p change how; leave it out"
        )
    if stage == "grpo" and key == "router_aux_loss_coef":
        raise JigsawError(
            f"{stage}.{place} has no effect: GRPO trains experts without a load-balancing loss; leave it out"
        )


def _hint(stage: StageName, key: str) -> str:
    """What to write instead of an unknown key of a section."""
    if key in trl_fields(stage):
        return f"it is a field of TRL's {CONFIGS[stage]}: write it below {stage}.extra"
    own = sorted(SECTIONS[stage].model_fields.keys() - {"extra"})
    if near := get_close_matches(key, [*own, *_open_fields(stage)], n=1):
        return f"did you mean {near[0] if near[0] in own else f'extra.{near[0]}'}?"
    return f"known: {', '.join(own)}, and TRL's fields below {stage}.extra"


def _open_fields(stage: StageName) -> list[str]:
    """TRL's fields that are allowed in `extra`."""
    taken = SECTIONS[stage].model_fields.keys() | SET_BY_FRAMEWORK.keys() | FIXED.keys()
    return sorted(trl_fields(stage).keys() - taken - (UNUSED if stage == "grpo" else set()))


def _check_value(key: str, kind: Any, value: Any) -> None:
    """Refuse a value of another type: TRL would accept it and fail during training."""
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        wanted = error.errors()[0]["msg"]
        raise JigsawError(f"{key}: {wanted[0].lower()}{wanted[1:]}, not {value!r}") from error


@cache
def trl_fields(stage: StageName) -> dict[str, Any]:
    """Name -> type of every field of a stage's TRL configuration.

    A type that is defined in TRL or transformers is `Any`. If the sources are not found, the result is empty, and TRL
    refuses an unknown field when the run begins.
    """
    classes = _classes()
    found: dict[str, Any] = {}
    waiting = [CONFIGS[stage]]
    while waiting:
        definition = classes.get(waiting.pop(0))
        if definition is None:
            continue
        for line in definition.body:
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                found.setdefault(line.target.id, _type(line.annotation))
        waiting += [base.id for base in definition.bases if isinstance(base, ast.Name)]
    return found


@cache
def optimizers() -> tuple[str, ...]:
    """The names of transformers' optimizers; empty if its sources are not found."""
    definition = _classes().get("OptimizerNames")
    lines = [] if definition is None else definition.body
    return tuple(
        line.value.value
        for line in lines
        if isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)
    )


@cache
def _classes() -> dict[str, ast.ClassDef]:
    """Class name -> its definition, of all files of `SOURCES`."""
    found: dict[str, ast.ClassDef] = {}
    for package, files in SOURCES.items():
        spec = find_spec(package)
        for folder in () if spec is None else spec.submodule_search_locations or ():
            for name in files:
                file = Path(folder) / name
                if file.is_file():
                    tree = ast.parse(file.read_text(encoding="utf-8"))
                    found |= {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    return found


def _type(annotation: ast.expr) -> Any:
    """The type of a dataclass field from its annotation; `Any` for a class of a library."""
    match annotation:
        case ast.Constant(value=None):
            return None
        case ast.Name(id=name):
            return {"str": str, "int": int, "float": float, "bool": bool, "dict": dict, "list": list}.get(name, Any)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return typing.Union[_type(left), _type(right)]  # noqa: UP007  # of values, not of annotations
        case ast.Subscript(value=ast.Name(id="Literal"), slice=ast.Constant(value=value)):
            return Literal[value]
        case ast.Subscript(value=ast.Name(id="list"), slice=inner):
            return list[_type(inner)]  # type: ignore[misc]
        case ast.Subscript(value=ast.Name(id="dict"), slice=ast.Tuple(elts=[key, value])):
            return dict[_type(key), _type(value)]  # type: ignore[misc]
    return Any
