"""DeepSpeed's configuration, from a recipe's `distributed` section, and an estimate of the memory that it needs.

In: a recipe. Out: the configuration as DeepSpeed reads it, shown by `--dry-run` and given to the trainer; no DeepSpeed
is needed to write it. The values that are `auto` are filled in by the trainer, from the same numbers that it uses.
"""

from __future__ import annotations

from typing import Any

from jigsaw.config.schema import Recipe
from jigsaw.errors import JigsawError
from jigsaw.models.checkpoint_files import size_of


def deepspeed_config(recipe: Recipe) -> dict[str, Any] | None:
    """The configuration of a recipe; None where it uses no DeepSpeed (`zero: 0`).

    The optimizer is torch's AdamW on GPU and CPU alike: DeepSpeed's own for the CPU would be compiled at the first
    step, which needs a compiler on every node.
    """
    section = recipe.distributed
    if section.zero == 0:
        return None
    on_cpu = section.cpu_processes is not None
    zero: dict[str, Any] = {
        "stage": section.zero,
        "overlap_comm": not on_cpu,
        "contiguous_gradients": True,
    }
    if section.zero == 3:
        zero |= {
            "reduce_bucket_size": "auto",
            "stage3_prefetch_bucket_size": "auto",
            "stage3_param_persistence_threshold": "auto",
            "stage3_gather_16bit_weights_on_model_save": True,
        }
    if section.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": not on_cpu}
    if section.offload == "all":
        zero["offload_param"] = {"device": "cpu", "pin_memory": not on_cpu}
    return {
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": recipe.model.dtype == "bfloat16"},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }


def memory_estimate(recipe: Recipe) -> str:
    """What weights, gradients and optimizer need on each GPU and each node, in a line; from the number of parameters.

    In bfloat16 a parameter takes 2 bytes of weight, 2 of gradient and 12 of optimizer (a float32 copy and Adam's two
    moments), in float32 4, 4 and 8. ZeRO-1 shards the last over all GPUs, ZeRO-2 also the second, ZeRO-3 all three.
    Frozen parameters count as trained, so that it is an upper bound.
    """
    section, path = recipe.distributed, recipe.model.path
    size = None if path is None else size_of(path)
    if size is None:
        return f"no memory estimate: the size of {path or recipe.model.tiny} is not known here"
    try:
        processes = section.world_size
    except JigsawError:  # all GPUs of a machine that has none
        return "no memory estimate: the number of GPUs is not known here"
    half = recipe.model.dtype == "bfloat16"
    weights, gradients, optimizer = (2, 2, 12) if half else (4, 4, 8)
    weights_at, gradients_at = (processes if section.zero > stage else 1 for stage in (2, 1))
    on_gpu, on_host = gradients / gradients_at, 0.0
    if section.offload == "all":
        on_host += weights / section.nodes
    else:
        on_gpu += weights / weights_at
    if section.offload == "none":
        on_gpu += optimizer / processes
    else:
        on_host += optimizer / section.nodes
    billions = size.parameters / 1e9
    more = "" if size.exact else " or more"
    return (
        f"memory: {on_gpu * billions:.1f} GB on each GPU and {on_host * billions:.1f} GB of host memory on each node "
        f"for weights, gradients and optimizer of {billions:.2f}{more} billion parameters; activations and rollouts "
        f"come on top"
    )
