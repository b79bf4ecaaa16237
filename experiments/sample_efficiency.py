"""What dynamic sampling and an adaptive curriculum are worth: held-out reward by optimizer step, over several seeds.

    python experiments/sample_efficiency.py sampling OUT [--seeds 3] [--recipe RECIPE] [KEY=VALUE ...]
    python experiments/sample_efficiency.py curriculum OUT [--seeds 3] [--recipe RECIPE] [KEY=VALUE ...]

A quarter of an hour and more, so `make bench` leaves it out. For each seed a warm-up is trained, and from it GRPO runs
twice: `plain` and `dynamic` (dead groups replaced), or `mixed` (puzzles of all sizes by their weights) and `adaptive`.
The recipes are `sampling.yaml` and `curriculum.yaml`; `--recipe` tries another, with a stage `sft` and one of `grpo`.
OUT gets the runs, each with a log beside it, `curves.svg` (mean over seeds, band from least to most) and
`figures.json`: for each run the step, the completions and the seconds at which its held-out reward first reached that
of the first variant's end. Rewards are means over the last three looks. Finished runs are found again, and begun ones
go on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from itertools import accumulate
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

sys.path.append(str(Path(__file__).resolve().parents[1]))  # PYTHONSAFEPATH leaves the folder of a script out

from experiments.findings import launch
from experiments.made_sources import make_sources
from jigsaw.processes import usable_cores

EXPERIMENTS = {
    "sampling": {"plain": ["sampling.dynamic=false"], "dynamic": ["sampling.dynamic=true"]},
    "curriculum": {"mixed": ["curriculum.mode=none"], "adaptive": ["curriculum.mode=adaptive"]},
}
"""What is compared, the baseline first."""
LOOKS = 3
"""Looks at held-out puzzles that are taken together."""


def curve(run: Path) -> list[dict[str, float]]:
    """For each look of a GRPO stage: step, smoothed held-out reward, completions and seconds so far."""
    grpo = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))["grpo"]
    each = grpo.get("prompts_per_step", 32) * grpo.get("num_generations", 16)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line["stage"] == "grpo"]
    drawn = [each * line.get("groups/drawn", 1.0) if "reward" in line else 0.0 for line in lines]
    looks = [(line, spent) for line, spent in zip(lines, accumulate(drawn), strict=True) if "heldout/reward" in line]
    rewards = [line["heldout/reward"] for line, _ in looks]
    return [
        {
            "step": line["step"],
            "reward": mean(rewards[max(0, place - LOOKS + 1) : place + 1]),
            "completions": completions,
            "seconds": line["seconds"],
        }
        for place, (line, completions) in enumerate(looks)
    ]


def reached(points: list[dict[str, float]], level: float) -> dict[str, float] | None:
    """The first look at which a level was reached, the begin aside; None where it never was."""
    return next((point for point in points[1:] if point["reward"] >= level), None)


def summary(curves: dict[str, list[list[dict[str, float]]]]) -> dict[str, Any]:
    """For each variant and seed where it reached the first variant's last level, and the share of that one's steps."""
    found: dict[str, Any] = {}
    first = next(iter(curves.values()))
    for variant, runs in curves.items():
        found[variant] = []
        for one, points in zip(first, runs, strict=True):
            at = reached(points, one[-1]["reward"])
            share = None if at is None else at["step"] / one[-1]["step"]
            found[variant].append({"level": one[-1]["reward"], "reached": at, "share_of_steps": share})
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
    figure.savefig(file)


def main() -> None:
    """Train what is missing, then draw and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("out", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--recipe", help="instead of the experiment's own")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_intermixed_args()  # overrides may follow the options, as in the usage
    out = options.out.resolve()
    recipe = options.recipe or str(Path(__file__).with_name(f"{options.experiment}.yaml"))
    make_sources(out / "data" / "made")
    threads = os.environ.get("OMP_NUM_THREADS", str(usable_cores()))
    given = [f"data.folder={out / 'data'}", *options.overrides]
    variants = EXPERIMENTS[options.experiment]
    curves: dict[str, list[list[dict[str, float]]]] = {name: [] for name in variants}
    for seed in range(options.seeds):
        warm = out / f"warmup-{seed}"
        launch(warm, ["launch", recipe, f"output={warm}", *given, "grpo=null", f"seed={seed}"], threads)
        start = ["sft=null", "model.tiny=null", f"model.path={warm / 'model'}", f"seed={seed}"]
        for name in variants:
            run = out / f"{name}-{seed}"
            launch(run, ["launch", recipe, f"output={run}", *given, *start, *variants[name]], threads)
            curves[name].append(curve(run))
    draw(curves, out / "curves.svg")
    found = summary(curves)
    (out / "figures.json").write_text(json.dumps({"curves": curves, "reached": found}, indent=1), encoding="utf-8")
    for name, runs in found.items():
        for seed, (run, points) in enumerate(zip(runs, curves[name], strict=True)):
            print(f"{name:9} seed {seed}: {told(run, points)}")


def told(run: dict[str, Any], points: list[dict[str, float]]) -> str:
    """One run in words."""
    last, at = points[-1], run["reached"]
    if at is None:
        end = f"{last['step']} steps, {last['completions']:.0f} completions"
        return f"never at {run['level']:.3f}; {last['reward']:.3f} after {end}"
    spent = f"{at['completions']:.0f} completions, {at['seconds']:.0f} s"
    return f"{run['level']:.3f} after {at['step']} steps ({run['share_of_steps']:.2f} of the steps), {spent}"


if __name__ == "__main__":
    main()
