"""Model families: unsupported ones are refused by name. The contract of families tests that families are correct."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from synthetic_rows import ROWS, completions

from jigsaw.engines.vllm_requests import vllm_request
from jigsaw.errors import JigsawError
from jigsaw.models.families import MODEL_TYPES, family_of, family_of_processor, require_supported
from jigsaw.models.families.base import IMAGE
from jigsaw.models.load import load_model, load_processor
from jigsaw.models.prompt_batch import PromptBatch
from jigsaw.models.prompts import processor_inputs, prompt_text
from jigsaw.models.shared_prefix import log_probabilities


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "neo"])
def test_blank_media_change_no_log_probability(checkpoint, neo_checkpoint, monkeypatch, kind):
    """Given another process with a kind of medium that this one lacks, no token attends to the blank medium."""
    path = checkpoint if kind == "qwen2_5_vl" else neo_checkpoint
    model, processor = load_model(path), load_processor(path)
    rows, (ids, mask) = ROWS["video"] if kind == "qwen2_5_vl" else ROWS["image"], completions(2)
    batch = PromptBatch.encode(model, processor, rows, "cpu")
    expected, _ = log_probabilities(model, batch, range(2), ids, mask)
    media = family_of(model).media
    monkeypatch.setattr("jigsaw.models.prompt_batch._media_elsewhere", lambda *_: list(media[:1]))
    if kind == "qwen2_5_vl":
        assert batch.with_blank_media(model).media.keys() - batch.media.keys() == {IMAGE.pixels, IMAGE.grid}
    with_blank, _ = log_probabilities(model, batch, range(2), ids, mask)
    torch.testing.assert_close(with_blank, expected, atol=1e-5, rtol=0)


def test_linear_attention_is_refused_with_the_reason_and_the_supported_families():
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    config = Qwen3_5Config()
    with torch.device("meta"):
        model = Qwen3_5ForConditionalGeneration(config)
    message = r"the architecture qwen3_5 is not supported: its linear-attention layers .*; supported are qwen2_vl, "
    with pytest.raises(JigsawError, match=f"^Qwen3_5ForConditionalGeneration: {message}"):
        family_of(model)


def test_an_unknown_architecture_is_refused_before_its_weights_are_read(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"]}')
    message = f"{tmp_path}: the architecture llava is not supported; supported are {', '.join(MODEL_TYPES)}"
    with pytest.raises(JigsawError) as refused:
        load_model(str(tmp_path))
    assert str(refused.value) == message


def test_an_unknown_processor_is_refused():
    with pytest.raises(
        JigsawError, match=r"^SimpleNamespace: not the processor of a supported architecture \(qwen2_vl, "
    ):
        family_of_processor(SimpleNamespace())


def test_a_neo_is_recognised_by_its_architecture():
    """The checkpoints after pre-training have the model type of another model."""
    assert require_supported({"model_type": "qwen3", "architectures": ["NEOChatModel"]}, "here") == "neo_chat"


def test_the_supported_families_are_known_without_importing_torch():
    code = "import sys; from jigsaw.models.families import require_supported; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def test_neo_gets_a_clip_as_frames_in_training_and_in_vllm(neo_checkpoint):
    """Given a row with clips, the prompts for the trainer and for vLLM have one image per frame."""
    processor, row = load_processor(neo_checkpoint), ROWS["mixed"][0]
    request = vllm_request(processor, row)
    frames = 2 + len(row["videos"][0].frames)
    assert len(request["multi_modal_data"]["image"]) == frames
    assert "video" not in request["multi_modal_data"]
    assert request["prompt_token_ids"].count(processor.image_token_id) == frames
    assert "0.5s: " in prompt_text(processor, row)
    assert len(processor_inputs(processor, [row])["image_grid_thw"]) == frames
