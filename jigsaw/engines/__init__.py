"""Engines: what samples completions, for training and for evaluation alike.

    Sampling       how completions are sampled: number, limit, temperature, seeds, forbidden tokens
    Completions    token ids, and their log-probabilities if the engine reports them
    Engine         the interface: sync, generate, sleep, close
    AsyncEngine    of an engine that can sample while the trainer works: begin

The implementations are `transformers` (the model itself), `vllm` (in this process) and `vllm_server` (a client of a
server that `serving` starts). `weights` gives them the weights of the model that is trained. This module imports no
torch.
"""

from __future__ import annotations

from jigsaw.engines.base import AsyncEngine, Completions, Engine, Sampling

__all__ = ["AsyncEngine", "Completions", "Engine", "Sampling"]
