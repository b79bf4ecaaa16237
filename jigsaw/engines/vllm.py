"""The vLLM engine in this process, with a trainer (colocated) or for evaluation.

In: puzzle rows. Out: completions with the log-probabilities with which they were sampled. A colocated engine uses the
trainer's configuration and processor, so pixel limits and dtype are the same, and gets new weights with every `sync`
through vLLM's reload path. It works with vLLM's CPU build and on GPUs.

vLLM expands the placeholder of a medium itself, so it gets one placeholder per medium. The prompt ids that it returns
are compared with the trainer's on every batch, because a rollout from another prompt would fail silently.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import random
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist

from jigsaw.engines.base import Completions, Row, Sampling
from jigsaw.engines.vllm_requests import (
    VllmSettings,
    check_completion,
    check_prompt,
    check_room,
    largest_image,
    set_environment,
    vllm_request,
)
from jigsaw.engines.weights import Policy, write_checkpoint
from jigsaw.errors import JigsawError, first_line
from jigsaw.extras import install_command
from jigsaw.models.prompt_batch import PromptBatch

if TYPE_CHECKING:
    from jigsaw.config.schema import RolloutSection


class VllmEngine:
    """An engine in this process; see `jigsaw.engines.Engine`.

    Args:
        checkpoint: folder or hub id of the model.
        processor: the processor of the same checkpoint.
        settings: settings of the engine.
        kept: an object to keep alive as long as the engine.

    Raises:
        JigsawError: vLLM is not installed, or the engine does not start.
    """

    def __init__(self, checkpoint: str, processor: Any, settings: VllmSettings, *, kept: Any = None) -> None:
        require_vllm()
        set_environment()
        from vllm import LLM
        from vllm.platforms import current_platform

        on_cpu = bool(current_platform.is_cpu())
        if on_cpu or dist.is_initialized():  # one process; a trainer passes weights by reference
            os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        if settings.gpu_memory_utilization is None and not on_cpu:
            settings = replace(settings, gpu_memory_utilization=_free_share())
        arguments = settings.arguments(on_cpu=on_cpu, largest_image=largest_image(processor))
        if dist.is_initialized() and dist.get_world_size() > 1:
            arguments["distributed_executor_backend"] = "external_launcher"
        self._processor, self._kept = processor, kept
        self._sleeps = bool(arguments.get("enable_sleep_mode"))
        self._asleep, self._version = False, -1
        try:
            with warnings.catch_warnings(action="ignore"), _random_state_kept():
                self._llm = LLM(model=checkpoint, trust_remote_code=False, disable_log_stats=True, **arguments)
        except (RuntimeError, ValueError) as error:
            raise JigsawError(f"vLLM did not start: {first_line(error)}; --debug shows the whole error") from error
        self._room = int(self._llm.model_config.max_model_len)
        if dist.is_initialized():  # as in TRL: DeepSpeed may hang if processes start it at different times
            dist.barrier()
        self.sleep()

    def sync(self, policy: Policy) -> None:
        """Load the weights of a policy, gathered and merged if needed, and clear cached prompts and images."""
        if self._version == policy.version and not self._asleep:
            return
        if self._asleep:
            self._llm.wake_up(tags=["weights"])
        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": policy.weights()})
        self._llm.apply_model(_refresh_tied_head)
        self._llm.reset_prefix_cache()
        self._llm.llm_engine.reset_encoder_cache()  # images that the old weights encoded
        if self._asleep:
            self._llm.wake_up(tags=["kv_cache"])
        self._asleep, self._version = False, policy.version

    def generate(self, rows: Sequence[Row], sampling: Sampling, prompts: PromptBatch | None = None) -> Completions:
        """See `Engine`.

        Raises:
            JigsawError: vLLM's prompt tokens differ from the trainer's, a completion does not fit, or vLLM sampled a
                forbidden token.
        """
        from vllm import SamplingParams

        sampling.require_seeds(rows)
        expected = None if prompts is None else prompts.token_lists()
        for row, ids in zip(rows, expected or (), strict=False):
            check_room(row, len(ids), sampling.max_tokens, self._room)
        shared: dict[str, Any] = {
            "n": sampling.count,
            "max_tokens": sampling.max_tokens,
            "stop_token_ids": list(sampling.end_tokens),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "logit_bias": dict.fromkeys(sampling.forbidden_tokens, -100.0),
            "logprobs": None if sampling.greedy else 0,
            "detokenize": False,
        }
        seeds: Sequence[int | None] = [None] * len(rows) if sampling.greedy else sampling.seeds
        params = [SamplingParams(**shared, seed=seed) for seed in seeds]
        requests = [vllm_request(self._processor, row) for row in rows]
        try:
            results = self._llm.generate(requests, params, use_tqdm=False)
        except ValueError as error:  # a prompt that is too long, or has too many media
            raise JigsawError(f"vLLM refused a puzzle: {first_line(error)}") from error
        tokens: list[list[int]] = []
        log_probabilities: list[list[float]] = []
        for number, (row, result) in enumerate(zip(rows, results, strict=True)):
            if expected is not None:
                check_prompt(row, expected[number], result.prompt_token_ids)
            for output in result.outputs:
                ids = list(output.token_ids)
                check_completion(row, ids, sampling.forbidden_tokens)
                if len(ids) < sampling.max_tokens and (not ids or ids[-1] not in sampling.end_tokens):
                    check_room(row, len(result.prompt_token_ids), sampling.max_tokens, self._room)
                tokens.append(ids)
                if not sampling.greedy:
                    steps = zip(output.logprobs, ids, strict=True)
                    log_probabilities.append([step[token].logprob for step, token in steps])
        return Completions(tokens, None if sampling.greedy else log_probabilities)

    def sleep(self) -> None:
        """Free the memory of weights and cache, if sleep is enabled; `sync` restores them."""
        if self._sleeps and not self._asleep:
            self._llm.sleep(level=2)
            self._asleep = True

    def close(self) -> None:
        """End the engine and free its memory. vLLM (0.31) also destroys the process group."""
        self._llm.llm_engine.engine_core.shutdown()
        del self._llm
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def colocated_engine(
    config: Any,
    processor: Any,
    rollout: RolloutSection,
    *,
    device: Any,
    dtype: str,
    seed: int,
    completions: int | None = None,
) -> VllmEngine:
    """An engine for the model that this process trains; it gets its weights by `sync`. Collective.

    Args:
        config: configuration of the model, with the path that it was loaded from.
        processor: the trainer's processor.
        rollout: the recipe's `rollout` section.
        device: device of the trainer's computation. With DeepSpeed, the model is not on it yet at this time.
        dtype: data type of the trainer's computation; its weights may have another.
        seed: random seed of the engine; requests have their own seeds.
        completions: number of completions that this process requests together.

    Raises:
        JigsawError: vLLM is not installed, or is built for another kind of device.
    """
    require_vllm()
    from vllm.platforms import current_platform

    on_cpu = bool(current_platform.is_cpu())
    if on_cpu != (torch.device(device).type == "cpu"):
        build, place = ("the CPU", "a GPU") if on_cpu else ("GPUs", "the CPU")
        raise JigsawError(
            f"rollout.engine: this vLLM is built for {build} and the trainer computes on {place}; "
            f"{install_command('gpu')}, or use engine: transformers"
        )
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # weights are passed by reference
    # Kept as long as the engine, since vLLM may open the processor only with the first image.
    folder = tempfile.TemporaryDirectory(prefix="jigsaw-vllm-")
    write_checkpoint(config, processor, Path(folder.name))
    settings = VllmSettings(
        dtype=dtype,
        seed=seed,
        max_model_len=rollout.max_model_len,
        completions=completions,
        gpu_memory_utilization=rollout.gpu_memory_utilization,
        enforce_eager=rollout.enforce_eager,
        sleep=rollout.sleep,
    )
    return VllmEngine(folder.name, processor, settings, kept=folder)


def require_vllm() -> None:
    """Raise JigsawError if vLLM is not installed."""
    if importlib.util.find_spec("vllm") is None:
        raise JigsawError(f"vLLM is not installed; {install_command('gpu')}, or use engine: transformers")


def _free_share() -> float | None:
    """The share of GPU memory for an engine without a trainer; None (vLLM's default) if this process uses no memory.

    After training in this process, less than the default may be free.
    """
    if not torch.cuda.is_initialized():
        return None
    gc.collect()
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    return float(max(free / total - 0.05, 0.05))


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """Restore the random states of this process after the block, since vLLM sets them to its seed."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(python)
    np.random.set_state(numpy)


def _refresh_tied_head(model: Any) -> None:
    """Repack a tied head: on CPUs, vLLM has a packed copy of it that its reload path does not update."""
    from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

    for module in model.modules():
        if isinstance(module, VocabParallelEmbedding) and hasattr(module, "cpu_linear"):
            module.quant_method.process_weights_after_loading(module)
