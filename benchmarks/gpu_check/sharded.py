"""DeepSpeed's ZeRO-2 and ZeRO-3 in one process: two micro-batches, a step, an evaluation, another step."""

from __future__ import annotations

import os
from typing import Any

import torch

from gpu_check.check import GB, Check, Verdict
from gpu_check.loss import PROMPTS, SMALL_LIMIT, SMALL_PROMPTS
from gpu_check.models import config_of, model_of, prompt_of, shape_for, size_that_fits
from jigsaw.config.schema import Recipe
from jigsaw.models.shared_prefix import log_probabilities
from jigsaw.training.sharding import deepspeed_config

MICRO_BATCHES = 2


def steps(check: Check) -> Verdict:
    """Train with both stages and check losses and memory."""
    os.environ |= {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29533",
    }
    if check.small:
        os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed

    deepspeed.init_distributed("gloo" if check.small else "nccl")
    losses = {}
    for stage in (2, 3):
        losses[stage] = _train(check, deepspeed, stage)
        if not all(map(torch.isfinite, map(torch.tensor, losses[stage]))):
            return Verdict("fail", f"ZeRO-{stage}: losses {losses[stage]}")
        if losses[stage][-1] >= losses[stage][0]:
            return Verdict("fail", f"ZeRO-{stage}: the loss does not fall: {losses[stage]}")
    apart = max(abs(one - other) for one, other in zip(losses[2], losses[3], strict=True))
    check.add(difference_of_stages=apart)
    if apart > 0.05 * abs(losses[2][0]):
        return Verdict("fail", f"ZeRO-2 and ZeRO-3 differ: losses {losses[2]} and {losses[3]}")
    return Verdict("pass", f"losses {losses[3][0]:.3g} to {losses[3][-1]:.3g} with both stages")


def _train(check: Check, deepspeed: Any, stage: int) -> list[float]:
    """Mean losses of two steps with an evaluation in between."""
    torch.manual_seed(0)
    size, layers = size_that_fits(check, bytes_of=20)
    size = "3b" if size == "7b" else size
    dtype = torch.float32 if check.small else torch.bfloat16
    model = model_of(check, config_of(size, layers=layers), dtype).train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    shape = shape_for(model.config)
    images, grid, tokens = SMALL_PROMPTS["tiles"] if check.small else PROMPTS["tiles"]
    prompt = prompt_of(check, model, images, grid, tokens)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3 if check.small else 1e-4)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=_config(check, stage, shape.hidden))
    length = SMALL_LIMIT if check.small else 500
    ids = torch.randint(100, 10_000, (4, length), device=check.device)
    found = []
    with check.span() as span:
        for step in range(2):
            losses = []
            for _ in range(MICRO_BATCHES):
                scores, _ = log_probabilities(engine, prompt, [0] * 4, ids, torch.ones_like(ids))
                losses.append(float(-scores.mean().detach()))
                engine.backward(-scores.mean())
                engine.step()
            found.append(sum(losses) / len(losses))
            if step == 0:
                with torch.no_grad():
                    log_probabilities(engine, prompt, [0] * 4, ids, torch.ones_like(ids))
    check.add(
        **{
            f"zero{stage}/parameters": shape.parameters,
            f"zero{stage}/losses": [float(f"{loss:.4g}") for loss in found],
            f"zero{stage}/seconds": span.seconds,
            f"zero{stage}/peak_gb": span.peak / GB,
        }
    )
    engine.destroy()
    del engine, model, optimizer
    if not check.small:
        torch.cuda.empty_cache()
    return found


def _config(check: Check, stage: int, hidden: int) -> dict[str, Any]:
    """The configuration of a recipe, with the numbers that the trainer would fill in."""
    recipe = Recipe.model_validate(
        {
            "name": "gpu-check",
            "model": {"path": "none", "dtype": "float32" if check.small else "bfloat16"},
            "data": {"train": [{"path": "none"}]},
            "grpo": {},
            "distributed": {"zero": stage, **({"cpu_processes": 1} if check.small else {"gpus": 1})},
            "output": "none",
        }
    )
    config = deepspeed_config(recipe)
    assert config is not None
    numbers = {
        "train_batch_size": MICRO_BATCHES,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": MICRO_BATCHES,
        "gradient_clipping": 1.0,
        "reduce_bucket_size": hidden**2,
        "stage3_prefetch_bucket_size": int(0.9 * hidden**2),
        "stage3_param_persistence_threshold": 10 * hidden,
    }

    def filled(values: dict[str, Any]) -> dict[str, Any]:
        return {
            name: filled(value) if isinstance(value, dict) else numbers[name] if value == "auto" else value
            for name, value in values.items()
        }

    return filled(config)
