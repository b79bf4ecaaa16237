"""Compares a GRPO step with shared prompts with TRL's GRPOTrainer on the same puzzles and completions.

    python benchmarks/grpo_step.py [--json] [--rounds 3] [--table]

A tiny Qwen2.5-VL in float32 on one CPU thread (bfloat16 on a GPU), one puzzle of nine 224-pixel tiles (576 visual
tokens), 8 completions of 32 tokens. Ratios are TRL's figure divided by ours, so more is better, except for memory,
where ours is divided by TRL's and less is better. The two sides run alternately in separate processes, so that neither
warms up or fills memory for the other. On a CPU, seconds are CPU seconds, which hardly depend on other work.

    loss_ratio            seconds of loss and backward pass, best round
    step_ratio            seconds of a whole training step: encoding, sampling, rewards, loss, backward, update
    memory_ratio          peak memory above the level before the step
    gradient_difference   largest relative difference of a parameter's gradient (norm of the difference over the norm),
                          for the same completions and advantages
    unequal_loss_ratio    as loss_ratio, for 16 completions whose lengths are spread as in practice: log-normal around
                          32 tokens, which TRL pads to the longest

Losses must be equal too; otherwise there is an error and no figure. `--json` prints these; without it, seconds and
bytes of both sides are printed too. `--table` repeats this for groups of 4, 8 and 16 and for four, nine and sixteen
tiles.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

# In a script, its folder comes first in sys.path, and a module here would hide one of ours with the same name.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

TILE, LENGTH, SPREAD = 224, 32, 0.8
SIDES = ("trl", "ours")
RATIOS = ("loss_ratio", "step_ratio", "memory_ratio", "gradient_difference", "unequal_loss_ratio")
"""Keys that `--json` prints."""


def row(tiles: int) -> dict[str, Any]:
    """A puzzle of `tiles` tiles of noise."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    content: list[dict[str, str]] = []
    for number in range(tiles):
        content += [{"type": "text", "text": f"Tile {number + 1}:"}, {"type": "image"}]
    content.append({"type": "text", "text": "Put the tiles in raster order."})
    return {
        "id": "bench",
        "task": "image",
        "num_pieces": tiles,
        "prompt": [{"role": "user", "content": content}],
        "images": [Image.fromarray(rng.integers(0, 256, (TILE, TILE, 3), dtype=np.uint8)) for _ in range(tiles)],
        "answer": list(range(1, tiles + 1)),
        "answer_style": "direct",
        "classes": None,
    }


def checkpoint(folder: Path, tiles: int) -> str:
    """A tiny Qwen2.5-VL from random weights, on disk."""
    from jigsaw.models.tiny import TinySizes, write_tiny

    texts = [part["text"] for part in row(tiles)["prompt"][0]["content"] if part["type"] == "text"]
    write_tiny("qwen2_5_vl", TinySizes(initializer_range=0.05), texts, folder)
    return str(folder)


def trainer_of(side: str, path: str, tiles: int, group: int, folder: str) -> Any:
    """A trainer whose completions are all `LENGTH` tokens long."""
    import datasets
    import torch
    from transformers import AutoModelForImageTextToText
    from trl import GRPOConfig, GRPOTrainer

    from jigsaw.config.schema import RolloutSection, SamplingSection
    from jigsaw.models.load import load_model, load_processor, vision_token_ids
    from jigsaw.rewards import Composition
    from jigsaw.training.grpo import grpo_trainer

    cuda = torch.cuda.is_available()
    processor = load_processor(path)
    # TRL gets the model as its users open it, with attention window by window and patches by convolution.
    if side == "trl":
        model = AutoModelForImageTextToText.from_pretrained(path, trust_remote_code=False)
    else:
        model = load_model(path)
    model.train()
    ends = [processor.tokenizer.eos_token_id, processor.tokenizer.pad_token_id]
    config = GRPOConfig(
        folder,
        num_generations=group,
        per_device_train_batch_size=group,
        max_completion_length=LENGTH,
        learning_rate=0.0,  # the optimizer step runs, but the weights stay equal to those of the other side
        max_steps=1000,
        use_cpu=not cuda,
        bf16=cuda,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        # No completion ends early, so that both sides have the same work.
        generation_kwargs={"suppress_tokens": sorted({*vision_token_ids(processor), *ends})},
    )
    common = {"model": model, "args": config, "processing_class": processor}
    puzzle = row(tiles)
    rows = datasets.Dataset.from_dict({"number": list(range(64))}).with_transform(
        lambda batch: {key: [value] * len(batch["number"]) for key, value in puzzle.items()}
    )
    if side == "trl":
        return GRPOTrainer(reward_funcs=letters, train_dataset=rows, **common)
    return grpo_trainer(
        model=model,
        processor=processor,
        puzzles=rows,
        config=config,
        composition=Composition([f"{Path(__file__).resolve()}:letters"]),
        rollout=RolloutSection(),
        sampling=SamplingSection(self_check=False),  # belongs to the first step of a run only
    )


