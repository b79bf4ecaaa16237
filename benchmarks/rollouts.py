"""Speed of the engines: groups of 8 completions of 128 tokens after 576 visual tokens, a weight sync, the first step.

    python benchmarks/rollouts.py [--json] [--rounds 3] [--skip-launch] [--prompts 2] [--tile 224]

Prompts of 3x3 tiles, eight completions each, a tiny model in float32. `generate` is transformers' `generate` with
`num_return_sequences=8`; `transformers` is the engine of `rollout.engine: transformers`; `vllm` is that of
`rollout.engine: vllm`, if vLLM is installed (the CPU build without a GPU). The engines alternate, and the median of the
rounds counts, in wall-clock and CPU seconds. CPU seconds are more reliable on a busy machine and meaningless on a GPU.
`sync` copies all weights to vLLM; `first_step` is the time from `jigsaw launch` to the first line of GRPO in
`metrics.jsonl`, including all imports.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

# In a script, its folder comes first in sys.path, and `import rewards` would import a benchmark.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

import torch  # noqa: E402
from PIL import Image  # noqa: E402

from jigsaw.config.schema import RolloutSection  # noqa: E402
from jigsaw.data import build_puzzles, load_puzzles  # noqa: E402
from jigsaw.engines import Engine, Sampling  # noqa: E402
from jigsaw.engines.transformers import TransformersEngine  # noqa: E402
from jigsaw.engines.weights import Policy  # noqa: E402
from jigsaw.models.load import load_model, load_processor, vision_token_ids  # noqa: E402
from jigsaw.models.prompts import processor_inputs  # noqa: E402
from jigsaw.models.tiny import TinySizes, write_tiny  # noqa: E402

GENERATIONS, TOKENS = 8, 128
RECIPE = """
name: first-step
model: {{path: {folder}/model}}
data: {{train: [{{path: {folder}/data}}]}}
grpo: {{max_steps: 1, prompts_per_step: 2, num_generations: 4, max_completion_length: 8, gradient_checkpointing: false}}
rollout: {{engine: {engine}, max_model_len: 1024}}
output: {folder}/run-{engine}
"""


def prepare(folder: Path, prompts: int, tile: int) -> list[dict[str, Any]]:
    """Write a checkpoint and a puzzle set from random numbers; returns the rows."""
    (folder / "photos").mkdir()
    rng = Random(0)
    for number in range(prompts):
        small = Image.new("RGB", (8, 8))
        small.putdata([(rng.randrange(256), rng.randrange(256), rng.randrange(256)) for _ in range(64)])
        small.resize((3 * tile, 3 * tile), Image.Resampling.BICUBIC).save(folder / "photos" / f"{number}.png")
    config = {"grid": "3x3", "tile": tile, "crop": "random", "answer_style": "direct"}
    build_puzzles("image", folder / "photos", folder / "data", config=config, workers=1, progress=False)
    puzzles = load_puzzles(folder / "data")
    texts = [part["text"] for turn in puzzles[0]["prompt"] for part in turn["content"] if part["type"] == "text"]
    sizes = TinySizes(hidden_size=128, num_layers=3, vision_hidden_size=128, vision_layers=1)
    write_tiny("qwen2_5_vl", sizes, [*texts, "2, 1, 4, 3", "system\nuser\nassistant\n"], folder / "model")
    return [puzzles[number] for number in range(prompts)]


def samplers(folder: Path, rows: list[dict[str, Any]]) -> dict[str, Callable[[], Any]]:
    """The samplers to time, by name; none of them can end a completion before the limit."""
    model, processor = load_model(str(folder / "model")), load_processor(str(folder / "model"))
    forbidden = [*vision_token_ids(processor), processor.tokenizer.eos_token_id, processor.tokenizer.pad_token_id]
    settings = Sampling(
        count=GENERATIONS, max_tokens=TOKENS, seeds=tuple(range(len(rows))), forbidden_tokens=tuple(forbidden)
    )

    def generate() -> list[list[int]]:
        batch = processor_inputs(processor, rows)
        with torch.inference_mode():
            out = model.generate(
                **batch,
                do_sample=True,
                top_k=0,
                num_return_sequences=GENERATIONS,
                max_new_tokens=TOKENS,
                suppress_tokens=forbidden,
                eos_token_id=None,
            )
        found: list[list[int]] = out[:, batch["input_ids"].shape[1] :].tolist()
        return found

    def of(engine: Engine) -> Callable[[], list[list[int]]]:
        return lambda: engine.generate(rows, settings).tokens

    found: dict[str, Callable[[], Any]] = {
        "generate": generate,
        "transformers": of(TransformersEngine(model, processor)),
    }
    if find_spec("vllm"):
        from jigsaw.engines.vllm import colocated_engine

        versions = count()
        engine = colocated_engine(
            model.config,
            processor,
            RolloutSection(engine="vllm", max_model_len=2048),
            device="cuda" if torch.cuda.is_available() else "cpu",
            dtype="float32",
            seed=0,
        )
        found["sync"] = lambda: engine.sync(Policy(model, version=next(versions)))
        found["vllm"] = of(engine)
    return found


def timed(found: dict[str, Callable[[], Any]], rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Median wall-clock and CPU seconds of the rounds of each, after a warm-up round."""
    seconds: dict[str, list[float]] = {name: [] for name in found}
    busy: dict[str, list[float]] = {name: [] for name in found}
    for number in range(rounds + 1):
        for name, run in found.items():
            start, used = time.perf_counter(), time.process_time()
            made = run()
            if number:
                seconds[name].append(time.perf_counter() - start)
                busy[name].append(time.process_time() - used)
            if made is not None:
                assert {len(tokens) for tokens in made} == {TOKENS}, name
    return (
        {name: median(values) for name, values in seconds.items()},
        {name: median(values) for name, values in busy.items()},
    )


def first_step(folder: Path, engine: str) -> float:
    """Seconds from `jigsaw launch` to the first GRPO step in the log."""
    recipe, log = folder / f"{engine}.yaml", folder / f"run-{engine}" / "metrics.jsonl"
    recipe.write_text(RECIPE.format(folder=folder, engine=engine), encoding="utf-8")
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "jigsaw", "launch", str(recipe)], stdout=subprocess.DEVNULL
    ) as run:
        while run.poll() is None and not (log.exists() and '"reward"' in log.read_text(encoding="utf-8")):
            time.sleep(0.05)
        took = time.perf_counter() - start
    if run.returncode:
        raise SystemExit(f"jigsaw launch {recipe} failed")
    return took


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--tile", type=int, default=224, help="pixels; 224 make 64 visual tokens of a tile")
    parser.add_argument("--skip-launch", action="store_true", help="skip the two complete runs")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = prepare(folder, given.prompts, given.tile)
        seconds, busy = timed(samplers(folder, rows), given.rounds)
        figures = {f"{name}_seconds": value for name, value in seconds.items()}
        figures |= {f"{name}_processor_seconds": value for name, value in busy.items()}
        for name in {"transformers", "vllm"} & seconds.keys():
            figures[f"{name}_ratio"] = seconds["generate"] / seconds[name]
        figures["transformers_processor_ratio"] = busy["generate"] / busy["transformers"]
        if not given.skip_launch:
            for engine in ("transformers", *(["vllm"] if "vllm" in seconds else [])):
                figures[f"first_step_{engine}_seconds"] = first_step(folder, engine)
    if given.json:
        print(json.dumps(figures, indent=2))
    else:
        for key, value in figures.items():
            print(f"{key:32} {value:10.3f}")


if __name__ == "__main__":
    main()
