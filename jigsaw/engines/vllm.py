"""Rollouts by vLLM inside the training process: the same weights, prompts and pixels as the trainer's, checked.

In: puzzle rows and the tokens that the trainer made of them. Out: G completions of each, with the log-probabilities
under which they were sampled. The engine gets the trainer's own configuration and processor, so pixel limits and dtype
agree by construction, and new weights with every `sync`, in one pass through vLLM's reload path. Works on vLLM's CPU
build as on GPUs.

vLLM expands the placeholder of a medium itself and is therefore given one per medium; the prompt ids that it returns
are compared with the trainer's on every batch, because a rollout of another prompt would fail silently.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from jigsaw.engines.vllm_requests import engine_options, quiet_vllm, vllm_request
from jigsaw.engines.weights import merged_weights, write_checkpoint
from jigsaw.errors import JigsawError
from jigsaw.extras import install_command

if TYPE_CHECKING:
    from jigsaw.config.schema import RolloutSection


class VllmEngine:
    """vLLM beside the trainer on the same device, one engine a rank.

    Args:
        model: the trainer's model, unwrapped; its configuration is what counts, weights come with `sync`.
        processor: the trainer's.
        settings: of the recipe.
        forbidden_tokens: ids that are never sampled.
        on_cpu: whether the trainer computes on a CPU; None: where the model is now. With DeepSpeed it is moved later.
        dtype: in which the trainer computes, whatever its weights are kept in.
        seed: of the engine; requests have their own.

    Raises:
        JigsawError: vLLM is not installed.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        settings: RolloutSection,
        forbidden_tokens: Sequence[int],
        *,
        on_cpu: bool | None = None,
        dtype: str = "float32",
        seed: int = 0,
    ) -> None:
        require_vllm()
        if on_cpu is None:
            on_cpu = next(model.parameters()).device.type == "cpu"
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # weights are handed over by reference
        quiet_vllm(on_cpu)
        from vllm import LLM

        self._processor = processor
        self._forbidden = {int(token): -100.0 for token in forbidden_tokens}
        self._sleeps = settings.sleep and not on_cpu
        distributed = torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1
        # Kept as long as the engine: vLLM may open the processor as late as with the first image.
        self._folder = tempfile.TemporaryDirectory(prefix="jigsaw-vllm-")
        write_checkpoint(model.config, processor, Path(self._folder.name))
        self._llm = LLM(
            model=self._folder.name,
            dtype=dtype,
            seed=seed,
            trust_remote_code=False,
            max_model_len=settings.max_model_len,
            gpu_memory_utilization=settings.gpu_memory_utilization,
            enforce_eager=on_cpu or settings.enforce_eager,
            enable_sleep_mode=self._sleeps,
            logprobs_mode="processed_logprobs",
            max_num_batched_tokens=max(settings.max_model_len, 16384),
            **engine_options(on_cpu),
            **({"distributed_executor_backend": "external_launcher"} if distributed else {}),
        )
        if self._sleeps:
            self._llm.sleep(level=2)

    def sync(self, model: Any) -> None:
        """Give the engine the weights of `model`, gathered and merged as need be; drops cached prompts.

        Collective under ZeRO-3: every rank calls it.
        """
        if self._sleeps:
            self._llm.wake_up(tags=["weights"])
        worker = self._llm.llm_engine.model_executor.driver_worker
        runner = getattr(worker, "worker", worker).model_runner
        runner.reload_weights(weights_iterator=merged_weights(model))
        _refresh_tied_head(runner.get_model())
        self._llm.reset_prefix_cache()
        self._llm.llm_engine.reset_encoder_cache()  # images encoded by the weights of before
        if self._sleeps:
            self._llm.wake_up(tags=["kv_cache"])

    def generate(
        self,
        rows: Sequence[Mapping[str, Any]],
        prompt_ids: Sequence[Sequence[int]],
        generations: int,
        *,
        seeds: Sequence[int],
        max_tokens: int,
        end_tokens: Sequence[int] = (),
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        min_p: float = 0.0,
    ) -> tuple[list[list[int]], list[list[float]]]:
        """Sample completions of the prompts of N rows.

        Args:
            rows: puzzle rows with their media.
            prompt_ids: the trainer's tokens of each, every placeholder expanded.
            generations: completions of each, G.
            seeds: of each row's draw.
            max_tokens: limit of a completion.
            end_tokens: that end one, beside the end token of the configuration; a completion keeps its own.
            temperature, top_p, top_k, min_p: of sampling.

        Returns:
            N x G token lists and their log-probabilities, the completions of a row together.

        Raises:
            JigsawError: vLLM saw other prompt tokens than the trainer, or sampled a forbidden token.
        """
        from vllm import SamplingParams

        sampling = [
            SamplingParams(
                n=generations,
                seed=seed,
                max_tokens=max_tokens,
                stop_token_ids=list(end_tokens),
                temperature=temperature,
                top_p=top_p,
                top_k=top_k or -1,
                min_p=min_p,
                logit_bias=self._forbidden,
                logprobs=0,
                detokenize=False,
            )
            for seed in seeds
        ]
        results = self._llm.generate([vllm_request(self._processor, row) for row in rows], sampling, use_tqdm=False)
        completions: list[list[int]] = []
        log_probabilities: list[list[float]] = []
        for row, expected, result in zip(rows, prompt_ids, results, strict=True):
            check_prompt(row, expected, result.prompt_token_ids)
            for output in result.outputs:
                tokens = list(output.token_ids)
                check_completion(row, tokens, self._forbidden)
                completions.append(tokens)
                log_probabilities.append(
                    [step[token].logprob for step, token in zip(output.logprobs, tokens, strict=True)]
                )
        if self._sleeps:
            self._llm.sleep(level=2)
        return completions, log_probabilities


