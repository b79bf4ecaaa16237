"""Model families: what is supported equals the model's own forward pass; everything else is refused by name."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from made_rows import ROWS, completions
from plain_way import compare

from jigsaw.engines import Sampling
from jigsaw.engines.transformers import TransformersEngine
from jigsaw.engines.vllm_requests import vllm_request
from jigsaw.errors import JigsawError
from jigsaw.models.families import MODEL_TYPES, family_named, family_of, family_of_processor, require_supported
from jigsaw.models.families.base import IMAGE
from jigsaw.models.load import load_model, load_processor, vision_token_ids
from jigsaw.models.prompt_batch import PromptBatch
from jigsaw.models.prompts import processor_inputs, prompt_text
from jigsaw.models.shared_prefix import log_probabilities
from jigsaw.models.tiny import TinySizes

TEXT = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT |= {"num_key_value_heads": 1, "initializer_range": 0.1}
ROPE = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]}
TOKENS = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
TOKENS |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}


def qwen2_vl(tokenizer, tokens):
    from transformers import (
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    text = TEXT | {"vocab_size": len(tokenizer), "rope_parameters": ROPE}
    vision = {"depth": 1, "embed_dim": 64, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2}
    size = {"shortest_edge": 28 * 28, "longest_edge": 1280 * 28 * 28}
    model = Qwen2VLForConditionalGeneration(Qwen2VLConfig(text_config=text, vision_config=vision, **tokens))
    images, videos = Qwen2VLImageProcessor(size=dict(size)), Qwen2VLVideoProcessor(size=dict(size))
    return model, Qwen2VLProcessor(images, tokenizer, videos, chat_template=tokenizer.chat_template)


SIZES = TinySizes(hidden_size=64, num_layers=3, vision_hidden_size=64, vision_layers=3, initializer_range=0.1)
"""Of Qwen3-VL: vision features enter three layers of the language model, as in the released checkpoints."""


@pytest.fixture(params=["qwen2_vl", "qwen3_vl", "qwen3_vl_moe"])
def other_qwen(request, checkpoint):
    """A tiny model of another supported family, from random weights, with its processor."""
    tokenizer = load_processor(checkpoint).tokenizer
    tokens = {name: tokenizer.convert_tokens_to_ids(token) for name, token in TOKENS.items()}
    torch.manual_seed(0)
    if request.param == "qwen2_vl":
        model, processor = qwen2_vl(tokenizer, tokens)
    else:
        model, processor = family_named(request.param).tiny(SIZES, tokenizer)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    assert family_of(model).model_type == model.config.model_type == request.param
    assert request.param.startswith(family_of_processor(processor).model_type)
    return model.eval(), processor


def test_other_qwens_equal_their_own_forward_pass(other_qwen, rows):
    """Log-probabilities, entropies and gradients, with images, with videos and with both."""
    compare(*other_qwen, rows, 3)


def test_block_masks_of_other_qwens_equal_their_own_forward_pass(other_qwen):
    model, processor = other_qwen
    compare(model.requires_grad_(False), processor, ROWS["mixed"], 3, blocks=True)


def test_other_qwens_sample_what_transformers_samples(other_qwen):
    """The likeliest token through the repeated cache against greedy `generate`, each prompt by itself."""
    model, processor = other_qwen
    rows, forbidden, end = ROWS["mixed"], vision_token_ids(processor), processor.tokenizer.eos_token_id
    settings = Sampling(count=2, max_tokens=8, top_k=1, seeds=(0, 1, 2), forbidden_tokens=tuple(forbidden))
    sampled = TransformersEngine(model, processor).generate(rows, replace(settings, end_tokens=(end,))).tokens
    for number, row in enumerate(rows):
        inputs = processor_inputs(processor, [row])
        options = {"max_new_tokens": 8, "do_sample": False, "suppress_tokens": forbidden, "eos_token_id": end}
        expected = model.generate(**inputs, **options)[0, inputs["input_ids"].shape[1] :].tolist()
        assert sampled[2 * number : 2 * number + 2] == [expected, expected]


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "neo"])
def test_blank_media_change_no_log_probability(checkpoint, neo_checkpoint, monkeypatch, kind):
    """Given another process with a kind of medium that this one lacks, then its blank is computed and seen by none."""
    path = checkpoint if kind == "qwen2_5_vl" else neo_checkpoint
    model, processor = load_model(path), load_processor(path)
    rows, (ids, mask) = ROWS["video"] if kind == "qwen2_5_vl" else ROWS["image"], completions(2)
    batch = PromptBatch.encode(model, processor, rows, "cpu")
    alone, _ = log_probabilities(model, batch, range(2), ids, mask)
    media = family_of(model).media
    monkeypatch.setattr("jigsaw.models.prompt_batch._media_elsewhere", lambda *_: list(media[:1]))
    if kind == "qwen2_5_vl":
        assert batch.in_step(model).media.keys() - batch.media.keys() == {IMAGE.pixels, IMAGE.grid}
    beside, _ = log_probabilities(model, batch, range(2), ids, mask)
    torch.testing.assert_close(beside, alone, atol=1e-5, rtol=0)


def test_linear_attention_is_refused_with_the_reason_and_what_there_is():
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    config = Qwen3_5Config()
    with torch.device("meta"):
        model = Qwen3_5ForConditionalGeneration(config)
    told = r"the architecture qwen3_5 is not supported: its linear-attention layers .*; supported are qwen2_vl, "
    with pytest.raises(JigsawError, match=f"^Qwen3_5ForConditionalGeneration: {told}"):
        family_of(model)


def test_an_unknown_architecture_is_refused_before_its_weights_are_read(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"]}')
    told = f"{tmp_path}: the architecture llava is not supported; supported are {', '.join(MODEL_TYPES)}"
    with pytest.raises(JigsawError) as refused:
        load_model(str(tmp_path))
    assert str(refused.value) == told


def test_an_unknown_processor_is_refused():
    with pytest.raises(JigsawError, match=r"^SimpleNamespace: no processor of a supported architecture \(qwen2_vl, "):
        family_of_processor(SimpleNamespace())


def test_a_neo_is_known_by_its_architecture():
    """Its PT checkpoints carry the model type of another model."""
    assert require_supported({"model_type": "qwen3", "architectures": ["NEOChatModel"]}, "here") == "neo_chat"


def test_what_is_supported_is_known_without_torch():
    code = "import sys; from jigsaw.models.families import require_supported; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def test_a_neo_gets_a_clip_as_frames_everywhere(neo_checkpoint):
    """Given a row with clips, then the trainer's prompt and the one for vLLM have one image per frame."""
    processor, row = load_processor(neo_checkpoint), ROWS["mixed"][0]
    request = vllm_request(processor, row)
    frames = 2 + len(row["videos"][0].frames)
    assert len(request["multi_modal_data"]["image"]) == frames
    assert "video" not in request["multi_modal_data"]
    assert request["prompt_token_ids"].count(processor.image_token_id) == frames
    assert "0.5s: " in prompt_text(processor, row)
    assert len(processor_inputs(processor, [row])["image_grid_thw"]) == frames
