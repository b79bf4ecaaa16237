"""The trainable parameters of a recipe: freezing by part and pattern, and adapters, on models without weights."""

from __future__ import annotations

import pytest
import torch

from jigsaw.config.loading import load_recipe, recipe_names
from jigsaw.config.model import LoraSection, ModelSection
from jigsaw.engines.weights import merged_weights, shapes
from jigsaw.errors import JigsawError
from jigsaw.models.families import family_of
from jigsaw.training.trainable import frozen_names, prepare

QWEN_7B = {
    "text_config": {"hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
                    "intermediate_size": 18944, "vocab_size": 152064},
    "vision_config": {"out_hidden_size": 3584},
}  # fmt: skip
QWEN_3B = {
    "text_config": {"hidden_size": 2048, "num_hidden_layers": 36, "num_attention_heads": 16, "num_key_value_heads": 2,
                    "intermediate_size": 11008, "vocab_size": 151936},
    "vision_config": {"out_hidden_size": 2048},
    "tie_word_embeddings": True,
}  # fmt: skip
MIMO_7B = {
    "text_config": {"hidden_size": 4096, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8,
                    "intermediate_size": 11008, "vocab_size": 151680},
    "vision_config": {"out_hidden_size": 4096},
}  # fmt: skip
VISION = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "patch_size": 14,
          "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112,
          "fullatt_block_indexes": [7, 15, 23, 31]}  # fmt: skip
QWEN3_2B = {
    "text_config": {"hidden_size": 2048, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8,
                    "head_dim": 128, "intermediate_size": 6144, "vocab_size": 151936},
    "vision_config": {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16, "patch_size": 16,
                      "out_hidden_size": 2048, "deepstack_visual_indexes": [5, 11, 17]},
    "tie_word_embeddings": True,
}  # fmt: skip
QWEN3_4B = {
    "text_config": {"hidden_size": 2560, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8,
                    "head_dim": 128, "intermediate_size": 9728, "vocab_size": 151936},
    "vision_config": QWEN3_2B["vision_config"] | {"out_hidden_size": 2560},
    "tie_word_embeddings": True,
}  # fmt: skip
QWEN3_8B = {
    "text_config": {"hidden_size": 4096, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8,
                    "head_dim": 128, "intermediate_size": 12288, "vocab_size": 151936},
    "vision_config": {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "patch_size": 16,
                      "out_hidden_size": 4096, "deepstack_visual_indexes": [8, 16, 24]},
}  # fmt: skip
SIZES = {
    "Qwen/Qwen3-VL-2B-Instruct": QWEN3_2B,
    "Qwen/Qwen3-VL-4B-Instruct": QWEN3_4B,
    "Qwen/Qwen3-VL-8B-Instruct": QWEN3_8B,
    "Qwen/Qwen2.5-VL-7B-Instruct": QWEN_7B,
    "russwang/ThinkLite-VL-7B": QWEN_7B,
    "Qwen/Qwen2.5-VL-3B-Instruct": QWEN_3B,
    "XiaomiMiMo/MiMo-VL-7B-SFT-2508": MIMO_7B,
}
"""The sizes of the models that the recipes name, from their configurations on the hub."""


def on_meta(name: str):
    """Returns a model of the published sizes without weights, on torch's meta device."""
    from transformers import AutoModelForImageTextToText, Qwen2_5_VLConfig, Qwen3VLConfig

    sizes = SIZES[name]
    if "Qwen3-VL" in name:
        config = Qwen3VLConfig(**sizes)
    else:
        config = Qwen2_5_VLConfig(**{**sizes, "vision_config": VISION | sizes["vision_config"]})
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config)


@pytest.fixture(scope="module")
def meta_models():
    return {name: on_meta(name) for name in SIZES}