def check_prompt(row: Mapping[str, Any], ours: Sequence[int], theirs: Sequence[int]) -> None:
    """Raises JigsawError where vLLM read other prompt tokens than the trainer."""
    if list(ours) != list(theirs):
        raise JigsawError(
            f"row {row.get('id')}: vLLM read a prompt of {len(theirs)} tokens that is not the trainer's of "
            f"{len(ours)}; the two processors differ, and training on it would be wrong"
        )


def check_room(
    rows: Sequence[Mapping[str, Any]], prompt_ids: Sequence[Sequence[int]], completion: int, room: int
) -> None:
    """Raises JigsawError where vLLM has no room for a prompt and a whole completion: it would cut the latter short."""
    for row, prompt in zip(rows, prompt_ids, strict=True):
        if len(prompt) + completion > room:
            raise JigsawError(
                f"row {row.get('id')}: its prompt of {len(prompt)} tokens and a completion of {completion} do not fit "
                f"in rollout.max_model_len={room}; set it to {len(prompt) + completion} or more"
            )


def check_completion(row: Mapping[str, Any], tokens: Sequence[int], forbidden: Collection[int]) -> None:
    """Raises JigsawError where vLLM sampled a token that stands for a medium."""
    if any(token in forbidden for token in tokens):
        raise JigsawError(f"row {row.get('id')}: vLLM sampled a vision token, which no completion may hold")


def require_vllm() -> None:
    """Raises JigsawError where vLLM is not installed."""
    if importlib.util.find_spec("vllm") is None:
        raise JigsawError(
            f"rollout.engine: vllm is not installed; {install_command('gpu')}, or use engine: transformers"
        )


def _refresh_tied_head(model: Any) -> None:
    """Repack a tied head: on CPU, vLLM keeps a packed copy of it that its reload path does not renew."""
    from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

    for module in model.modules():
        if isinstance(module, VocabParallelEmbedding) and hasattr(module, "cpu_linear"):
            module.quant_method.process_weights_after_loading(module)
