"""What dynamic sampling and an adaptive curriculum are worth: held-out reward by optimizer step, over several seeds.

    python benchmarks/_sample_efficiency.py OUT [--recipe quickstart] [--seeds 3] [KEY=VALUE ...]

Hours on two cores, so `make bench` leaves it out. Per seed the recipe's warm-up is trained once; from it GRPO runs
`plain`, `dynamic` (dead groups replaced) and, with `--curriculum`, `adaptive`. OUT gets the runs, `curves.png` (mean
over seeds, band from least to most) and `figures.json`: for each variant and seed the step, the generation batches and
the seconds at which the held-out reward first reached that of the plain run's end. Rewards are means over the last
three looks. Finished runs are found again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from itertools import accumulate
from pathlib import Path
from statistics import mean
from typing import Any

VARIANTS = {
    "plain": ["sampling.dynamic=false"],
    "dynamic": ["sampling.dynamic=true"],
    "adaptive": ["sampling.dynamic=false", "curriculum.mode=adaptive"],
}
LOOKS = 3
"""Looks at held-out puzzles that are taken together."""


def launch(recipe: str, output: Path, *overrides: str) -> None:
    """Train a run, unless it is there."""
    if (output / "DONE").exists():
        return
    command = [sys.executable, "-P", "-m", "jigsaw", "launch", recipe, f"output={output}", *overrides]
    subprocess.run([*command, "--resume"] if output.exists() else command, check=True)


def curve(run: Path) -> list[dict[str, float]]:
    """For each look of a GRPO stage: step, smoothed held-out reward, completions and seconds so far."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line["stage"] == "grpo"]
    drawn = [line.get("groups/drawn", 1.0) if "reward" in line else 0.0 for line in lines]
    spent = accumulate(drawn)
    looks = [(line, batches) for line, batches in zip(lines, spent, strict=True) if "heldout/reward" in line]
    rewards = [line["heldout/reward"] for line, _ in looks]
    return [
        {
            "step": line["step"],
            "reward": mean(rewards[max(0, place - LOOKS + 1) : place + 1]),
            "batches": batches,
            "seconds": line["seconds"],
        }
        for place, (line, batches) in enumerate(looks)
    ]


def reached(points: list[dict[str, float]], level: float) -> dict[str, float] | None:
    """The first look at which a level was reached, the begin aside; None where it never was."""
    return next((point for point in points[1:] if point["reward"] >= level), None)


def summary(curves: dict[str, list[list[dict[str, float]]]]) -> dict[str, Any]:
    """For each variant and seed where it reached the plain run's last level, and the share of the plain run's steps."""
    found: dict[str, Any] = {}
    for variant, runs in curves.items():
        found[variant] = []
        for plain, points in zip(curves["plain"], runs, strict=True):
            at = reached(points, plain[-1]["reward"])
            share = None if at is None else at["step"] / plain[-1]["step"]
            found[variant].append({"level": plain[-1]["reward"], "reached": at, "share_of_steps": share})
    return found


def draw(curves: dict[str, list[list[dict[str, float]]]], file: Path) -> None:
    """The curves, one colour a variant."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for variant, runs in curves.items():
        steps = [point["step"] for point in runs[0]]
        rewards = [[run[place]["reward"] for run in runs] for place in range(len(steps))]
        (line,) = axes.plot(steps, [mean(values) for values in rewards], label=variant)
        axes.fill_between(
            steps, list(map(min, rewards)), list(map(max, rewards)), alpha=0.2, color=line.get_color(), linewidth=0
        )
    axes.set_xlabel("optimizer steps")
    axes.set_ylabel("held-out reward")
    axes.legend()
    figure.savefig(file, dpi=150)


def main() -> None:
    """Train what is missing, then draw and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--recipe", default="quickstart")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--curriculum", action="store_true")
    options = parser.parse_args()
    out = options.out.resolve()
    variants = [name for name in VARIANTS if name != "adaptive" or options.curriculum]
    curves: dict[str, list[list[dict[str, float]]]] = {name: [] for name in variants}
    for seed in range(options.seeds):
        warm = out / f"warmup-{seed}"
        launch(options.recipe, warm, *options.overrides, "grpo=null", f"seed={seed}")
        for name in variants:
            start = ["sft=null", "model.tiny=null", f"model.path={warm}/model", f"seed={seed}"]
            run = out / f"{name}-{seed}"
            launch(options.recipe, run, "evaluation.every=10", *options.overrides, *start, *VARIANTS[name])
            curves[name].append(curve(run))
    draw(curves, out / "curves.png")
    found = summary(curves)
    (out / "figures.json").write_text(json.dumps({"curves": curves, "reached": found}, indent=1), encoding="utf-8")
    for name, runs in found.items():
        shares = ["never" if (share := run["share_of_steps"]) is None else f"{share:.2f}" for run in runs]
        print(f"{name:10} share of the plain run's steps: {', '.join(shares)}")


if __name__ == "__main__":
    main()