def test_the_models_without_weights_have_the_published_sizes(meta_models):
    counts = {name: sum(parameter.numel() for parameter in model.parameters()) for name, model in meta_models.items()}
    assert counts["Qwen/Qwen2.5-VL-7B-Instruct"] == 8_292_166_656
    assert counts["Qwen/Qwen2.5-VL-3B-Instruct"] == 3_754_622_976
    assert counts["XiaomiMiMo/MiMo-VL-7B-SFT-2508"] == pytest.approx(8.3e9, rel=0.01)


GPU_RECIPES = [name for name in recipe_names() if "neo" not in name and load_recipe(name).model.path is not None]


@pytest.mark.parametrize("name", GPU_RECIPES)
def test_every_entry_of_freeze_of_a_recipe_matches_its_model(name, meta_models):
    """Some parameters remain trainable, and adapters have layers to be attached to."""
    section = load_recipe(name).model
    model = meta_models[section.path]
    names = [parameter for parameter, _ in model.named_parameters()]
    frozen = frozen_names(family_of(model), names, section.freeze)
    assert len(frozen) < len(names)
    if section.lora is not None:
        adapted = [one for one in names if one not in frozen and one.endswith("proj.weight")]
        assert adapted


@pytest.mark.parametrize("name", SIZES)
def test_the_parts_cover_a_model_without_overlap(name, meta_models):
    family = family_of(meta_models[name])
    names = [parameter for parameter, _ in meta_models[name].named_parameters()]
    parts = [frozen_names(family, names, [part]) for part in family.parts]
    assert sorted(one for part in parts for one in part) == sorted(names)


def test_a_pattern_that_matches_nothing_is_refused_with_the_parts(model):
    with pytest.raises(JigsawError, match=r"model\.freeze: 'visoin_tower' matches no parameter .* vision_tower"):
        frozen_names(family_of(model), [name for name, _ in model.named_parameters()], ["visoin_tower"])


def test_frozen_parts_get_no_gradient_and_are_not_counted_as_trained(model):
    section = ModelSection(path="unused", freeze=("vision_tower", "*.layers.0.*"))
    model, trainable = prepare(model, section, sharded=False)
    for name, parameter in model.named_parameters():
        tower = ".visual." in name and ".merger." not in name
        assert parameter.requires_grad != (tower or ".layers.0." in name), name
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert (trainable.trained, trainable.total) == (trained, sum(p.numel() for p in model.parameters()))
    assert str(trainable).startswith(f"{trained:,} of {trainable.total:,} parameters are trained (")


def test_a_recipe_that_freezes_every_parameter_is_refused(model):
    section = ModelSection(path="unused", freeze=("vision_tower", "projector", "language_model"))
    with pytest.raises(JigsawError, match="every parameter is frozen"):
        prepare(model, section, sharded=False)


def test_adapters_are_attached_to_linear_layers_that_are_not_frozen_and_train_in_float32(checkpoint):
    from jigsaw.models.load import load_model

    section = ModelSection(
        path="unused", dtype="bfloat16", freeze=("vision_tower", "projector"), lora=LoraSection(rank=4, alpha=8)
    )
    model, trainable = prepare(load_model(checkpoint, "bfloat16"), section, sharded=False)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained and all("lora_" in name and "visual" not in name for name in trained)
    assert {parameter.dtype for parameter in trained.values()} == {torch.float32}
    assert trainable.trained == sum(parameter.numel() for parameter in trained.values())


def test_merged_weights_have_the_names_of_the_checkpoint_and_the_model_is_not_changed(model):
    names = [name for name, _ in model.named_parameters()]
    model, _ = prepare(model, ModelSection(path="unused", lora=LoraSection(rank=4)), sharded=False)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    weights = dict(merged_weights(model))
    assert list(weights) == names == [name for name, _ in shapes(model)]
    assert all(list(weights[name].shape) == shape for name, shape in shapes(model))
    assert all(parameter.equal(before[name]) for name, parameter in model.named_parameters())
    merged = dict(model.merge_and_unload().named_parameters())
    assert all(torch.allclose(weights[name], merged[name], atol=1e-6) for name in names)
    assert any(not weights[name].equal(before.get(f"base_model.model.{name}", weights[name] + 1)) for name in names)
