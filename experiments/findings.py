"""`make findings`: tests claims of the papers with tiny models and several seeds, and reports every result.

In: `experiments/findings/findings.yaml`. Out: a run folder per seed and run (finished runs are not repeated),
`findings.json` and a page for the documentation. Both arms of a claim start from the same warm-up and are evaluated on
the same held-out puzzles. The interval of their difference is Student's t over the seeds.

    python experiments/findings.py experiments/findings/findings.yaml --out runs/findings --page docs/findings.md
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml

sys.path.append(str(Path(__file__).resolve().parents[1]))  # PYTHONSAFEPATH leaves the folder of a script out

from experiments.synthetic_sources import make_questions, make_sources
from jigsaw.errors import JigsawError
from jigsaw.evaluation.log import read_log
from jigsaw.files import write_atomically
from jigsaw.results.chance import chance_of_right
from jigsaw.results.formatting import heading
from jigsaw.results.tables import Cell, PaperTable, Row, printed
from jigsaw.rewards import chance_place_accuracy
from jigsaw.run_folder import RunFolder

FILE = "findings.json"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the chosen findings and write their results."""
    cores = os.cpu_count() or 1
    parser = argparse.ArgumentParser(prog="python experiments/findings.py", description=__doc__)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/findings"))
    parser.add_argument("--page", type=Path, default=None)
    parser.add_argument("--only", action="append", help="name of a finding; may be repeated")
    parser.add_argument("--seeds", type=int, default=None, help="maximum number of the plan's seeds")
    parser.add_argument("--jobs", type=int, default=min(cores, 4), help="number of parallel runs; they share the cores")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE, a recipe override for every run")
    options = parser.parse_args(arguments)
    try:
        plan = yaml.safe_load(options.plan.read_text(encoding="utf-8"))
        seeds = plan["seeds"][: options.seeds]
        chosen = [entry for entry in plan["findings"] if not options.only or entry["name"] in options.only]
        if not chosen:
            names = ", ".join(entry["name"] for entry in plan["findings"])
            raise JigsawError(f"--only: no such finding. {options.plan} has: {names}")
        make_sources(options.out / "data" / "made")
        if plan.get("questions"):
            make_questions(options.out / "data" / "made-questions")
        names = in_order(plan["runs"], [arm for entry in chosen for arm in entry["arms"]])
        runs = plan["runs"]

        def arguments_of(seed: int | str, name: str) -> list[str]:
            return launch_arguments(runs[name], name, seed, options.plan.parent, options.out, options.set)

        # All warm-ups come first, so that no worker waits for one while other runs are ready.
        commands = {(seed, name): arguments_of(seed, name) for name in names for seed in seeds}
        run_all(runs, commands, options.out, options.jobs)
        loops = {name: loop(arguments_of("$SEED", name), seeds) for name in names}
        results = [compare(entry, runs, seeds, loops, options.out) for entry in chosen]
        write_atomically(options.out / FILE, json.dumps(results, indent=2))
        command = shlex.join(["python", "experiments/findings.py", *(arguments or sys.argv[1:])])
        text = page(results, command)
        if options.page is not None:
            write_atomically(options.page, text)
        print(text)
    except (JigsawError, OSError) as error:
        sys.exit(f"findings: {error}")


def in_order(runs: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """The named runs and the runs that they start from, each after its start.

    Raises:
        JigsawError: the plan has no run of this name.

    >>> in_order({"a": {"after": "b"}, "b": {}, "c": {}}, ["a"])
    ['b', 'a']
    """
    ordered: list[str] = []
    for name in names:
        if name not in runs:
            raise JigsawError(f"the plan has no run {name!r}; it has {', '.join(runs)}")
        before = runs[name].get("after")
        ordered += in_order(runs, [before]) if before else []
        ordered.append(name)
    return list(dict.fromkeys(ordered))


def launch_arguments(
    run: Mapping[str, Any], name: str, seed: int | str, recipes: Path, out: Path, overrides: Sequence[str]
) -> list[str]:
    """Arguments of `jigsaw` for a run of the plan; `seed` may be a shell variable."""
    after = [f"model.path={folder_of(out, seed, run['after'])}/model"] if run.get("after") else []
    plan = ["launch", str(recipes / run["recipe"]), *run.get("set", ()), *after, f"data.folder={out}/data"]
    return [*plan, *overrides, f"seed={seed}", f"name={name}-{seed}", f"output={folder_of(out, seed, name)}"]


def loop(arguments: Sequence[str], seeds: Sequence[int]) -> str:
    """The shell command that repeats a run with every seed.

    >>> loop(["launch", "a.yaml", "output=runs/$SEED"], [0, 1])
    'for SEED in 0 1; do jigsaw launch a.yaml output=runs/$SEED; done'
    """
    quoted = " ".join(word if "$SEED" in word else shlex.quote(word) for word in arguments)
    return f"for SEED in {' '.join(map(str, seeds))}; do jigsaw {quoted}; done"


def folder_of(out: Path, seed: int | str, name: str) -> Path:
    """Folder of a run."""
    return out / f"seed-{seed}" / name


def run_all(
    runs: Mapping[str, Mapping[str, Any]], commands: Mapping[tuple[int, str], Sequence[str]], out: Path, jobs: int
) -> None:
    """Run commands, `jobs` in parallel, each after the run that it starts from. Finished runs are skipped.

    Raises:
        JigsawError: a run failed. Runs that had begun are finished first.
    """
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    began: dict[tuple[int, str], Future[None]] = {}

    def run(seed: int, name: str) -> None:
        if before := runs[name].get("after"):
            began[seed, before].result()
        launch(folder_of(out, seed, name), commands[seed, name], threads)

    with ThreadPoolExecutor(jobs) as pool:
        for seed, name in commands:  # a run is submitted after its start, so waiting for the start cannot deadlock
            began[seed, name] = pool.submit(run, seed, name)
        try:
            wait(began.values(), return_when="FIRST_EXCEPTION")
            for future in began.values():
                if future.done():
                    future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def launch(folder: Path, arguments: Sequence[str], threads: str, program: Sequence[str] = ("-m", "jigsaw")) -> None:
    """Run a recipe unless its run is finished; resume an interrupted run.

    Args:
        folder: run folder; the log is written next to it.
        arguments: arguments of the command.
        threads: `OMP_NUM_THREADS` of the process.
        program: program that Python runs: the `jigsaw` command, or a script that modifies it.

    Raises:
        JigsawError: the command failed.
    """
    if RunFolder(folder).done.is_file():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    resume = ["--resume"] if RunFolder(folder).recipe.is_file() else []
    start = time.monotonic()
    with (folder.parent / f"{folder.name}.log").open("w", encoding="utf-8") as log:
        code = subprocess.run(
            [sys.executable, *program, *arguments, *resume],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": threads},
            check=False,
        ).returncode
    if code:
        raise JigsawError(f"jigsaw {shlex.join(arguments)} ended with code {code}; see {log.name}")
    print(f"{folder}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)


def compare(
    entry: Mapping[str, Any],
    runs: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
    commands: Mapping[str, str],
    out: Path,
) -> dict[str, Any]:
    """The result of a finding.

    Args:
        entry: the finding in the plan: `name`, `claim`, `arms`, `figure`.
        runs: runs of the plan.
        seeds: seeds that were run.
        commands: shell command of each run, for all seeds.
        out: folder of the runs.

    Returns:
        The claim, the chance level, for each run (including the runs that the arms start from) its `command`, the
        `values` per seed and their `mean`, the mean difference of the arms with its interval, and the verdict.
    """
    first, second = entry["arms"]
    figures: dict[str, dict[str, Any]] = {}
    chance = 0.0
    for name in in_order(runs, entry["arms"]):
        values = []
        for seed in seeds:
            value, chance = figure(folder_of(out, seed, name), entry["figure"])
            values.append(value)
        figures[name] = {"values": values, "mean": mean(values), "command": commands[name]}
    pairs = zip(figures[first]["values"], figures[second]["values"], strict=True)
    difference = student([one - other for one, other in pairs])
    asked = {key: entry[key] for key in ("name", "claim", "arms", "figure")} | {"seeds": list(seeds)}
    return asked | {"chance": chance, "runs": figures, "difference": difference, "verdict": verdict(difference)}


def figure(run: Path, wanted: Mapping[str, Any]) -> tuple[float, float]:
    """A metric of a run's final model on one kind of held-out puzzle, and its chance level (0 if it has none).

    Raises:
        JigsawError: the run has no prediction on puzzles of this kind.
    """
    kind = wanted.get("grid")
    items = [
        item
        for item in read_log(run).main.model.samples
        if item.task == wanted["task"] and (kind is None or item.grid == tuple(kind))
    ]
    if not items:
        raise JigsawError(f"{run} has no prediction on {wanted['task']} puzzles of grid {kind}")
    value = mean(float(getattr(item, wanted["name"])) for item in items)
    if wanted["name"] == "exact":
        return value, mean(chance_of_right(vars(item)) or 0.0 for item in items)
    return value, mean(chance_place_accuracy(item.num_pieces, item.classes) for item in items)


def student(differences: Sequence[float]) -> dict[str, Any]:
    """Mean of a few differences with Student's 95% interval; no interval for fewer than two.

    >>> spread = student([0.1, 0.2, 0.3])
    >>> round(spread["value"], 3), round(spread["low"], 3), round(spread["high"], 3)
    (0.2, -0.048, 0.448)
    """
    from scipy.stats import t

    middle, count = mean(differences), len(differences)
    if count < 2:
        return {"value": middle, "low": None, "high": None, "seeds": count}
    reach = float(t.ppf(0.975, count - 1)) * stdev(differences) / math.sqrt(count)
    return {"value": middle, "low": middle - reach, "high": middle + reach, "seeds": count}


def verdict(spread: Mapping[str, Any]) -> str:
    """What the interval of a difference allows to say about the claim."""
    if spread["low"] is None:
        return "Not decided: one seed is not enough."
    if spread["low"] > 0:
        return "Supported: the interval is above zero."
    return (
        "Contradicted: the interval is below zero." if spread["high"] < 0 else "Not shown: the interval includes zero."
    )


def page(results: Sequence[Mapping[str, Any]], command: str) -> str:
    """The findings as Markdown.

    Args:
        results: results of `compare`.
        command: command that wrote the page.
    """
    lines = [
        "# Findings with tiny models",
        "",
        "This page tests claims about training on visual jigsaw puzzles (arXiv 2509.25190 and related work) with a",
        "tiny model from random weights on a CPU. Every result is reported, whether it agrees with the claim or not.",
        "",
        "- The pictures and video clips are generated by code, so that a tiny model can learn them within a minute.",
        "  The results are about the method on such media; they do not carry over to photos.",
        "- Both arms of a claim start from the same warm-up, which has its own row in the table.",
        "- Differences are means over seeds with Student's 95% interval.",
        "",
        "This command writes the page and `findings.json` with the figures:",
        "",
        "```bash",
        command,
        "```",
        "",
    ]
    for entry in results:
        lines += [f"## {entry['claim']}", "", f"**{entry['verdict']}**", "", _table(entry)]
    return "\n".join(lines)


def _table(entry: Mapping[str, Any]) -> str:
    columns = [f"seed {seed}" for seed in entry["seeds"]]
    rows = [Row("chance", dict.fromkeys(columns, Cell(entry["chance"])))]
    for name, run in entry["runs"].items():
        cells = [Cell(value) for value in (*run["values"], run["mean"])]
        rows.append(Row(name, dict(zip([*columns, "mean"], cells, strict=True))))
    spread = entry["difference"]
    first, second = entry["arms"]
    rows.append(Row(f"{first} minus {second}", {"mean": Cell(spread["value"], spread["low"], spread["high"])}))
    kind = entry["figure"]
    caption = f"{heading(kind['name'])} on held-out {kind['task']} puzzles"
    caption += f", {kind['grid'][0]}x{kind['grid'][1]}" if kind.get("grid") else ""
    commands = "\n".join(f"- {name}: `{run['command']}`" for name, run in entry["runs"].items())
    return printed([PaperTable(caption, [*columns, "mean"], rows)], "markdown") + commands + "\n"


if __name__ == "__main__":
    main()
