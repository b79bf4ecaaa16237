"""Window attention in batches of equal lengths: values and gradients equal those of one call per window."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import AutoModelForImageTextToText

from jigsaw.models import vision_windows
from jigsaw.models.load import load_model
from jigsaw.models.vision_windows import WINDOWS, window_attention

GRIDS = {
    "one window each": [[1, 4, 4], [1, 4, 4]],
    "windows cut at borders": [[1, 6, 10], [1, 2, 4], [1, 4, 4]],
    "a clip": [[3, 6, 4], [1, 4, 6]],
}


@pytest.fixture
def visual(model):
    """A vision tower with window attention in its first layer and full attention in its second."""
    assert model.config.vision_config.fullatt_block_indexes == [1]
    return model.model.visual


@pytest.mark.parametrize("name", GRIDS)
def test_features_and_gradients_equal_those_of_one_call_per_window(visual, name):
    grid = torch.tensor(GRIDS[name])
    torch.manual_seed(0)
    pixels = torch.rand(int(grid.prod(-1).sum()), visual.patch_embed.proj.weight[0].numel())
    results = {}
    for attention in (WINDOWS, "sdpa"):
        visual.config._attn_implementation = attention
        visual.zero_grad()
        features = visual(pixels, grid).pooler_output
        (features * torch.linspace(-1, 1, features.numel()).view_as(features)).sum().backward()
        results[attention] = features.detach(), [parameter.grad.clone() for parameter in visual.parameters()]
    torch.testing.assert_close(results[WINDOWS][0], results["sdpa"][0], atol=1e-6, rtol=1e-5)
    for actual, expected in zip(results[WINDOWS][1], results["sdpa"][1], strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)


def test_gradients_can_be_computed_after_a_pass_in_inference_mode(visual):
    """Given windows that were cached in inference mode, the loss pass computes gradients through them."""
    grid = torch.tensor([[1, 10, 6]])
    pixels = torch.rand(60, visual.patch_embed.proj.weight[0].numel())
    with torch.inference_mode():
        visual(pixels, grid)
    visual(pixels, grid).pooler_output.sum().backward()
    assert all(parameter.grad is not None for parameter in visual.parameters())


def test_there_is_one_call_per_window_length(monkeypatch):
    """Given 72 frames of 5x3 patches in windows of 4x4, there are two calls instead of 144."""
    calls = []

    def attend(query, key, value, **options):
        calls.append(query.shape[2])
        return torch.nn.functional.scaled_dot_product_attention(query, key, value, **options)

    monkeypatch.setattr(vision_windows, "scaled_dot_product_attention", attend)
    boundaries = torch.tensor([0, *torch.tensor([12, 3] * 72).cumsum(0)])
    parts = [torch.rand(1, 2, int(boundaries[-1]), 8) for _ in range(3)]
    output, _ = window_attention(None, *parts, None, cu_seq_lens_q=boundaries, scaling=8**-0.5)
    assert calls == [12, 3]
    assert output.shape == (1, int(boundaries[-1]), 2, 8)


def test_a_loaded_model_uses_batched_window_attention(checkpoint):
    assert load_model(checkpoint).model.visual.blocks[0].attn.config._attn_implementation == WINDOWS


def test_the_patch_embedding_as_a_product_equals_the_convolution(checkpoint):
    """Values and gradients are equal, also in a copy of the model, which has its own weights."""
    embed = copy.deepcopy(load_model(checkpoint).model.visual.patch_embed)
    expected = AutoModelForImageTextToText.from_pretrained(checkpoint).model.visual.patch_embed
    pixels = torch.rand(24, embed.proj.weight[0].numel())
    with torch.no_grad():
        for one in (embed, expected):
            one.proj.weight += 0.1
    results = []
    for one in (embed, expected):
        features = one(pixels)
        features.square().sum().backward()
        results.append((features.detach(), one.proj.weight.grad))
    assert "forward" in vars(embed.proj) and "forward" not in vars(expected.proj)
    torch.testing.assert_close(results[0], results[1], atol=1e-4, rtol=1e-5)
