"""Measures the parts of `jigsaw eval`: 512 puzzles of 2x2 tiles, a tiny model, one process.

    python benchmarks/evaluation.py [--json] [--puzzles 512] [--samples 1]

Shares are of the total wall time, from opening the checkpoint to the written scores: the engine (`generation`), the
conversion of pictures to tensors (`preprocessing`), opening the checkpoint (`opening`), and the rest: rendering,
parsing, scoring, intervals and writing. The baseline of `speed_ratio` is a loop over single puzzles that uses our code
for the puzzle set only (`straightforward`).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

# In a script, its folder comes first in sys.path, and `import rewards` would import a benchmark.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

from PIL import Image  # noqa: E402

from jigsaw.answering import generation  # noqa: E402
from jigsaw.answering.generation import Generation  # noqa: E402
from jigsaw.data import build_puzzles, load_puzzles  # noqa: E402
from jigsaw.engines import transformers as engine  # noqa: E402
from jigsaw.evaluation.evaluate import evaluate_checkpoint  # noqa: E402
from jigsaw.models import prompt_batch  # noqa: E402
from jigsaw.models.load import load_model, load_processor  # noqa: E402
from jigsaw.models.prompts import media_of, prompt_text  # noqa: E402
from jigsaw.models.tiny import TinySizes, write_tiny  # noqa: E402

TOKENS = 12


def prepare(folder: Path, puzzles: int) -> tuple[str, Path]:
    """Write a checkpoint and a puzzle set, both from random numbers."""
    photos = folder / "photos"
    photos.mkdir()
    rng = Random(0)
    for number in range(32):
        small = Image.new("RGB", (8, 8))
        small.putdata([(rng.randrange(256), rng.randrange(256), rng.randrange(256)) for _ in range(64)])
        small.resize((160, 160), Image.Resampling.BICUBIC).save(photos / f"{number}.png")
    config = {"grid": "2x2", "tile": 28, "crop": "random", "answer_style": "direct"}
    data = folder / "data"
    build_puzzles("image", photos, data, config=config, per_source=-(-puzzles // 32), workers=1, progress=False)
    row = load_puzzles(data)[0]
    texts = [part["text"] for turn in row["prompt"] for part in turn["content"] if part["type"] == "text"]
    sizes = TinySizes(hidden_size=128, num_layers=3, vision_hidden_size=128, vision_layers=1)
    write_tiny("qwen2_5_vl", sizes, [*texts, "2, 1, 4, 3", "system\nuser\nassistant\n"], folder / "model")
    return str(folder / "model"), data


def timed(spent: Counter[str], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function so that it adds its seconds to a counter."""

    def run(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent[name] += time.perf_counter() - began

    return run


def profile(model: str, data: Path, out: Path, puzzles: int, samples: int) -> dict[str, float]:
    """Seconds of each part of an evaluation."""
    spent: Counter[str] = Counter()

    generation.load_model = timed(spent, "opening", load_model)
    generation.load_processor = timed(spent, "opening", load_processor)
    engine.sample = timed(spent, "generation", engine.sample)
    prompt_batch.processor_inputs = timed(spent, "preprocessing", prompt_batch.processor_inputs)
    began = time.perf_counter()
    evaluate_checkpoint(
        model,
        data,
        generation=Generation(batch_size=64, max_new_tokens=TOKENS, samples=samples),
        out=out,
        limit=puzzles,
    )
    return dict(spent) | {"total": time.perf_counter() - began}


def straightforward(model: str, data: Path, puzzles: int) -> float:
    """Seconds of the plain baseline, a loop over single puzzles."""
    began = time.perf_counter()
    network, processor, rows = load_model(model), load_processor(model), load_puzzles(data)
    for number in range(puzzles):
        row = rows[number]
        inputs = processor(text=[prompt_text(processor, row)], images=media_of(row, "image"), return_tensors="pt")
        output = network.generate(**inputs, max_new_tokens=TOKENS, do_sample=False)
        processor.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--puzzles", type=int, default=512)
    parser.add_argument("--samples", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model, data = prepare(Path(folder), given.puzzles)
        slow = straightforward(model, data, min(given.puzzles, 64)) / min(given.puzzles, 64)
        spent = profile(model, data, Path(folder) / "out", given.puzzles, given.samples)
    total = spent.pop("total")
    spent["rest"] = total - sum(spent.values())
    figures: dict[str, float] = {f"{name}_share": seconds / total for name, seconds in spent.items()}
    figures |= {"seconds": total, "puzzles_per_second": given.puzzles / total}
    figures["speed_ratio"] = slow * given.puzzles / total
    if given.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:24} {value:10.3f}")


if __name__ == "__main__":
    main()
