"""Who samples how fast: 64 completions of 128 tokens by vLLM and transformers, a weight sync, the way to step one.

    python benchmarks/rollouts.py [--json] [--rounds 3] [--skip-launch]

Eight prompts of four 28-px tiles, eight completions each, a tiny model in float32. `straightforward` is transformers'
`generate` with every prompt once per completion; `shared_prefix` is the engine of `rollout.engine: transformers`;
`vllm` is that of `rollout.engine: vllm`, where vLLM is installed (the CPU build without a GPU). The engines take turns
and the middle of the rounds counts, by the clock and of the processor; the latter says more where others use the
machine too, and nothing on a GPU. `sync` hands all weights to vLLM; `first_step` is from `jigsaw launch` to the first
line of GRPO in `metrics.jsonl`, all imports included.
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
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

# Run as a script, this folder leads the path, and `import rewards` would find a benchmark.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

import torch  # noqa: E402
from PIL import Image  # noqa: E402

from jigsaw.config.schema import RolloutSection  # noqa: E402
from jigsaw.data import build_puzzles, load_puzzles  # noqa: E402
from jigsaw.engines.transformers import sample, shaping  # noqa: E402
from jigsaw.models.load import load_model, load_processor, vision_token_ids  # noqa: E402
from jigsaw.models.prompt_batch import PromptBatch  # noqa: E402
from jigsaw.models.prompts import processor_inputs  # noqa: E402
from jigsaw.models.tiny import TinySizes, write_tiny  # noqa: E402

PROMPTS, GENERATIONS, TOKENS = 8, 8, 128
RECIPE = """
name: first-step
model: {{path: {folder}/model}}
data: {{train: [{{path: {folder}/data}}]}}
grpo: {{max_steps: 1, prompts_per_step: 2, num_generations: 4, max_completion_length: 8, gradient_checkpointing: false}}
rollout: {{engine: {engine}, max_model_len: 1024}}
output: {folder}/run-{engine}
"""


def prepare(folder: Path) -> list[dict[str, Any]]:
    """A checkpoint and a puzzle set from random numbers; gives the rows."""
    (folder / "photos").mkdir()
    rng = Random(0)
    for number in range(PROMPTS):
        small = Image.new("RGB", (8, 8))
        small.putdata([(rng.randrange(256), rng.randrange(256), rng.randrange(256)) for _ in range(64)])
        small.resize((160, 160), Image.Resampling.BICUBIC).save(folder / "photos" / f"{number}.png")
    config = {"grid": "2x2", "tile": 28, "crop": "random", "answer_style": "direct"}
    build_puzzles("image", folder / "photos", folder / "data", config=config, workers=1, progress=False)
    puzzles = load_puzzles(folder / "data")
    texts = [part["text"] for turn in puzzles[0]["prompt"] for part in turn["content"] if part["type"] == "text"]
    sizes = TinySizes(hidden_size=128, num_layers=3, vision_hidden_size=128, vision_layers=1)
    write_tiny("qwen2_5_vl", sizes, [*texts, "2, 1, 4, 3", "system\nuser\nassistant\n"], folder / "model")
    return [puzzles[number] for number in range(PROMPTS)]


def samplers(folder: Path, rows: list[dict[str, Any]]) -> dict[str, Callable[[], Any]]:
    """What is timed, by name; the completions of none can end before their limit."""
    model, processor = load_model(str(folder / "model")), load_processor(str(folder / "model"))
    forbidden = [*vision_token_ids(processor), processor.tokenizer.eos_token_id, processor.tokenizer.pad_token_id]
    seeds = range(PROMPTS)
    args = argparse.Namespace(temperature=1.0, top_k=0, top_p=1.0, min_p=None)
    batch = processor_inputs(processor, [row for row in rows for _ in range(GENERATIONS)])

    def straightforward() -> list[list[int]]:
        with torch.no_grad():
            out = model.generate(
                **batch, do_sample=True, top_k=0, max_new_tokens=TOKENS, suppress_tokens=forbidden, eos_token_id=None
            )
        found: list[list[int]] = out[:, batch["input_ids"].shape[1] :].tolist()
        return found

    def shared_prefix() -> list[list[int]]:
        prompts = PromptBatch.encode(model, processor, rows, "cpu")
        chosen = shaping(args, forbidden, "cpu")
        return sample(
            model,
            prompts,
            GENERATIONS,
            logits_processors=chosen,
            max_new_tokens=TOKENS,
            eos_token_ids=[-1],
            seeds=seeds,
        )

    found: dict[str, Callable[[], Any]] = {"straightforward": straightforward, "shared_prefix": shared_prefix}
    if find_spec("vllm"):
        from jigsaw.engines.vllm import VllmEngine

        engine = VllmEngine(model, processor, RolloutSection(engine="vllm", max_model_len=1024), forbidden)
        ids = PromptBatch.encode(model, processor, rows, "cpu").token_lists()
        found["sync"] = lambda: engine.sync(model)
        found["vllm"] = lambda: engine.generate(rows, ids, GENERATIONS, seeds=seeds, max_tokens=TOKENS)[0]
    return found


def timed(found: dict[str, Callable[[], Any]], rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """The middle of the rounds of each, in seconds by the clock and of the processor, after one that warms up."""
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
                assert [len(tokens) for tokens in made] == [TOKENS] * PROMPTS * GENERATIONS, name
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
    parser.add_argument("--skip-launch", action="store_true", help="leave the two whole runs out")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = prepare(folder)
        seconds, busy = timed(samplers(folder, rows), given.rounds)
        figures = {f"{name}_seconds": value for name, value in seconds.items()}
        figures |= {f"{name}_processor_seconds": value for name, value in busy.items()}
        figures["shared_prefix_ratio"] = seconds["straightforward"] / seconds["shared_prefix"]
        if "vllm" in seconds:
            figures["vllm_ratio"] = seconds["straightforward"] / seconds["vllm"]
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
