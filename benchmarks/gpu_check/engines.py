"""vLLM next to the trainer: equal log-probabilities after every weight update, and a small run."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from gpu_check.check import GB, Check, NotRun, Verdict

ROOT = Path(__file__).resolve().parents[2]
UPDATES = 3
"""Number of weight updates."""

COUNT = 3
"""Completions per prompt."""

MOST = {"bfloat16": 1e-2, "float32": 1e-3}
"""Mean differences of log-probabilities, by dtype. NEO with causal images differs by 1e-2 in float32."""


def graphs_and_sleep(check: Check) -> Verdict:
    """The settings of recipes for one GPU."""
    return _follow(check, "qwen2_5_vl", "bfloat16", eager=False, sleep=True)


def graphs(check: Check) -> Verdict:
    """The settings of recipes for eight GPUs."""
    return _follow(check, "qwen2_5_vl", "bfloat16", eager=False, sleep=False)


def eager_and_sleep(check: Check) -> Verdict:
    """Without CUDA graphs and compilation."""
    return _follow(check, "qwen2_5_vl", "bfloat16", eager=True, sleep=True)


def neo(check: Check) -> Verdict:
    """A NEO in float32, so that causal images cannot be mistaken for rounding."""
    return _follow(check, "neo", "float32", eager=False, sleep=True)


def _row(number: int, sizes: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """A puzzle with images of unique noise."""
    generator = torch.Generator().manual_seed(number)
    images = [
        Image.fromarray(torch.randint(0, 256, (height, width, 3), generator=generator, dtype=torch.uint8).numpy())
        for width, height in sizes
    ]
    content: list[dict[str, str]] = []
    for tile in range(len(images)):
        content += [{"type": "text", "text": f"Tile {tile + 1}:"}, {"type": "image"}]
    content.append({"type": "text", "text": "Put the tiles in raster order, for example: 2, 1."})
    return {"id": f"row-{number}", "prompt": [{"role": "user", "content": content}], "images": images}


def _follow(check: Check, architecture: str, dtype: str, *, eager: bool, sleep: bool) -> Verdict:
    """Change the weights of a tiny model, copy them to vLLM, and compare log-probabilities each time."""
    from jigsaw.models import build_tiny, load_model, load_processor

    dtype = "float32" if check.small else dtype
    rows = [_row(0, [(256, 256)] * 2), _row(1, [(112, 84)] * 4), _row(2, [])]
    with tempfile.TemporaryDirectory() as folder:
        texts = [part["text"] for row in rows for part in row["prompt"][0]["content"] if "text" in part]
        sizes = {"hidden_size": 128, "num_layers": 2, "head_size": 64, "initializer_range": 0.1}
        path = build_tiny(architecture, Path(folder) / "model", texts=texts, **sizes)
        model, processor = load_model(str(path), dtype).to(check.device), load_processor(str(path))
        check.add(dtype=dtype, eager=eager or check.small, sleep=sleep and not check.small)
        engine = _engine(check, model, processor, dtype, share=0.2, room=2048, eager=eager, sleep=sleep)
        found = []
        for version in range(UPDATES + 1):
            if version:
                with torch.no_grad():
                    for parameter in model.parameters():
                        parameter.add_(0.03 * torch.randn_like(parameter))
            found.append(_difference(check, engine, model, processor, rows, version, tokens=16)[0])
            engine.sleep()
            check.add(**{f"difference_{version}": found[-1]})
        engine.close()
    if max(found) > MOST[dtype]:
        return Verdict("fail", f"log-probabilities differ by {max(found):.2g}, after {found.index(max(found))} updates")
    return Verdict("pass", f"log-probabilities differ by at most {max(found):.2g}")


def _engine(check: Check, model: Any, processor: Any, dtype: str, *, share: float, room: int, **options: bool) -> Any:
    from jigsaw.config.schema import RolloutSection
    from jigsaw.engines.vllm import colocated_engine

    rollout = RolloutSection(
        engine="vllm",
        max_model_len=room,
        gpu_memory_utilization=share,
        enforce_eager=options["eager"],
        sleep=options["sleep"],
    )
    return colocated_engine(model.config, processor, rollout, device=check.device, dtype=dtype, seed=0, completions=64)


def _difference(
    check: Check, engine: Any, model: Any, processor: Any, rows: Sequence[Any], version: int, tokens: int
) -> tuple[float, dict[str, float]]:
    """Mean difference of log-probabilities between vLLM and the trainer's pass; and the seconds of each part."""
    from jigsaw.engines import Sampling
    from jigsaw.engines.weights import Policy
    from jigsaw.models.load import vision_token_ids
    from jigsaw.models.prompt_batch import PromptBatch
    from jigsaw.models.shared_prefix import log_probabilities

    forbidden = tuple(vision_token_ids(processor))
    seconds = {}
    with check.span() as span:
        engine.sync(Policy(model, version=version))
    seconds["sync_seconds"] = span.seconds
    with check.span() as span:
        prompts = PromptBatch.encode(model, processor, rows, check.device)
    seconds["encode_seconds"] = span.seconds
    sampling = Sampling(count=COUNT, max_tokens=tokens, seeds=tuple(range(len(rows))), forbidden_tokens=forbidden)
    with check.span() as span:
        sampled = engine.generate(rows, sampling, prompts)
    seconds["rollout_seconds"] = span.seconds
    width = max(map(len, sampled.tokens))
    ids = torch.tensor([one + [0] * (width - len(one)) for one in sampled.tokens], device=check.device)
    mask = torch.tensor([[1] * len(one) + [0] * (width - len(one)) for one in sampled.tokens], device=check.device)
    theirs = torch.tensor([one + [0.0] * (width - len(one)) for one in sampled.log_probabilities], device=check.device)
    owner = [number for number in range(len(rows)) for _ in range(COUNT)]
    with check.span() as span, torch.no_grad():
        ours, _ = log_probabilities(model, prompts, owner, ids, mask, forbidden_tokens=forbidden)
    seconds["scoring_seconds"] = span.seconds
    return float(((ours - theirs).abs() * mask).sum() / mask.sum()), seconds


