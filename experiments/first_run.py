"""Measures what GRPO adds in the quickstart: five seeds, each with one and with two threads, and a control arm.

    python experiments/first_run.py OUT [--seeds 5] [--threads 1 2] [--control-seeds 5] [KEY=VALUE ...]

Runs `jigsaw launch quickstart` for every seed and number of threads, one after the other. The control arm has the same
schedule, but in each step the advantages are shuffled among all completions of the batch. The gradients keep their
size, but they no longer depend on which completion was better. The control arm runs with one thread.

OUT receives the runs with a log next to each, `table.md` (with the command and the machine), `figures.json` and
`curve.svg`. Finished runs are not repeated, and interrupted ones continue. It takes about half an hour on two idle
cores, so it is not part of `make bench`.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))  # PYTHONSAFEPATH leaves the folder of a script out

from experiments.findings import launch
from jigsaw.evaluation.log import read_log
from jigsaw.processes import usable_cores

CONTROL = "--shuffle-advantages"
"""First argument of the process that trains a run of the control arm; the others are those of `jigsaw`."""
MOST_BEFORE, LEAST_AFTER, LEAST_GAIN = 0.35, 0.75, 0.30
"""Criteria for every run: at most solved after the warm-up, at least solved after GRPO, lower end of the gain."""


def shuffle_advantages() -> None:
    """Patch the micro-batch builder to shuffle the advantages of every batch, seeded by the run's seed and the step."""
    import torch

    from jigsaw.training.micro_batch_builder import MicroBatchBuilder

    original = MicroBatchBuilder._advantages

    def shuffled(self: Any, rewards: Any) -> Any:
        advantages, trainer = original(self, rewards), self._trainer
        generator = torch.Generator().manual_seed(trainer.args.seed * 1_000_003 + trainer.state.global_step)
        return advantages[torch.randperm(len(advantages), generator=generator)]

    MicroBatchBuilder._advantages = shuffled


def read(run: Path) -> dict[str, Any]:
    """Share of solved held-out puzzles of a finished run: before and after GRPO, the paired gain, and the curve."""
    main, *others = read_log(run).sets
    assert main.warmup is not None and main.compared is not None
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    curve = [[line["step"], line["heldout/exact"]] for line in lines if "heldout/exact" in line]
    last = max(line["step"] for line in lines if line["stage"] == "grpo")
    photos = next((one.compared for one in others if one.name == "sample photos"), None)
    return {
        "before": asdict(main.warmup.estimates["exact"]),
        "after": asdict(main.model.estimates["exact"]),
        "gain": asdict(main.compared.changes["exact"]),
        "photos": None if photos is None else asdict(photos.changes["exact"]),
        "puzzles": main.model.num_puzzles,
        "warmup_steps": max(line["step"] for line in lines if line["stage"] == "sft"),
        "curve": [*curve, [last, main.model.estimates["exact"].value]],
    }


def meets_criteria(run: dict[str, Any]) -> bool:
    """Whether a run meets the criteria."""
    return bool(
        run["before"]["value"] <= MOST_BEFORE
        and run["after"]["value"] >= LEAST_AFTER
        and run["gain"]["low"] > LEAST_GAIN
    )


def table(runs: list[dict[str, Any]], control: list[dict[str, Any]], command: str) -> str:
    """All runs as Markdown."""
    first = (runs or control)[0]
    rows = [
        f"`{command}`, {machine()}; {first['puzzles']} held-out puzzles, of which guessing solves "
        f"{first['after']['chance']:.0%}; 95% intervals over pictures; the gain is paired by puzzle.",
        "",
        "| arm | seed | threads | warm-up steps | solved after warm-up | solved after GRPO | gain | meets criteria |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arm, results in (("GRPO", runs), ("control", control)):
        for run in results:
            meets = ("yes" if meets_criteria(run) else "no") if arm == "GRPO" else ""
            rows.append(
                f"| {arm} | {run['seed']} | {run['threads']} | {run['warmup_steps']} | {interval(run['before'])} | "
                f"{interval(run['after'])} | {interval(run['gain'], '+')} | {meets} |"
            )
    return "\n".join(rows) + "\n"


def interval(figure: dict[str, float], sign: str = "") -> str:
    """`0.21 [0.17, 0.26]`."""
    value, low, high = (format(figure[key], f"{sign}.3f") for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def machine() -> str:
    """The processor and the number of cores that this process may use."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {usable_cores()} cores"


def draw(runs: list[dict[str, Any]], control: list[dict[str, Any]], file: Path) -> None:
    """Plot the share of solved held-out puzzles by GRPO step: every run, the means of both arms, warm-up and chance."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "first run"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.2, 3.9), layout="constrained")
    for arm, color, name in ((control, "#8a8f98", "control: shuffled advantages"), (runs, "#1f6feb", "GRPO")):
        for run in arm:
            axes.plot(*zip(*run["curve"], strict=True), color=color, linewidth=0.8, alpha=0.35)
        if arm:
            steps = [step for step, _ in arm[0]["curve"]]
            means = [mean(run["curve"][place][1] for run in arm) for place in range(len(steps))]
            axes.plot(steps, means, color=color, linewidth=2.4, label=f"{name} ({len(arm)} run{'s' * (len(arm) > 1)})")
    before = mean(run["before"]["value"] for run in runs or control)
    chance = (runs or control)[0]["after"]["chance"]
    axes.axhline(before, color="#b26a00", linewidth=1.1, linestyle="--", label="after the warm-up")
    axes.axhline(chance, color="#555555", linewidth=1.1, linestyle=":", label="guessing")
    axes.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0, decimals=0))
    axes.set(xlabel="GRPO steps", ylabel="held-out puzzles solved", ylim=(0, 1.02), xlim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="center right", bbox_to_anchor=(1.0, 0.42))
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    """Train the missing runs, then write and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--control-seeds", type=int, default=5)
    options = parser.parse_intermixed_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    arms: dict[str, list[dict[str, Any]]] = {"grpo": [], "control": []}
    wanted = []
    for seed in range(max(options.seeds, options.control_seeds)):
        wanted += [("grpo", seed, threads) for threads in options.threads if seed < options.seeds]
        wanted += [("control", seed, 1)] if seed < options.control_seeds else []
    command = shlex.join(["python", "experiments/first_run.py", options.out.name, *sys.argv[2:]])
    for arm, seed, threads in wanted:
        run = out / f"{arm}-{seed}-{threads}"
        program = ("-m", "jigsaw") if arm == "grpo" else (str(Path(__file__).resolve()), CONTROL)
        settings = [f"output={run}", f"data.folder={out / 'data'}", f"seed={seed}", *options.overrides]
        launch(run, ["launch", "quickstart", *settings], str(threads), program)
        arms[arm].append({"seed": seed, "threads": threads, **read(run)})
        (out / "figures.json").write_text(json.dumps(arms, indent=1), encoding="utf-8")
        (out / "table.md").write_text(table(arms["grpo"], arms["control"], command), encoding="utf-8")
        draw(arms["grpo"], arms["control"], out / "curve.svg")
    print((out / "table.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    if sys.argv[1:2] == [CONTROL]:
        shuffle_advantages()
        from jigsaw.cli.command import main as jigsaw

        del sys.argv[1]
        jigsaw()
    else:
        main()
