"""The Muon optimizer, for models that start from random weights: they need about half as many steps as with AdamW.

In: a model. Out: an optimizer that updates the weight matrices of its layers with orthogonalized momentum (K. Jordan et
al., "Muon", 2024; steps scaled to AdamW's as in arXiv 2502.16982, section 2.2), and all other parameters (embeddings,
output head, convolutions, norms, biases) with AdamW. Both use PyTorch's implementation and one learning rate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class Muon(torch.optim.Optimizer):
    """Muon and AdamW as one optimizer.

    Args:
        model: the model; its parameters that require gradients are optimised.
        lr: learning rate.
        weight_decay: weight decay of matrices; AdamW's parameters with fewer than two axes have none.
        betas, eps: parameters of AdamW.

    Raises:
        ValueError: no layer of the model has a weight matrix to train.
    """

    def __init__(
        self, model: torch.nn.Module, *, lr: float, weight_decay: float, betas: tuple[float, float], eps: float
    ) -> None:
        heads = {id(module.weight) for module in _embeddings(model)}
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        matrices = [parameter for parameter in trained if parameter.ndim == 2 and id(parameter) not in heads]
        if not matrices:
            raise ValueError("optim: muon needs weight matrices to train, and all are frozen")
        chosen = set(map(id, matrices))
        others = [parameter for parameter in trained if id(parameter) not in chosen]
        self._muon = torch.optim.Muon(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        groups = [
            {"params": [p for p in others if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self._adamw = torch.optim.AdamW([group for group in groups if group["params"]], lr=lr, betas=betas, eps=eps)
        super().__init__(trained, {"lr": lr})
        self._share_groups()

    def _share_groups(self) -> None:
        """Expose the parameter groups of both, with which schedules and logs set and read learning rates."""
        self.param_groups = self._muon.param_groups + self._adamw.param_groups

    def step(self, closure: Any = None) -> Any:
        """One step of both, after the closure, if there is one, has recomputed the gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._muon.step()
        self._adamw.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The states of both optimizers."""
        return {"muon": self._muon.state_dict(), "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        self._muon.load_state_dict(state_dict["muon"])
        self._adamw.load_state_dict(state_dict["adamw"])
        self._share_groups()


def muon_factory(config: Any) -> tuple[Callable[[], Callable[..., Muon]], dict[str, Any]]:
    """Muon as `optimizer_cls_and_kwargs` of a transformers Trainer, for optimizers that need the model."""
    settings = {
        "lr": config.learning_rate,
        "weight_decay": config.weight_decay,
        "betas": (config.adam_beta1, config.adam_beta2),
        "eps": config.adam_epsilon,
    }
    return lambda: Muon, settings


def _embeddings(model: Any) -> list[Any]:
    """The input embeddings and the output head, whose matrices are tables over the vocabulary."""
    tables = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return tables if head is None else [*tables, head]
