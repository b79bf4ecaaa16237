"""Videos in the CPU build of vLLM: frames and positions are the trainer's, with and without images."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from synthetic_rows import ROWS, synthetic_clip, synthetic_row

from jigsaw.config.schema import RolloutSection
from jigsaw.engines import Sampling
from jigsaw.engines.vllm import colocated_engine
from jigsaw.engines.weights import Policy
from jigsaw.models.load import load_model, load_processor, vision_token_ids
from jigsaw.models.prompt_batch import PromptBatch
from jigsaw.models.shared_prefix import log_probabilities


def test_log_probabilities_of_videos_equal_the_trainers_and_depend_on_the_pixels(make_checkpoint):
    """The clips have odd lengths, integer and fractional frame rates, and one has more frames than rows and columns."""
    pytest.importorskip("vllm")
    path = str(make_checkpoint())
    model, processor = load_model(path), load_processor(path)
    forbidden = vision_token_ids(processor)
    rows = [
        *ROWS["video"],
        *ROWS["mixed"],
        synthetic_row("long", synthetic_clip(20, frames=24, size=(28, 28), fps=0.7)),
    ]
    rollout = RolloutSection(engine="vllm", max_model_len=2048)
    engine = colocated_engine(model.config, processor, rollout, device="cpu", dtype="float32", seed=0)
    engine.sync(Policy(model))
    prompts = PromptBatch.encode(model, processor, rows, "cpu")
    settings = Sampling(count=3, max_tokens=12, seeds=tuple(range(len(rows))), forbidden_tokens=tuple(forbidden))
    completions = engine.generate(rows, settings, prompts)
    tokens, logps = completions.tokens, completions.log_probabilities
    width = max(map(len, tokens))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in tokens])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in tokens])
    sampled = torch.tensor([row + [0.0] * (width - len(row)) for row in logps])
    owner = torch.arange(len(rows)).repeat_interleave(3)
    with torch.no_grad():
        expected, _ = log_probabilities(model, prompts, owner.tolist(), ids, mask, forbidden_tokens=forbidden)
    differences = ((expected - sampled).abs() * mask).sum(1) / mask.sum(1)
    assert differences.max() < 1e-5

    other_rows = [synthetic_row("v0", *[synthetic_clip(seed, frames=6, fps=2.7) for seed in (30, 31)])]
    prompt = PromptBatch.encode(model, processor, other_rows, "cpu")
    assert prompt.token_lists()[0] == prompts.token_lists()[0]  # the same tokens with other pixels
    other = engine.generate(other_rows, replace(settings, seeds=(0,)), prompt).log_probabilities
    assert any(abs(a[0] - b[0]) > 1e-4 for a, b in zip(logps[:3], other, strict=True))
