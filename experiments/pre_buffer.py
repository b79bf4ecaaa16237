"""Tests whether NEO learns faster with a pre-Buffer that was trained with another language model than with a new one.

    python experiments/pre_buffer.py OUT [--qwen3 DIR --other DIR] [--pre-buffer 2] [--steps 150] [--recipe RECIPE]

The donor is a NEO made from the language model `--qwen3` and trained on the supervised rows of the recipe. Two NEOs
made from `--other` are then trained on the same rows for the same number of steps: one with a new pre-Buffer, one with
the donor's pre-Buffer, patch embedding and hw projections (`jigsaw neo from-qwen3 --pre-buffer-from`). OUT receives a
run folder for each, `pre-buffer.md` and `pre-buffer.json`: the loss and accuracy of answer tokens at the beginning and
at the end, and the place accuracy on held-out puzzles.

Without `--qwen3` and `--other`, both are tiny Qwen3 models from random weights, with equal shapes and different seeds.
These runs take up to an hour on two cores and only demonstrate the procedure.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console

from jigsaw.config.loading import load_recipe
from jigsaw.models.neo.from_qwen3 import start_from_qwen3
from jigsaw.run import run

RECIPE = Path(__file__).with_suffix(".yaml")
AVERAGED = 5
"""Number of steps that are averaged at the beginning and at the end of a run."""


def tiny_qwen3(out: Path, seed: int) -> str:
    """Write a small Qwen3 from random weights with a tokenizer for the words of the puzzles."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from jigsaw.models.tiny import build_tokenizer

    words = ["Put the tiles back in order.", "Tile 1:", "system\nuser\nassistant\n", "2, 1, 4, 3"]
    tokenizer = build_tokenizer(words, 512)
    sizes = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3, "head_dim": 32}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "tie_word_embeddings": False}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(Qwen3Config(vocab_size=len(tokenizer) + 16, **sizes, **heads))
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return str(out)


def trained(name: str, start: Path, out: Path, recipe: str, steps: int, overrides: Sequence[str]) -> dict[str, Any]:
    """Train the supervised stage of a recipe from a checkpoint and return its metrics."""
    fixed = [f"name={name}", f"model.path={start}", f"output={out / name}", f"sft.max_steps={steps}"]
    folder = run(load_recipe(recipe, [*overrides, *fixed]), Console(stderr=True))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    figures: dict[str, Any] = {"run": name}
    for key in ("loss", "token_accuracy"):
        values = [line[key] for line in lines if line.get("stage") == "sft" and key in line]
        figures |= {f"{key}, first": mean(values[:AVERAGED]), f"{key}, last": mean(values[-AVERAGED:])}
    held_out = [line for line in lines if "heldout/place_accuracy" in line]
    return figures | ({"place_accuracy": held_out[-1]["heldout/place_accuracy"]} if held_out else {})


def table(rows: Sequence[dict[str, Any]]) -> str:
    """All metrics as a Markdown table."""
    columns = list(rows[0])
    cells = [[row["run"], *(f"{row[name]:.3f}" for name in columns[1:])] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [columns, ["---"] * len(columns), *cells]) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the models, train all three, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--qwen3", help="language model of the donor; default: a tiny one")
    parser.add_argument("--other", help="the other language model, of the same width and depth")
    parser.add_argument("--pre-buffer", type=int, default=2)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--recipe", default=str(RECIPE))
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="recipe overrides")
    options = parser.parse_intermixed_args(arguments)
    if (options.qwen3 is None) != (options.other is None):
        parser.error("give both --qwen3 and --other, or neither")
    models, layers = options.out / "models", options.pre_buffer
    first = options.qwen3 or tiny_qwen3(models / "qwen3", seed=1)
    other = options.other or tiny_qwen3(models / "other", seed=2)
    start_from_qwen3(first, models / "donor", pre_buffer=layers)
    rows = [trained("donor", models / "donor", options.out, options.recipe, options.steps, options.overrides)]
    start_from_qwen3(other, models / "new", pre_buffer=layers, seed=3)
    donor = str(options.out / "donor" / "model")
    start_from_qwen3(other, models / "reused", pre_buffer=layers, pre_buffer_from=donor)
    for name in ("new", "reused"):
        rows.append(trained(name, models / name, options.out, options.recipe, options.steps, options.overrides))
    (options.out / "pre-buffer.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (options.out / "pre-buffer.md").write_text(table(rows), encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
