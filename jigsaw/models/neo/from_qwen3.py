"""Initialises a NEO from a Qwen3 language model, as in the paper (section 3.3).

In: a Qwen3 checkpoint. Out: a NEO checkpoint with its tokenizer and processor. Language layer i becomes layer i + k,
after k new pre-Buffer layers. A copied layer computes the same as before: its new keys k_proj_hw are zero, so rows and
columns add nothing to any score. Pre-training learns the pre-Buffer, the patch embedding and the new keys; they can
also be copied from a trained NEO of the same width (the paper's reusable pre-Buffer).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jigsaw.errors import JigsawError
from jigsaw.models.neo.configuration import ARCHITECTURE, NEOChatConfig, NEOVisionConfig
from jigsaw.models.neo.groups import LAYER, NEW_IN_LAYER
from jigsaw.models.neo.model import NEOChatModel
from jigsaw.models.neo.processing import SPECIAL_TOKENS, NEOImageProcessor, NEOProcessor


def start_from_qwen3(
    qwen3: str,
    out: Path,
    *,
    pre_buffer: int = 12,
    pre_buffer_from: str | None = None,
    seed: int = 0,
    rope_variant: str = "native",
    image_attention: str = "mixed",
) -> dict[str, Any]:
    """Write a NEO checkpoint that is initialised from Qwen3.

    Args:
        qwen3: a Qwen3 checkpoint folder or hub id.
        out: folder to write, in the official layout.
        pre_buffer: number of pre-Buffer layers; 12 for the 2B model, 6 for the 9B model, 0 for none.
        pre_buffer_from: a trained NEO whose pre-Buffer, patch embedding and hw projections are copied. Its language
            model must have the same number of layers as `qwen3`.
        seed: random seed of the new weights.
        rope_variant, image_attention: fields of `NEOTextConfig`; other values than the defaults are ablations.

    Returns:
        `out`, `layers`, `pre_buffer` and `parameters`.

    Raises:
        JigsawError: `qwen3` is not a Qwen3, or the shapes of `pre_buffer_from` do not match.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from jigsaw.models.load import require_checkpoint

    require_checkpoint(qwen3)
    language = AutoModelForCausalLM.from_pretrained(qwen3, dtype="auto", trust_remote_code=False)
    if language.config.model_type != "qwen3":
        raise JigsawError(f"{qwen3}: a Qwen3 checkpoint is needed, this is {language.config.model_type}")
    tokenizer = AutoTokenizer.from_pretrained(qwen3, trust_remote_code=False)
    tokenizer.add_special_tokens({"extra_special_tokens": list(SPECIAL_TOKENS)}, replace_extra_special_tokens=False)
    if len(tokenizer) > language.config.vocab_size:
        raise JigsawError(
            f"{qwen3}: its {language.config.vocab_size} embeddings leave no room for {', '.join(SPECIAL_TOKENS)}"
        )
    variants = {"rope_variant": rope_variant, "image_attention": image_attention}
    config = _configuration(language.config, tokenizer, pre_buffer, variants)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = NEOChatModel(config).to(language.dtype)
    state = model.state_dict()
    _start_at_random(state, pre_buffer)
    _copy_language_model(state, language.state_dict(), pre_buffer, config.llm_config)
    if pre_buffer_from is not None:
        _take_from(state, pre_buffer_from, pre_buffer)
    model.load_state_dict(state)
    model.generation_config = language.generation_config
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.save_pretrained(out)
    vision: NEOVisionConfig = config.vision_config
    limits = {"shortest_edge": vision.min_pixels, "longest_edge": vision.max_pixels}
    NEOProcessor(NEOImageProcessor(size=limits), tokenizer).save_pretrained(out)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    layers = config.llm_config.num_hidden_layers
    return {"out": str(out), "layers": layers, "pre_buffer": pre_buffer, "parameters": parameters}


def _configuration(language: Any, tokenizer: Any, pre_buffer: int, variants: dict[str, str]) -> NEOChatConfig:
    """The language model's configuration with more layers and an untied head, as in official checkpoints."""
    fields = language.to_dict()
    for name in ("layer_types", "architectures", "model_type", "transformers_version", "dtype", "torch_dtype"):
        fields.pop(name, None)
    fields |= {
        "num_hidden_layers": language.num_hidden_layers + pre_buffer,
        "tie_word_embeddings": False,
        "architectures": ["Qwen3ForCausalLM"],
        **variants,
    }
    context, start, end = map(tokenizer.convert_tokens_to_ids, SPECIAL_TOKENS)
    return NEOChatConfig(
        llm_config=fields,
        vision_config={"llm_hidden_size": language.hidden_size},
        image_token_id=context,
        image_start_token_id=start,
        image_end_token_id=end,
        architectures=[ARCHITECTURE],
    )


def _start_at_random(state: dict[str, Tensor], pre_buffer: int) -> None:
    """Initialise the weights of pre-Buffer layers with N(0, 0.02); their norms stay 1."""
    for name, tensor in state.items():
        layer = LAYER.match(name)
        if layer and int(layer[1]) < pre_buffer and tensor.ndim == 2:
            torch.nn.init.normal_(tensor, std=0.02)


def _copy_language_model(state: dict[str, Tensor], language: dict[str, Tensor], pre_buffer: int, config: Any) -> None:
    for name, tensor in language.items():
        key = f"language_model.{name}"
        if layer := LAYER.match(key):
            key = key.replace(f".layers.{layer[1]}.", f".layers.{int(layer[1]) + pre_buffer}.", 1)
        state[key].copy_(tensor)
    if "lm_head.weight" not in language:
        state["language_model.lm_head.weight"].copy_(language["model.embed_tokens.weight"])
    quarter = config.head_dim // 4
    for index in range(pre_buffer, config.num_hidden_layers):
        attention = f"language_model.model.layers.{index}.self_attn"
        own = state[f"{attention}.q_proj.weight"].unflatten(0, (-1, 4, quarter))
        # Per head the first and third quarter of q_proj, for the row and for the column: the fastest and the slowest
        # rotations, in the pairs of the narrower rotary embedding.
        state[f"{attention}.q_proj_hw.weight"].copy_(own[:, [0, 2, 0, 2]].flatten(0, 2))
        state[f"{attention}.k_proj_hw.weight"].zero_()


def _take_from(state: dict[str, Tensor], source: str, pre_buffer: int) -> None:
    """Copy the pre-Buffer, patch embedding and hw projections of a trained NEO."""
    from jigsaw.models.load import load_model

    trained = load_model(source).state_dict()
    for name, tensor in state.items():
        layer = LAYER.match(name)
        if name.startswith("vision_model.") or NEW_IN_LAYER.search(name) or (layer and int(layer[1]) < pre_buffer):
            if name not in trained:
                raise JigsawError(f"{source}: has no {name}; its language model has fewer layers")
            if trained[name].shape != tensor.shape:
                shapes = f"{tuple(trained[name].shape)}, {tuple(tensor.shape)} is needed"
                raise JigsawError(f"{source}: {name} has the shape {shapes}; its language model has another size")
            tensor.copy_(trained[name])
