"""Vision attention by length: the same values and gradients as one call per window, in a few calls."""

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
    """A tower with windows in its first layer and attention over the whole image in its second."""
    assert model.config.vision_config.fullatt_block_indexes == [1]
    return model.model.visual


@pytest.mark.parametrize("name", GRIDS)
def test_features_and_gradients_are_those_of_one_call_per_window(visual, name):
    grid = torch.tensor(GRIDS[name])
    torch.manual_seed(0)
    pixels = torch.rand(int(grid.prod(-1).sum()), visual.patch_embed.proj.weight[0].numel())
    found = {}
    for attention in (WINDOWS, "sdpa"):
        visual.config._attn_implementation = attention
        visual.zero_grad()
        features = visual(pixels, grid).pooler_output
        (features * torch.linspace(-1, 1, features.numel()).view_as(features)).sum().backward()
        found[attention] = features.detach(), [parameter.grad.clone() for parameter in visual.parameters()]
    torch.testing.assert_close(found[WINDOWS][0], found["sdpa"][0], atol=1e-6, rtol=1e-5)
    for ours, theirs in zip(found[WINDOWS][1], found["sdpa"][1], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_a_pass_without_gradients_before_leaves_nothing_that_the_next_cannot_use(visual):
    """Given windows that sampling has met in inference mode, then the loss pass computes gradients through them."""
    grid = torch.tensor([[1, 10, 6]])
    pixels = torch.rand(60, visual.patch_embed.proj.weight[0].numel())
    with torch.inference_mode():
        visual(pixels, grid)
    visual(pixels, grid).pooler_output.sum().backward()
    assert all(parameter.grad is not None for parameter in visual.parameters())


def test_there_are_as_many_calls_as_lengths(monkeypatch):
    """Given 72 frames of 5x3 patches in windows of 4x4, then two calls in place of 144."""
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


def test_a_loaded_model_attends_that_way(checkpoint):
    assert load_model(checkpoint).model.visual.blocks[0].attn.config._attn_implementation == WINDOWS


def test_patches_are_embedded_by_a_product_with_the_values_and_gradients_of_the_convolution(checkpoint):
    """Also in a copy of the model, whose weights are its own."""
    embed = copy.deepcopy(load_model(checkpoint).model.visual.patch_embed)
    theirs = AutoModelForImageTextToText.from_pretrained(checkpoint).model.visual.patch_embed
    pixels = torch.rand(24, embed.proj.weight[0].numel())
    with torch.no_grad():
        for one in (embed, theirs):
            one.proj.weight += 0.1
    found = []
    for one in (embed, theirs):
        features = one(pixels)
        features.square().sum().backward()
        found.append((features.detach(), one.proj.weight.grad))
    assert "forward" in vars(embed.proj) and "forward" not in vars(theirs.proj)
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-5)
