"""DeepSpeed's configuration, from a recipe's `distributed` section, and DeepSpeed's own estimate of its memory.

In: a recipe. Out: the configuration as DeepSpeed reads it, shown by `--dry-run` and given to the trainer; no DeepSpeed
is needed to write it. The values that are `auto` are filled in by the trainer, from the same numbers that it uses.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from jigsaw.config.schema import Recipe


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
    """DeepSpeed's estimate of what weights, gradients and optimizer need, in GiB; activations and rollouts come on top.

    Returns:
        A line; where there is no estimate, it says why.
    """
    section = recipe.distributed
    if section.zero == 1:
        return "no memory estimate: DeepSpeed has none for ZeRO-1"
    if find_spec("deepspeed") is None:
        return "no memory estimate: DeepSpeed is not installed"
    from jigsaw.models.skeleton import skeleton

    model = None if recipe.model.path is None else skeleton(recipe.model.path)
    if model is None:
        return (
            f"no memory estimate: the configuration of {recipe.model.path or recipe.model.tiny} is not on this machine"
        )
    # Every parameter counts as trained: frozen ones make it an upper bound.
    total = sum(parameter.numel() for parameter in model.parameters())
    node = {"num_gpus_per_node": section.per_node, "num_nodes": section.nodes}
    offloaded = section.offload != "none"
    if section.zero == 3:
        from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs

        largest = max(
            sum(parameter.numel() for parameter in module.parameters(recurse=False)) for module in model.modules()
        )
        cpu, gpu, _ = estimate_zero3_model_states_mem_needs(
            total, largest, cpu_offload=offloaded, cpu_offload_params=section.offload == "all", zero_init=True, **node
        )
    else:
        from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

        cpu, gpu = estimate_zero2_model_states_mem_needs(total, cpu_offload=offloaded, **node)
    return (
        f"DeepSpeed estimates {gpu / 2**30:.1f} GiB on each GPU and {cpu / 2**30:.1f} GiB of host memory on each node "
        f"for the states of {total / 1e9:.2f} billion parameters, without activations and rollouts"
    )
