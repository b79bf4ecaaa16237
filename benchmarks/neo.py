"""Benchmarks NEO: batched generation and the attention back ends.

python benchmarks/neo.py [--json] [--rounds 3] [--lengths 4096]

batch8      greedy generation of eight prompts with an image each, at once compared with one after the other (as in the
            authors' code): `batch8_ratio` is tokens per second at batch 8 divided by those at batch 1, with alternating
            rounds; on a CPU, `batch8_computation_ratio` is the same per CPU second
attention   seconds and peak memory of one attention layer of the 2B shape at 4k tokens, an image of 1,024 tokens in
            every 2,048: eager, sdpa and flex, forward, each in its own process. `--lengths 4096 16384` adds 16k, which
            is the default on a GPU and takes minutes on a CPU. A case that needs more memory than is free is not run,
            and its need is reported. On a CPU also the CPU seconds of all threads, which do not depend on other work
qwen3       with a GPU: bfloat16 forward and training step of the 2B shape divided by those of Qwen3-1.7B, with equal
            numbers of tokens
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

# In a script, its folder comes first in sys.path, and a module here would hide one of ours with the same name.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

import torch  # noqa: E402

from jigsaw.models.neo import NEOChatConfig, NEOChatModel, NEOTextConfig  # noqa: E402
from jigsaw.models.neo.attention import NEOAttention, attention_plan, rotary_tables  # noqa: E402

NEW_TOKENS = 64
KINDS = ("eager", "sdpa", "flex_attention")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Wall-clock seconds and CPU seconds."""
    _wait()
    start, busy = time.perf_counter(), time.process_time()
    run()
    _wait()
    return time.perf_counter() - start, time.process_time() - busy


def best(run: Callable[[], object], rounds: int) -> float:
    """Best seconds of some rounds, after a warm-up round."""
    run()
    return min(timed(run)[0] for _ in range(rounds))


def _wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def small_model() -> NEOChatModel:
    """A NEO of 31 million parameters."""
    text = {"vocab_size": 8192, "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 6}
    text |= {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64}
    vision = {"hidden_size": 256, "llm_hidden_size": 512}
    tokens = {"image_token_id": 8001, "image_start_token_id": 8002, "image_end_token_id": 8003}
    return NEOChatModel(NEOChatConfig(llm_config=text, vision_config=vision, **tokens)).eval().to(DEVICE)


def prompts(count: int) -> dict[str, torch.Tensor]:
    """The given number of prompts of 24 text tokens and an image of 16 tokens."""
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(0, 8000, (count, 24), generator=generator)
    image = torch.tensor([8002, *[8001] * 16, 8003]).expand(count, -1)
    ids = torch.cat([text[:, :12], image, text[:, 12:]], dim=1)
    made = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.randn(64 * count, 768, generator=generator),
        "image_grid_thw": torch.tensor([[1, 8, 8]]).expand(count, -1),
    }
    return {key: value.to(DEVICE) for key, value in made.items()}


def measure_batch(rounds: int) -> dict[str, float]:
    """Tokens per second at batch 1 and 8."""
    model = small_model()
    inputs = {count: prompts(count) for count in (1, 8)}

    def run(count: int) -> None:
        model.generate(**inputs[count], max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0)

    speed, busy_speed = dict.fromkeys(inputs, 0.0), dict.fromkeys(inputs, 0.0)
    with torch.inference_mode():
        for number in range(rounds + 1):
            for count in inputs:
                seconds, busy = timed(partial(run, count))
                if number:  # the first warms up
                    speed[count] = max(speed[count], count * NEW_TOKENS / seconds)
                    busy_speed[count] = max(busy_speed[count], count * NEW_TOKENS / busy)
    found = {"batch1_tokens_per_s": speed[1], "batch8_tokens_per_s": speed[8], "batch8_ratio": speed[8] / speed[1]}
    return found | ({"batch8_computation_ratio": busy_speed[8] / busy_speed[1]} if DEVICE == "cpu" else {})


