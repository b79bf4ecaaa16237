"""Sets and checks vLLM's configuration for NEO.

In: vLLM's configuration objects. Out: the same objects, with image spans (`is_mm_prefix_lm`) and three rows of
positions enabled. A back end that would silently treat images as causal is refused.
"""

from __future__ import annotations

from typing import Any

from jigsaw.models.neo.configuration import VARIANTS

SPAN_BACKENDS = (
    "TRITON_FLASH_ATTN",
    "TRITON_FLASHINFER",
    "TRITON_ATTN",
    "FLEX_ATTENTION",
    "FLASH_ATTN",
    "ROCM_ATTN",
    "ROCM_AITER_UNIFIED_ATTN",
)
"""GPU back ends that support image spans, FlashAttention from version 4 on; vLLM itself checks the version."""


def prepare_model(model_config: Any) -> None:
    """Enable image spans, if the platform supports them, and positions of three rows.

    Before it calls this hook, vLLM (0.31) has derived its own description of the architecture from the Hugging Face
    configuration, and it does not derive it again, so attention, scheduler and runner would not see the spans. It is
    derived again here.

    Args:
        model_config: vLLM's `ModelConfig`.

    Raises:
        ValueError: the model is an ablation.
    """
    from vllm.platforms import current_platform

    config = model_config.hf_config
    for name, (released, *_) in VARIANTS.items():
        if (own := getattr(config.llm_config, name)) != released:
            raise ValueError(
                f"NEO: vLLM only supports {name} {released} and this model has {own}; use engine: transformers"
            )
    config.is_mm_prefix_lm = not current_platform.is_cpu()
    # vLLM uses three rows of positions if this key exists; the numbers are not used.
    config.llm_config.rope_parameters.setdefault("mrope_section", [1, 1, 1])
    model_config.model_arch_config = model_config.get_model_arch_config()
    vars(model_config).pop("is_mm_prefix_lm", None)  # a cached property


def prepare_engine(vllm_config: Any) -> None:
    """Set and check the configuration of the engine.

    Args:
        vllm_config: vLLM's `VllmConfig`.

    Raises:
        ValueError: with a setting, image tokens would not attend to their image.
    """
    from vllm.platforms import current_platform

    prepare_model(vllm_config.model_config)
    parallel, scheduler = vllm_config.parallel_config, vllm_config.scheduler_config
    heads = vllm_config.model_config.hf_config.llm_config.num_key_value_heads
    if heads % parallel.tensor_parallel_size:
        raise ValueError(f"NEO: tensor_parallel_size must divide its {heads} key heads")
    if not current_platform.is_cpu():
        chosen = getattr(vllm_config.attention_config, "backend", None)
        if chosen is not None and chosen.name not in SPAN_BACKENDS:
            raise ValueError(
                f"NEO: the attention back end {chosen.name} would drop the image mask; use one of "
                f"{', '.join(SPAN_BACKENDS)}, or leave the choice to vLLM"
            )
        require_spans(vllm_config.model_config)
        scheduler.disable_chunked_mm_input = True  # vLLM has set it already if it knew of the spans
        return
    # On a CPU, the model computes image tokens over their complete prompt, so prompts cannot be chunked.
    vllm_config.cache_config.enable_prefix_caching = False
    scheduler.enable_chunked_prefill = False
    length = vllm_config.model_config.max_model_len
    if scheduler.max_num_batched_tokens < length:
        raise ValueError(
            f"NEO on a CPU: prompts are not chunked, so max_num_batched_tokens "
            f"({scheduler.max_num_batched_tokens}) must be at least max_model_len ({length}); lower max_model_len"
        )


def require_spans(model_config: Any) -> None:
    """Refuse an engine whose attention would not use image spans, unless it takes no images.

    Args:
        model_config: vLLM's `ModelConfig`.

    Raises:
        ValueError: the attention would not use image spans.
    """
    media = model_config.multimodal_config
    takes_images = media is None or media.get_limit_per_prompt("image") != 0
    if takes_images and not model_config.is_mm_prefix_lm:
        raise ValueError(
            "NEO: this version of vLLM does not pass image spans to its attention, so images would be causal; use "
            "the version in constraints.txt, or the transformers engine"
        )
