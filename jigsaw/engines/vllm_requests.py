"""Requests and settings that all vLLM engines share, in training and in evaluation.

In: a row of a puzzle set. Out: a request to vLLM. The module also has the settings of engines in this process and of
servers, and checks of what vLLM returns.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jigsaw.errors import JigsawError
from jigsaw.models.families import family_of_processor
from jigsaw.models.families.base import video_metadata
from jigsaw.models.prompts import expand_media, media_of, prompt_text

MEDIA_PER_PROMPT = {"image": 192, "video": 12}
"""Maximum media of a puzzle: twelve clips or, for NEO, their frames as images, 16 of each."""

ON_CPU = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
"""Environment of vLLM's CPU build: gigabytes of cache, and no binding to cores, since ranks and trainer share them."""

TOKENS_AT_ONCE = 8192
"""Prompt tokens that vLLM computes in one pass on a GPU; they determine its memory for activations."""

SEQUENCES = 512
"""Maximum completions that vLLM samples at once; they determine its buffers for logits."""


def set_environment() -> None:
    """Set environment variables for an engine in this process, except those that the user has set."""
    for name, value in {"VLLM_LOGGING_LEVEL": "ERROR", **ON_CPU}.items():
        os.environ.setdefault(name, value)


@dataclass(frozen=True, kw_only=True)
class VllmSettings:
    """Settings of a vLLM engine, in this process or as a server.

    Attributes:
        dtype: data type of weights and computation.
        seed: random seed of the engine; requests have their own seeds.
        max_model_len: maximum tokens of a prompt with its completion; None for the checkpoint's limit.
        completions: number of completions that are requested together; None if unknown.
        gpu_memory_utilization: share of the GPU's memory; None for vLLM's default.
        tensor_parallel_size: number of GPUs of the engine.
        enforce_eager: disable CUDA graphs and compilation.
        sleep: enable freeing the memory between two generations.
    """

    dtype: str = "float32"
    seed: int = 0
    max_model_len: int | None = None
    completions: int | None = None
    gpu_memory_utilization: float | None = None
    tensor_parallel_size: int = 1
    enforce_eager: bool = False
    sleep: bool = False

    def arguments(self, *, on_cpu: bool, largest_image: int = 0) -> dict[str, Any]:
        """The arguments of `vllm.LLM`, which the server also takes.

        Args:
            on_cpu: whether this vLLM computes on a CPU.
            largest_image: tokens of the largest image, used if `max_model_len` is None.
        """
        arguments: dict[str, Any] = {
            "dtype": self.dtype,
            "seed": self.seed,
            "limit_mm_per_prompt": dict(MEDIA_PER_PROMPT),
            "logprobs_mode": "processed_logprobs",
            "mm_processor_cache_gb": 0,  # every puzzle is requested once
        }
        if self.max_model_len is not None:
            arguments["max_model_len"] = self.max_model_len
        if self.completions is not None:
            arguments["max_num_seqs"] = min(self.completions, SEQUENCES)
        if on_cpu:
            # A chunked prefill rewinds the generator of a seeded request, which CPU generators cannot do.
            arguments |= {"enforce_eager": True, "enable_chunked_prefill": False}
            if self.max_model_len is not None:
                arguments["max_num_batched_tokens"] = max(self.max_model_len, 2 * TOKENS_AT_ONCE)
            return arguments
        arguments |= {
            "enforce_eager": self.enforce_eager,
            "enable_chunked_prefill": True,
            "enable_sleep_mode": self.sleep,
            # An image of a model with image spans must fit into one pass.
            "max_num_batched_tokens": max(TOKENS_AT_ONCE, self.max_model_len or largest_image),
            "tensor_parallel_size": self.tensor_parallel_size,
        }
        if self.gpu_memory_utilization is not None:
            arguments["gpu_memory_utilization"] = self.gpu_memory_utilization
        return arguments


def largest_image(processor: Any) -> int:
    """Tokens of the largest image that a processor makes."""
    return family_of_processor(processor).largest_image(processor)


def vllm_request(processor: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as a vLLM request: the prompt's tokens with one placeholder per medium, which vLLM expands, and the media.

    Clips are passed as the frames that the task chose, with their frame rate; vLLM does not sample them again.

    Raises:
        JigsawError: the numbers of placeholders and media differ.
    """
    row = expand_media(processor, row)
    images, clips = media_of(row, "image"), media_of(row, "video")
    media: dict[str, Any] = {"image": images} if images else {}
    if clips:
        media["video"] = [(clip.frames, video_metadata(clip) | {"do_sample_frames": False}) for clip in clips]
    tokens = processor.tokenizer(prompt_text(processor, row), add_special_tokens=False)["input_ids"]
    request: dict[str, Any] = {"prompt_token_ids": tokens}
    return {**request, "multi_modal_data": media} if media else request


def check_prompt(row: Mapping[str, Any], expected: Sequence[int], actual: Sequence[int]) -> None:
    """Raise JigsawError if vLLM's prompt tokens differ from the trainer's."""
    if list(expected) != list(actual):
        raise JigsawError(
            f"row {row.get('id')}: vLLM read a prompt of {len(actual)} tokens that is not the trainer's of "
            f"{len(expected)}; the two processors differ, and training on it would be wrong"
        )


def check_room(row: Mapping[str, Any], prompt: int, completion: int, room: int) -> None:
    """Raise JigsawError if a prompt and a completion of maximum length do not fit: vLLM would truncate the latter."""
    if prompt + completion > room:
        raise JigsawError(
            f"row {row.get('id')}: its prompt of {prompt} tokens and a completion of {completion} do not fit in "
            f"rollout.max_model_len={room}; set it to {prompt + completion} or more"
        )


def check_completion(row: Mapping[str, Any], tokens: Sequence[int], forbidden: Collection[int]) -> None:
    """Raise JigsawError if vLLM sampled a token that represents a medium."""
    if any(token in forbidden for token in tokens):
        raise JigsawError(f"row {row.get('id')}: vLLM sampled a vision token, which is forbidden in completions")
