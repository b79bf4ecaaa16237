"""Counts the tokens in the loss pass of a GRPO step for completions of unequal lengths.

    python benchmarks/tokens.py [--json]

32 prompts of about 700 tokens (nine tiles) with 16 completions each, whose lengths are log-normal with a mean of 300,
cut at 2,048. Nothing is trained; only the lengths matter.

    ours          prompts once per group, completions packed, micro-batches filled to 16,384 tokens
    trl           each completion with its own prompt, both padded to the longest of the generation batch
    padding_free  each completion with its own prompt, without padding (verl with `use_remove_padding`)
    needed        each prompt once, plus all completions, without padding: the lower bound with shared prompts

Ratios are the count of the other scheme divided by ours, so more is better; `waste` is ours divided by `needed` and at
most 1.1.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

# In a script, its folder comes first in sys.path, and a module here would hide one of ours with the same name.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

import numpy as np  # noqa: E402

from jigsaw.training.micro_batch import Sizes, fill, tokens_computed  # noqa: E402

PROMPTS, GENERATIONS, PROMPT, MEAN, SPREAD, LONGEST, LIMIT = 32, 16, 700, 300, 0.8, 2048, 16_384
STEPS = 20


def sizes(rng: np.random.Generator) -> Sizes:
    """Lengths of a step: log-normal with the given mean; `SPREAD` is the standard deviation of the logarithm."""
    drawn = rng.lognormal(np.log(MEAN) - SPREAD**2 / 2, SPREAD, (PROMPTS, GENERATIONS))
    completions = np.clip(drawn, 1, LONGEST).astype(int).tolist()
    return Sizes(rng.integers(PROMPT - 30, PROMPT + 31, PROMPTS).tolist(), completions)


def count(step: Sizes) -> dict[str, int]:
    """Tokens of one step under each scheme."""
    completions = [length for group in step.completions for length in group]
    return {
        "ours": sum(tokens_computed(part, step) for part in fill(step, LIMIT)),
        "trl": len(completions) * (max(step.prompts) + max(completions)),
        "padding_free": GENERATIONS * sum(step.prompts) + sum(completions),
        "needed": sum(step.prompts) + sum(completions),
    }


def main() -> None:
    """Print the means over steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    steps = [count(sizes(rng)) for _ in range(STEPS)]
    mean = {name: sum(step[name] for step in steps) / STEPS for name in steps[0]}
    figures = {
        **{f"{name}_tokens": round(value) for name, value in mean.items()},
        "trl_ratio": mean["trl"] / mean["ours"],
        "padding_free_ratio": mean["padding_free"] / mean["ours"],
        "waste": max(step["ours"] / step["needed"] for step in steps),
    }
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:20} {value:.4g}" if isinstance(value, float) else f"{name:20} {value:,}")


if __name__ == "__main__":
    main()
