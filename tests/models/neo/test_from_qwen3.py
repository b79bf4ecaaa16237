"""Creating a NEO from a Qwen3: copied layers compute the same values, and other models are refused."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from jigsaw.errors import JigsawError
from jigsaw.models.load import load_model, load_processor
from jigsaw.models.neo.from_qwen3 import start_from_qwen3

LAYERS = 2


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def qwen3(request, tmp_path_factory):
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from jigsaw.models.tiny import build_tokenizer

    folder = tmp_path_factory.mktemp("qwen3")
    tokenizer = build_tokenizer(["Put the tiles back in order."], 320)
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=384,
            hidden_size=48,
            intermediate_size=64,
            num_hidden_layers=LAYERS,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            initializer_range=0.3,
            tie_word_embeddings=request.param,
        )
    )
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def logits(model, ids):
    with torch.no_grad():
        return model(input_ids=ids).logits


def test_without_a_pre_buffer_the_logits_of_text_equal_those_of_the_language_model(qwen3, tmp_path):
    from transformers import AutoModelForCausalLM

    start_from_qwen3(str(qwen3), tmp_path / "neo", pre_buffer=0)
    ids = torch.randint(0, 300, (3, 17), generator=torch.Generator().manual_seed(1))
    language_model = AutoModelForCausalLM.from_pretrained(qwen3).eval()
    torch.testing.assert_close(
        logits(load_model(str(tmp_path / "neo")), ids), logits(language_model, ids), atol=1e-5, rtol=1e-5
    )


def test_copied_layers_after_a_pre_buffer_compute_the_same_values(qwen3, tmp_path):
    """All copied layers together get the same hidden states at text indices."""
    from transformers import AutoModelForCausalLM

    summary = start_from_qwen3(str(qwen3), tmp_path / "neo", pre_buffer=3)
    assert summary["layers"] == LAYERS + 3
    neo = load_model(str(tmp_path / "neo")).language_model
    language_model = AutoModelForCausalLM.from_pretrained(qwen3).eval()
    hidden = torch.randn(2, 9, 48, generator=torch.Generator().manual_seed(2))
    places = torch.arange(9).expand(2, -1)
    neo.model.layers = neo.model.layers[3:]
    for index, layer in enumerate(neo.model.layers):
        layer.self_attn.layer_idx = index
    with torch.no_grad():
        neo_output = neo.model(
            inputs_embeds=hidden, position_ids=torch.stack([places, 0 * places, 0 * places]), use_cache=False
        ).last_hidden_state
        qwen3_output = language_model.model(inputs_embeds=hidden, use_cache=False).last_hidden_state
        torch.testing.assert_close(neo_output, qwen3_output, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(neo.lm_head(neo_output), language_model.lm_head(qwen3_output), atol=1e-5, rtol=1e-5)


def test_new_parts_are_initialised_as_in_the_paper(qwen3, tmp_path):
    start_from_qwen3(str(qwen3), tmp_path / "neo", pre_buffer=1)
    state = load_model(str(tmp_path / "neo")).state_dict()
    attention = "language_model.model.layers.{}.self_attn.{}.weight"
    assert 0.015 < state[attention.format(0, "k_proj_hw")].std() < 0.025
    assert not state[attention.format(1, "k_proj_hw")].any()
    for name in ("q_norm_h", "q_norm_w", "k_norm_h", "k_norm_w"):
        assert (state[attention.format(1, name)] == 1).all()
    own = state[attention.format(1, "q_proj")].view(4, 4, 4, 48)
    copied = state[attention.format(1, "q_proj_hw")].view(4, 4, 4, 48)
    for quarter, origin in enumerate([0, 2, 0, 2]):
        assert torch.equal(copied[:, quarter], own[:, origin])


def test_the_processor_supports_images(qwen3, tmp_path):
    start_from_qwen3(str(qwen3), tmp_path / "neo", pre_buffer=1)
    processor = load_processor(str(tmp_path / "neo"))
    config = load_model(str(tmp_path / "neo")).config
    assert processor.image_token_id == config.image_token_id
    assert processor.image_processor.size["shortest_edge"] == 65536


def test_a_trained_pre_buffer_is_copied_to_another_language_model(qwen3, tmp_path):
    start_from_qwen3(str(qwen3), tmp_path / "trained", pre_buffer=2, seed=5)
    summary = start_from_qwen3(
        str(qwen3), tmp_path / "neo", pre_buffer=2, pre_buffer_from=str(tmp_path / "trained"), seed=6
    )
    first, second = (load_model(str(tmp_path / name)).state_dict() for name in ("trained", "neo"))
    for key in first:
        assert torch.equal(first[key], second[key]), key
    with pytest.raises(JigsawError, match="its language model"):
        start_from_qwen3(str(qwen3), tmp_path / "x", pre_buffer=3, pre_buffer_from=str(tmp_path / "trained"))
    assert summary["pre_buffer"] == 2


def test_options_for_ablations_are_saved_in_the_configuration(qwen3, tmp_path):
    from jigsaw.cli.neo import app

    options = ["--pre-buffer", "3", "--rope", "1d", "--image-attention", "causal"]
    done = CliRunner().invoke(app, ["from-qwen3", str(qwen3), str(tmp_path / "neo"), *options])
    assert done.exit_code == 0, done.output
    text = load_model(str(tmp_path / "neo")).config.llm_config
    assert (text.rope_variant, text.image_attention, text.num_hidden_layers) == ("1d", "causal", LAYERS + 3)


def test_a_model_of_another_architecture_is_refused(tmp_path):
    from transformers import Qwen2Config, Qwen2ForCausalLM

    Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=32,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
        )
    ).save_pretrained(tmp_path / "qwen2")
    with pytest.raises(JigsawError, match="a Qwen3 checkpoint is needed, this is qwen2"):
        start_from_qwen3(str(tmp_path / "qwen2"), tmp_path / "neo")


def test_the_command_prints_its_result_as_json(qwen3, tmp_path):
    from jigsaw.cli.neo import app

    done = CliRunner().invoke(app, ["from-qwen3", str(qwen3), str(tmp_path / "neo"), "--pre-buffer", "1", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["layers"] == LAYERS + 1