def tiny_run(check: Check) -> Verdict:
    """The tiny preset of the image recipe with ZeRO-2, vLLM and sleep, on photos of noise."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "photos").mkdir()
        for number in range(12):
            size = torch.randint(
                0, 256, (24, 32, 3), generator=torch.Generator().manual_seed(number), dtype=torch.uint8
            )
            Image.fromarray(size.numpy()).resize((320, 240)).save(folder / "photos" / f"{number}.png")
        place = "distributed.cpu_processes=1" if check.small else "distributed.gpus=1"
        command = [sys.executable, "-m", "jigsaw", "launch", "image-qwen2.5-vl-7b", "--tiny", place]
        command += ["distributed.zero=2", "rollout.engine=vllm", f"rollout.sleep={str(not check.small).lower()}"]
        command += ["rollout.gpu_memory_utilization=0.2", "model.dtype=bfloat16", f"output={folder / 'run'}"]
        command += [f"data.folder={folder / 'data'}", "evaluation.every=1"]
        for side in ("train", "eval"):  # a third is held out: of so few photos the recipe's hundredth would be none
            command += [f"data.{side}.0.build.source={folder / 'photos'}", f"data.{side}.0.build.heldout=0.34"]
        with check.span() as span:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        check.add(seconds=span.seconds)
        if done.returncode:
            print(done.stdout[-2000:], done.stderr[-3000:], sep="\n")
            return Verdict("fail", (done.stderr.strip().splitlines() or ["it printed nothing"])[-1])
        lines = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if line.get("stage") == "grpo" and "loss" in line]
    check.add(last_step={key: value for key, value in steps[-1].items() if isinstance(value, int | float)})
    return Verdict("pass", f"{len(steps)} steps, evaluated and saved")


def checkpoint(check: Check) -> Verdict:
    """Sixteen puzzles of nine tiles with the checkpoint of `--model`: seconds of each part, and memory.

    Raises:
        NotRun: no checkpoint was given.
    """
    from jigsaw.models import load_model, load_processor

    if check.model is None:
        raise NotRun("needs real weights: name the folder of a Qwen2.5-VL checkpoint with --model")
    dtype = "float32" if check.small else "bfloat16"
    model, processor = load_model(check.model, dtype).to(check.device), load_processor(check.model)
    engine = _engine(check, model, processor, dtype, share=0.45, room=4096, eager=False, sleep=True)
    rows = [_row(number, [(213, 160)] * 9) for number in range(2 if check.small else 16)]
    found, tokens = [], 16 if check.small else 512
    for version in range(2):
        difference, seconds = _difference(check, engine, model, processor, rows, version, tokens)
        found.append(difference)
        reserved = {} if check.small else {"reserved_gb": torch.cuda.max_memory_reserved() / GB}
        engine.sleep()
        figures = {"difference": difference, **seconds, **reserved}
        check.add(**{f"{name}_{version}": value for name, value in figures.items()})
    engine.close()
    if max(found) > 0.025:
        return Verdict("fail", f"log-probabilities differ by {max(found):.2g} on average; runs warn at 0.025")
    return Verdict("pass", f"log-probabilities differ by {max(found):.2g} on average; runs warn at 0.025")