def lengths_of(group: int, *, unequal: bool) -> list[int]:
    """Tokens of each completion: all `LENGTH`, or evenly spaced quantiles of a log-normal distribution of that mean."""
    if not unequal:
        return [LENGTH] * group
    normal = NormalDist(math.log(LENGTH) - SPREAD**2 / 2, SPREAD)
    return [max(1, round(math.exp(normal.inv_cdf((number + 0.5) / group)))) for number in range(group)]


def letters(completions: Any, **columns: Any) -> list[float]:
    """A reward that differs between random completions."""
    texts = [text if isinstance(text, str) else text[0]["content"] for text in completions]
    return [sum(map(str.isalpha, text)) / LENGTH for text in texts]


def batches(trainer: Any, side: str, group: int) -> Iterator[Any]:
    """The batches of the trainer's loop, step after step, without end."""
    if side == "ours":
        trainer.state.max_steps = trainer.args.max_steps
        yield from trainer.get_train_dataloader()
    while True:
        trainer._step, trainer._buffered_inputs = 0, None
        yield [trainer.train_dataset[0] for _ in range(group)]


class Peak:
    """Peak memory of this process above the level at the start, in bytes: resident; on a GPU its own count."""

    def __enter__(self) -> Peak:
        import torch

        self._cuda = torch.cuda.is_available()
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
            self._start = torch.cuda.memory_allocated()
            return self
        self._start = self._highest = _resident()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.002):
            self._highest = max(self._highest, _resident())

    def __exit__(self, *_: object) -> None:
        import torch

        if self._cuda:
            self.bytes = torch.cuda.max_memory_allocated() - self._start
            return
        self._done.set()
        self._thread.join()
        self.bytes = self._highest - self._start


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(
    side: str, path: str, tiles: int, group: int, rounds: int, share: str, *, unequal: bool
) -> dict[str, float]:
    """Measure one side in this process; writes loss and gradients of fixed completions to the folder `share`."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(side, path, tiles, group, folder)
        trainer.create_optimizer_and_scheduler(1000)
        trainer.model_wrapped = trainer.model = trainer.model.to(trainer.accelerator.device)
        trainer.current_gradient_accumulation_steps = 1
        steps = batches(trainer, side, group)

        cuda = torch.cuda.is_available()
        clock = time.perf_counter if cuda else time.process_time

        def seconds(run: Any) -> float:
            start = clock()
            run()
            if cuda:
                torch.cuda.synchronize()
            return clock() - start

        def step() -> None:
            trainer.training_step(trainer.model, next(steps), None)
            trainer.optimizer.step()
            trainer.optimizer.zero_grad()

        with Peak() as peak:
            step()
        whole = min(seconds(step) for _ in range(rounds))
        torch.manual_seed(0)
        trainer._metrics["train"].clear()
        generator = torch.Generator().manual_seed(1)
        lengths = torch.tensor(lengths_of(group, unequal=unequal))
        completions = torch.randint(0, 200, (group, int(lengths.max())), generator=generator).to(trainer.model.device)
        mask = (torch.arange(completions.shape[1]) < lengths[:, None]).long().to(completions.device)
        advantages = torch.randn(group, generator=generator).to(trainer.model.device)
        batch = trainer._prepare_inputs(next(steps))
        if side == "trl":
            batch |= {"completion_ids": completions, "completion_mask": mask, "advantages": advantages}
            batch["num_items_in_batch"] = mask.sum()
            for name in {"mm_token_type_ids", "token_type_ids"} & batch.keys():  # 0 on completions, however long
                prompts = batch[name][:, : batch["prompt_ids"].shape[1]]
                batch[name] = torch.nn.functional.pad(prompts, (0, completions.shape[1]))
        else:
            fixed = {"completion_ids": completions, "completion_mask": mask, "num_items": mask.sum()}
            batch = {"micro_batch": replace(batch["micro_batch"], advantages=advantages, **fixed)}

        # TRL excludes suppressed tokens from sampling but not from the distribution for scoring; ours excludes
        # them from both. Here both score with the complete distribution.
        trainer.forbidden_tokens = []

        def loss() -> None:
            trainer.model.zero_grad()
            with trainer.compute_loss_context_manager():
                found.append(trainer.compute_loss(trainer.model, batch))
            found[-1].backward()

        found: list[Any] = []
        passes = min(seconds(loss) for _ in range(rounds))
        gradients = {name: p.grad.cpu() for name, p in trainer.model.named_parameters() if p.grad is not None}
        torch.save({"loss": float(found[-1]), "gradients": gradients}, Path(share) / f"{side}.pt")
    return {"loss_seconds": passes, "step_seconds": whole, "peak_bytes": peak.bytes}


def compare(tiles: int, group: int, rounds: int, *, unequal: bool = False) -> dict[str, float]:
    """Measure both sides, each in its own process."""
    import torch

    with tempfile.TemporaryDirectory() as share:
        path = checkpoint(Path(share) / "model", tiles)
        figures = {}
        for side in SIDES:
            arguments = [side, path, str(tiles), str(group), str(rounds), share, str(int(unequal))]
            done = subprocess.run(
                [sys.executable, __file__, "--side", *arguments], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise SystemExit(done.stderr)
            figures[side] = json.loads(done.stdout.splitlines()[-1])
        left = {side: torch.load(Path(share) / f"{side}.pt", weights_only=True) for side in SIDES}
    theirs, ours = (left[side]["gradients"] for side in SIDES)
    if theirs.keys() != ours.keys():
        raise SystemExit(f"gradients of other parameters: {sorted(theirs.keys() ^ ours.keys())}")
    losses = [left[side]["loss"] for side in SIDES]
    if abs(losses[0] - losses[1]) > (1e-2 if torch.cuda.is_available() else 1e-5):
        raise SystemExit(f"the losses are not equal: {losses[0]} and {losses[1]}")
    apart = max(float((ours[name] - value).norm() / value.norm()) for name, value in theirs.items() if value.norm() > 0)
    return {
        "loss_ratio": figures["trl"]["loss_seconds"] / figures["ours"]["loss_seconds"],
        "step_ratio": figures["trl"]["step_seconds"] / figures["ours"]["step_seconds"],
        "memory_ratio": figures["ours"]["peak_bytes"] / figures["trl"]["peak_bytes"],
        "gradient_difference": apart,
        **{f"{side}_{name}": value for side in SIDES for name, value in figures[side].items()},
    }


def main() -> None:
    """Print the figures, as a table or as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--side", nargs=7, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side, path, tiles, group, rounds, share, unequal = options.side
        found = measure(side, path, int(tiles), int(group), int(rounds), share, unequal=unequal == "1")
        print(json.dumps(found))
        return
    if options.table:
        print("tiles  group  loss  step  memory  gradients apart")
        for tiles, group in ((4, 8), (9, 4), (9, 8), (9, 16), (16, 8)):
            found = compare(tiles, group, options.rounds)
            ratios = f"{found['loss_ratio']:4.1f}  {found['step_ratio']:4.1f}  {found['memory_ratio']:6.2f}"
            print(f"{tiles:5}  {group:5}  {ratios}  {found['gradient_difference']:.1e}", flush=True)
        return
    found = compare(9, 8, options.rounds)
    found["unequal_loss_ratio"] = compare(9, 16, options.rounds, unequal=True)["loss_ratio"]
    if options.json:
        print(json.dumps({name: found[name] for name in RATIOS}))
        return
    for name, value in found.items():
        print(f"{name:22} {value:.4g}")


if __name__ == "__main__":
    main()
