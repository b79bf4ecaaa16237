"""Measures dynamic sampling and the adaptive curriculum: held-out reward by optimizer step, over several seeds.

    python experiments/sample_efficiency.py sampling OUT [--seeds 3] [--recipe RECIPE] [KEY=VALUE ...]
    python experiments/sample_efficiency.py curriculum OUT [--seeds 3] [--recipe RECIPE] [KEY=VALUE ...]

It takes half an hour, so it is not part of `make bench`. For each seed, a warm-up is trained, and GRPO starts from it
twice: as `plain` and `dynamic` (zero-variance groups are replaced), or as `mixed` (puzzles of all sizes by their
weights) and `adaptive`. The recipes are `sampling.yaml` and `curriculum.yaml`; `--recipe` names another one, which
needs the stages `sft` and `grpo`.

OUT receives the runs with a log next to each, `curves.svg` (mean over seeds, band from minimum to maximum) and
`figures.json`: for each run the step, completions and seconds at which its held-out reward first reached the final
reward of the first variant. Rewards are means over the last three periodic evaluations. Finished runs are not
repeated, and interrupted ones continue.
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
from experiments.synthetic_sources import make_sources
from jigsaw.processes import usable_cores

EXPERIMENTS = {
    "sampling": {"plain": ["sampling.dynamic=false"], "dynamic": ["sampling.dynamic=true"]},
    "curriculum": {"mixed": ["curriculum.mode=none"], "adaptive": ["curriculum.mode=adaptive"]},
}
"""Variants of each experiment with their overrides, the baseline first."""
AVERAGED = 3
"""Number of periodic evaluations that are averaged."""


def curve(run: Path) -> list[dict[str, float]]:
    """For each periodic evaluation of a GRPO stage: step, smoothed held-out reward, completions and seconds so far."""
    grpo = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))["grpo"]
    each = grpo.get("prompts_per_step", 32) * grpo.get("num_generations", 16)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line["stage"] == "grpo"]
    drawn = [each * line.get("groups/drawn", 1.0) if "reward" in line else 0.0 for line in lines]
    spent = zip(lines, accumulate(drawn), strict=True)
    evaluations = [(line, completions) for line, completions in spent if "heldout/reward" in line]
    rewards = [line["heldout/reward"] for line, _ in evaluations]
    return [
        {
            "step": line["step"],
            "reward": mean(rewards[max(0, place - AVERAGED + 1) : place + 1]),
            "completions": completions,
            "seconds": line["seconds"],
        }
        for place, (line, completions) in enumerate(evaluations)
    ]


def reached(points: list[dict[str, float]], level: float) -> dict[str, float] | None:
    """The first evaluation after the start that reached a level, or None."""
    return next((point for point in points[1:] if point["reward"] >= level), None)


def summary(curves: dict[str, list[list[dict[str, float]]]]) -> dict[str, Any]:
    """For each variant and seed: where it reached the first variant's final level, as a share of that run's steps."""
    result: dict[str, Any] = {}
    first = next(iter(curves.values()))
    for variant, runs in curves.items():
        result[variant] = []
        for one, points in zip(first, runs, strict=True):
            at = reached(points, one[-1]["reward"])
            share = None if at is None else at["step"] / one[-1]["step"]
            result[variant].append({"level": one[-1]["reward"], "reached": at, "share_of_steps": share})
    return result


def draw(curves: dict[str, list[list[dict[str, float]]]], file: Path) -> None:
    """Plot the curves, one colour per variant."""
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
    """Train the missing runs, then write and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("out", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--recipe", help="recipe to use instead of the experiment's own")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_intermixed_args()  # overrides may follow the options, as in the usage
    out = options.out.resolve()
    recipe = options.recipe or str(Path(__file__).with_name(f"{options.experiment}.yaml"))
    make_sources(out / "data" / "made")
    threads = os.environ.get("OMP_NUM_THREADS", str(usable_cores()))
    overrides = [f"data.folder={out / 'data'}", *options.overrides]
    variants = EXPERIMENTS[options.experiment]
    curves: dict[str, list[list[dict[str, float]]]] = {name: [] for name in variants}
    for seed in range(options.seeds):
        warm = out / f"warmup-{seed}"
        launch(warm, ["launch", recipe, f"output={warm}", *overrides, "grpo=null", f"seed={seed}"], threads)
        start = ["sft=null", "model.tiny=null", f"model.path={warm / 'model'}", f"seed={seed}"]
        for name in variants:
            run = out / f"{name}-{seed}"
            launch(run, ["launch", recipe, f"output={run}", *overrides, *start, *variants[name]], threads)
            curves[name].append(curve(run))
    draw(curves, out / "curves.svg")
    reached_by = summary(curves)
    figures = json.dumps({"curves": curves, "reached": reached_by}, indent=1)
    (out / "figures.json").write_text(figures, encoding="utf-8")
    for name, runs in reached_by.items():
        for seed, (run, points) in enumerate(zip(runs, curves[name], strict=True)):
            print(f"{name:9} seed {seed}: {described(run, points)}")


def described(run: dict[str, Any], points: list[dict[str, float]]) -> str:
    """One run as a line of text."""
    last, at = points[-1], run["reached"]
    if at is None:
        end = f"{last['step']} steps, {last['completions']:.0f} completions"
        return f"never reached {run['level']:.3f}; {last['reward']:.3f} after {end}"
    spent = f"{at['completions']:.0f} completions, {at['seconds']:.0f} s"
    return f"{run['level']:.3f} after {at['step']} steps ({run['share_of_steps']:.2f} of the steps), {spent}"


if __name__ == "__main__":
    main()
