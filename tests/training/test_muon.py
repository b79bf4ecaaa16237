"""Muon: its updates of matrices and of other weights, and resuming from a saved state."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from jigsaw.models.load import load_model
from jigsaw.training.muon import Muon

SETTINGS = {"lr": 1e-2, "weight_decay": 0.0, "betas": (0.9, 0.99), "eps": 1e-8}


def take_steps(model, optimizer, steps: int, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


def test_matrices_of_layers_get_orthogonal_updates_and_other_weights_those_of_adamw(checkpoint):
    model = load_model(checkpoint, "float32")
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = Muon(model, **SETTINGS)
    take_steps(model, optimizer, 1)
    for name, parameter in model.named_parameters():
        moved = (parameter.detach() - before[name]) / SETTINGS["lr"]
        if parameter.ndim == 2 and "embed_tokens" not in name and "lm_head" not in name:
            # Nearly equal singular values, except the smallest, and the root mean square of AdamW's steps (0.2).
            values = torch.linalg.svdvals(moved) / (0.2 * max(parameter.shape) ** 0.5)
            assert values.median() > 0.6 and values.max() < 1.3, name
        else:
            # AdamW's first step is the sign of the gradient, and smaller only if the gradient is as small as eps.
            expected = -parameter.grad / (parameter.grad.abs() + SETTINGS["eps"])
            torch.testing.assert_close(moved, expected, atol=1e-3, rtol=0, msg=name)


def test_an_optimizer_with_a_loaded_state_takes_the_same_steps(checkpoint):
    one, other = load_model(checkpoint, "float32"), load_model(checkpoint, "float32")
    first = Muon(one, **SETTINGS)
    take_steps(one, first, 2)
    second = Muon(other, **SETTINGS)
    other.load_state_dict(one.state_dict())
    second.load_state_dict(deepcopy(first.state_dict()))
    for group in second.param_groups:
        group["lr"] = 5e-3  # as a schedule does; both optimizers must use it
    for group in first.param_groups:
        group["lr"] = 5e-3
    take_steps(one, first, 2, seed=1)
    take_steps(other, second, 2, seed=1)
    for actual, expected in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(actual, expected)


def test_a_model_without_trainable_matrices_is_refused(checkpoint):
    model = load_model(checkpoint, "float32").requires_grad_(False)
    with pytest.raises(ValueError, match="needs weight matrices"):
        Muon(model, **SETTINGS)