def attention_once(kind: str, length: int, rounds: int) -> dict[str, float]:
    """Seconds and peak MB of one layer; runs in its own process."""
    config = NEOTextConfig(num_hidden_layers=1, attn_implementation=kind)
    dtype = torch.bfloat16 if DEVICE == "cuda" else torch.float32
    needs, free = scores_mb(kind, length, config, dtype), _free_mb()
    if needs > free:
        return {"needs_mb": needs, "free_mb": free}
    layer = NEOAttention(config, 0).eval().to(DEVICE, dtype)

    def run(length: int) -> None:
        hidden = torch.randn(1, length, config.hidden_size, device=DEVICE, dtype=dtype)
        place = torch.arange(length, device=DEVICE)
        images = torch.where(place % 2048 < 1024, place // 2048, -1)[None]
        indices = torch.stack([place, place % 32, place // 32 % 32])[:, None]
        kernel, mask = attention_plan(kind, hidden, None, None, images, None)
        layer(hidden, rotary_tables(indices, config, dtype), mask, kernel=kernel)

    with torch.inference_mode():
        for short in (1152, 1280, 1536):  # compiles; the second call compiles for any length
            run(short)
        before = _peak()
        rounds_of = [timed(partial(run, length)) for _ in range(rounds)]
    seconds, busy = (min(values) for values in zip(*rounds_of, strict=True))
    return {"seconds": seconds, "mb": _peak() - before} | ({"cpu_seconds": busy} if DEVICE == "cpu" else {})


def scores_mb(kind: str, length: int, config: NEOTextConfig, dtype: torch.dtype) -> float:
    """MB of the scores of all heads with `eager`, twice: before and after the softmax. Other back ends store none."""
    if kind != "eager":
        return 0.0
    return float(2 * config.num_attention_heads * length**2 * dtype.itemsize / 2**20)


def _free_mb() -> float:
    if DEVICE == "cuda":
        return float(torch.cuda.mem_get_info()[0] / 2**20)
    lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 1024


def _peak() -> float:
    if DEVICE == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_attention(lengths: list[int], rounds: int) -> dict[str, dict[str, Any]]:
    """The table; a back end that runs out of memory is reported."""
    table: dict[str, dict[str, Any]] = {}
    for length in lengths:
        for kind in KINDS:
            command = [sys.executable, __file__, "--attention", kind, str(length), "--rounds", str(rounds)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            lines = done.stdout.strip().splitlines()
            found = (
                json.loads(lines[-1]) if done.returncode == 0 else {"failed": done.stderr.strip()[-200:] or "killed"}
            )
            table[f"{kind} {length}"] = found
    return table


def line(found: Mapping[str, Any]) -> str:
    """A line of the table."""
    if "failed" in found:
        return str(found["failed"])
    if "needs_mb" in found:
        return f"not run: needs {found['needs_mb']:,.0f} MB for scores alone, {found['free_mb']:,.0f} MB are free"
    busy = f" ({found['cpu_seconds']:.3f} s of computation)" if "cpu_seconds" in found else ""
    return f"{found['seconds']:8.3f} s{busy} {found['mb']:8.0f} MB"


def measure_beside_qwen3(rounds: int, length: int = 4096) -> dict[str, float]:
    """Seconds of a forward pass and a training step of NEO-2B divided by those of Qwen3-1.7B, with equal tokens."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    shape = {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16}
    made: dict[str, Callable[[], Any]] = {
        "neo": lambda: NEOChatModel(NEOChatConfig()),
        "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**shape, num_key_value_heads=8, head_dim=128)),
    }
    seconds: dict[str, float] = {}
    ids = torch.randint(0, 100_000, (1, length), device=DEVICE)
    for name, make in made.items():
        with torch.device(DEVICE):
            torch.set_default_dtype(torch.bfloat16)
            model = make()
            torch.set_default_dtype(torch.float32)

        def forward(model: Any = model) -> None:
            with torch.no_grad():
                model(input_ids=ids, use_cache=False, logits_to_keep=1)

        def step(model: Any = model) -> None:
            model.zero_grad()
            model(input_ids=ids, labels=ids, use_cache=False).loss.backward()

        seconds[f"{name}_forward"], seconds[f"{name}_step"] = best(forward, rounds), best(step, rounds)
        del model
        torch.cuda.empty_cache()
    return seconds | {
        f"{what}_ratio": seconds[f"neo_{what}"] / seconds[f"qwen3_{what}"] for what in ("forward", "step")
    }


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each; the best counts")
    lengths = [4096] if DEVICE == "cpu" else [4096, 16384]
    parser.add_argument("--lengths", type=int, nargs="*", default=lengths, help="tokens of the attention table")
    parser.add_argument("--attention", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.attention:
        print(json.dumps(attention_once(options.attention[0], int(options.attention[1]), options.rounds)))
        return
    batch = measure_batch(options.rounds)
    table = measure_attention(options.lengths, 1 if DEVICE == "cpu" else options.rounds)
    beside = measure_beside_qwen3(options.rounds) if DEVICE == "cuda" else {}
    if options.json:
        print(json.dumps({**batch, "attention": table, "qwen3": beside}))
        return
    for name, value in batch.items():
        print(f"{name:24} {value:.1f}")
    for name, found in table.items():
        print(f"{name:24} {line(found)}")
    for name, value in beside.items():
        print(f"{name:24} {value:.3f}")


if __name__ == "__main__":
    main()
