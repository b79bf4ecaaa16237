"""What every vLLM engine of ours is told, that of training and that of evaluation: a model is asked in one way.

In: a row of a puzzle set. Out: the request that vLLM takes, and the settings that both engines share.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from jigsaw.models.prompts import expanded, media_of, prompt_text, video_metadata

MEDIA_PER_PROMPT = {"image": 192, "video": 12}
"""The most media that a puzzle shows: twelve clips, or their frames as images (NEO), 16 of each."""

ON_CPU = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
"""Environment of vLLM's CPU build: gigabytes of cache, and no binding to cores, which ranks and the trainer share."""


def quiet_vllm(on_cpu: bool) -> None:
    """Set the environment for an engine in this process, before vLLM is imported; what the user has set stays."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    if on_cpu:
        for name, value in ON_CPU.items():
            os.environ.setdefault(name, value)


def engine_options(on_cpu: bool) -> dict[str, Any]:
    """Arguments of `vllm.LLM` that both engines give."""
    return {
        "limit_mm_per_prompt": dict(MEDIA_PER_PROMPT),
        # In parts, a prefill rewinds the generator of a seeded request, which CPU generators cannot do.
        "enable_chunked_prefill": not on_cpu,
        "disable_log_stats": True,
    }


def vllm_request(processor: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as vLLM takes it: the prompt's tokens with one placeholder per medium, which vLLM expands, and the media.

    Clips are the frames that the task chose, with their own rate; they are not sampled again.

    Raises:
        JigsawError: placeholders and media do not match in number.
    """
    row = expanded(processor, row)
    images, clips = media_of(row, "image"), media_of(row, "video")
    media: dict[str, Any] = {"image": images} if images else {}
    if clips:
        media["video"] = [(clip.frames, video_metadata(clip) | {"do_sample_frames": False}) for clip in clips]
    tokens = processor.tokenizer(prompt_text(processor, row), add_special_tokens=False)["input_ids"]
    request: dict[str, Any] = {"prompt_token_ids": tokens}
    return {**request, "multi_modal_data": media} if media else request
