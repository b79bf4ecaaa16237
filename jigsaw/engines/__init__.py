"""Engines: what samples completions, with transformers or with vLLM."""
