"""Engines, which sample completions in training and in evaluation.

    Sampling       sampling settings: number, limit, temperature, seeds, forbidden tokens
    Completions    token ids, and their log-probabilities if the engine reports them
    Engine         the interface: sync, generate, sleep, close
    AsyncEngine    the interface of an engine that can sample during training: begin

The implementations are `transformers` (the model itself), `vllm` (in this process) and `vllm_server` (a client of a
server that `serving` starts). `weights` provides the weights of the trained model. This module does not import torch.
"""

from __future__ import annotations

from jigsaw.engines.base import AsyncEngine, Completions, Engine, Sampling

__all__ = ["AsyncEngine", "Completions", "Engine", "Sampling"]
