"""Official NEO checkpoints: keys, shapes, loading and saving, refused ones, and the groups of parameters."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForImageTextToText

from jigsaw.models.neo import NEOChatConfig, NEOChatModel
from jigsaw.models.neo.groups import groups_of
from jigsaw.models.neo.registration import open_anywhere

DATA = Path(__file__).parent / "data"


@pytest.fixture
def copy(tmp_path):
    for name in ("config.json", "model.safetensors"):
        shutil.copy(DATA / name, tmp_path / name)
    return tmp_path


def edit(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    config.update(changes)
    (folder / "config.json").write_text(json.dumps(config))


def official_shapes(h, inner, vocabulary, vision, heads, key_heads, width, layers):
    """Returns the official keys and shapes, written by hand from the authors' checkpoints."""
    shapes = {
        "vision_model.embeddings.patch_embedding.weight": (vision, 3, 16, 16),
        "vision_model.embeddings.patch_embedding.bias": (vision,),
        "vision_model.embeddings.dense_embedding.weight": (h, vision, 2, 2),
        "vision_model.embeddings.dense_embedding.bias": (h,),
        "language_model.model.embed_tokens.weight": (vocabulary, h),
        "language_model.lm_head.weight": (vocabulary, h),
        "language_model.model.norm.weight": (h,),
    }
    for layer in range(layers):
        inside = {
            "self_attn.q_proj.weight": (heads * width, h),
            "self_attn.q_proj_hw.weight": (heads * width, h),
            "self_attn.k_proj.weight": (key_heads * width, h),
            "self_attn.k_proj_hw.weight": (key_heads * width, h),
            "self_attn.v_proj.weight": (key_heads * width, h),
            "self_attn.o_proj.weight": (h, heads * width),
            "self_attn.q_norm.weight": (width,),
            "self_attn.k_norm.weight": (width,),
            "self_attn.q_norm_h.weight": (width // 2,),
            "self_attn.q_norm_w.weight": (width // 2,),
            "self_attn.k_norm_h.weight": (width // 2,),
            "self_attn.k_norm_w.weight": (width // 2,),
            "mlp.gate_proj.weight": (inner, h),
            "mlp.up_proj.weight": (inner, h),
            "mlp.down_proj.weight": (h, inner),
            "input_layernorm.weight": (h,),
            "post_attention_layernorm.weight": (h,),
        }
        shapes |= {f"language_model.model.layers.{layer}.{name}": shape for name, shape in inside.items()}
    return shapes


def test_the_2b_model_has_the_official_keys_and_shapes():
    with torch.device("meta"):
        model = NEOChatModel(NEOChatConfig())
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes == official_shapes(2048, 6144, 151936, 1024, 16, 8, 128, 40)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert 2.1e9 < parameters < 2.9e9


def test_the_reference_model_has_the_official_keys_and_shapes():
    with safe_open(DATA / "model.safetensors", "pt") as opened:
        shapes = {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118
    assert shapes == official_shapes(64, 96, 64, 32, 4, 2, 32, 3)


def test_the_weights_of_a_checkpoint_are_saved_unchanged(open_reference_model, tmp_path):
    open_reference_model().save_pretrained(tmp_path)
    before, after = load_file(DATA / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_the_configuration_of_a_checkpoint_is_saved_unchanged(open_reference_model, tmp_path):
    open_reference_model().save_pretrained(tmp_path)
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (DATA, tmp_path))
    assert after["model_type"] == "neo_chat"
    assert after["architectures"] == ["NEOChatModel"]
    for name in ("vocab_size", "hidden_size", "head_dim", "rope_theta", "rope_theta_hw", "num_hidden_layers"):
        assert after["llm_config"][name] == before["llm_config"][name]
    assert after["vision_config"]["llm_hidden_size"] == before["vision_config"]["llm_hidden_size"][0]
    again = AutoConfig.from_pretrained(tmp_path)
    assert again.llm_config.rope_parameters["rope_theta"] == before["llm_config"]["rope_theta"]
    assert again.vision_config.merge_size == 2


def test_the_official_token_ids_are_the_defaults():
    config = AutoConfig.from_pretrained(DATA)
    assert (config.image_token_id, config.image_start_token_id, config.image_end_token_id) == (151669, 151670, 151671)


@pytest.mark.parametrize("label", ["neo_something", "qwen3", "internvl_chat"])
def test_a_checkpoint_with_another_model_type_opens_by_its_architecture(copy, label):
    edit(copy, model_type=label)
    open_anywhere()
    config = AutoConfig.from_pretrained(copy)
    assert isinstance(config, NEOChatConfig)
    model, report = AutoModelForImageTextToText.from_pretrained(copy, output_loading_info=True)
    assert isinstance(model, NEOChatModel)
    assert not report["missing_keys"] and not report["unexpected_keys"]


def test_a_neo_unify_checkpoint_is_refused_by_its_keys(copy):
    weights = load_file(copy / "model.safetensors")
    for key in [key for key in weights if "q_proj_hw" in key]:
        weights[key.replace("q_proj_hw", "q_norm_hw")] = weights.pop(key)[:, 0].contiguous()
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="NEO-unify checkpoint"):
        AutoModelForImageTextToText.from_pretrained(copy)


def test_inconsistent_sections_of_a_configuration_are_refused(copy):
    config = json.loads((copy / "config.json").read_text())
    edit(copy, vision_config=config["vision_config"] | {"llm_hidden_size": [32]})
    with pytest.raises(ValueError, match="llm_hidden_size 32 is not llm_config"):
        AutoConfig.from_pretrained(copy)


# Groups of parameters

LAYERS = "language_model.model.layers"


@pytest.mark.parametrize(
    "name, groups",
    [
        ("vision_model.embeddings.dense_embedding.bias", {"patch-embedding"}),
        (f"{LAYERS}.0.mlp.up_proj.weight", {"pre-buffer"}),
        (f"{LAYERS}.0.self_attn.k_norm_w.weight", {"pre-buffer", "hw-projections"}),
        (f"{LAYERS}.1.self_attn.q_proj_hw.weight", {"hw-projections"}),
        (f"{LAYERS}.1.self_attn.q_norm.weight", {"post-llm"}),
        ("language_model.model.embed_tokens.weight", {"post-llm"}),
        ("language_model.lm_head.weight", {"post-llm"}),
    ],
)
def test_the_groups_of_a_parameter(name, groups):
    assert groups_of(name, pre_buffer=1) == groups
