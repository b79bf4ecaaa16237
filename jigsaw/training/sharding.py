"""DeepSpeed's configuration, from a recipe's `distributed` section.

In: a recipe. Out: DeepSpeed's configuration, which `--dry-run` prints and the trainer uses; DeepSpeed itself is not
imported. The trainer fills in the values that are `auto`.
"""

from __future__ import annotations

from typing import Any

from jigsaw.config.schema import Recipe
from jigsaw.topology import Topology


def deepspeed_config(recipe: Recipe) -> dict[str, Any] | None:
    """The configuration of a recipe; None if it does not use DeepSpeed (`zero: 0`).

    The optimizer is torch's AdamW on GPU and CPU, since DeepSpeed's optimizer for CPUs is compiled at the first step,
    which needs a compiler on every node.
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
    if section.hpz:
        zero["zero_hpz_partition_size"] = Topology.here(section).per_node
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
        # Otherwise gradients are summed in bfloat16 over micro-batches, with a relative error of 1% for 64 of them.
        "data_types": {"grad_accum_dtype": "fp32"},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }
