"""`make findings`: claims of the papers tried with tiny models, several seeds each, and reported whatever they show.

In: `experiments/findings/findings.yaml`. Out: a run folder per seed and run (one that is there is not run again),
`findings.json` and a page for the documentation. Seeds are what is sampled: the interval of a difference is Student's
over the seeds, each of which gives both arms the same warm-up and the same held-out puzzles.

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

from experiments.made_sources import make_questions, make_sources
from jigsaw.errors import JigsawError
from jigsaw.evaluation.baselines import chance_of_right
from jigsaw.evaluation.log import read_log
from jigsaw.evaluation.tables import Cell, PaperTable, Row, heading, printed
from jigsaw.files import write_whole
from jigsaw.rewards import chance_place_accuracy
from jigsaw.run_folder import RunFolder

FILE = "findings.json"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked for and write what came out."""
    cores = os.cpu_count() or 1
    parser = argparse.ArgumentParser(prog="python experiments/findings.py", description=__doc__)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/findings"))
    parser.add_argument("--page", type=Path, default=None)
    parser.add_argument("--only", action="append", help="name of a finding; may be given again")
    parser.add_argument("--seeds", type=int, default=None, help="maximum number of the plan's seeds")
    parser.add_argument("--jobs", type=int, default=min(cores, 4), help="runs at a time; cores are shared among them")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE for every run, to try things out")
    given = parser.parse_args(arguments)
    try:
        plan = yaml.safe_load(given.plan.read_text(encoding="utf-8"))
        seeds = plan["seeds"][: given.seeds]
        chosen = [entry for entry in plan["findings"] if not given.only or entry["name"] in given.only]
        if not chosen:
            raise JigsawError(f"--only: the plan has {', '.join(entry['name'] for entry in plan['findings'])}")
        make_sources(given.out / "data" / "made")
        if plan.get("questions"):
            make_questions(given.out / "data" / "made-questions")
        names = needed(plan["runs"], [arm for entry in chosen for arm in entry["arms"]])
        runs = plan["runs"]

        def words_of(seed: int | str, name: str) -> list[str]:
            return words(runs[name], name, seed, given.plan.parent, given.out, given.set)

        # All warm-ups first: nothing waits for one while there is other work.
        run_all(runs, {(seed, name): words_of(seed, name) for name in names for seed in seeds}, given.out, given.jobs)
        loops = {name: loop(words_of("$SEED", name), seeds) for name in names}
        found = [told(entry, runs, seeds, loops, given.out) for entry in chosen]
        write_whole(given.out / FILE, json.dumps(found, indent=2))
        command = shlex.join(["python", "experiments/findings.py", *(arguments or sys.argv[1:])])
        text = page(found, command)
        if given.page is not None:
            write_whole(given.page, text)
        print(text)
    except (JigsawError, OSError) as error:
        sys.exit(f"findings: {error}")


def needed(runs: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """The named runs and those that they go on from, each after what it needs.

    Raises:
        JigsawError: a name that the plan does not know.

    >>> needed({"a": {"after": "b"}, "b": {}, "c": {}}, ["a"])
    ['b', 'a']
    """
    found: list[str] = []
    for name in names:
        if name not in runs:
            raise JigsawError(f"the plan has no run {name!r}; it has {', '.join(runs)}")
        before = runs[name].get("after")
        found += needed(runs, [before]) if before else []
        found.append(name)
    return list(dict.fromkeys(found))


def words(
    run: Mapping[str, Any], name: str, seed: int | str, recipes: Path, out: Path, overrides: Sequence[str]
) -> list[str]:
    """The arguments of `jigsaw` for a run of the plan; `seed` may be a variable of the shell."""
    after = [f"model.path={folder_of(out, seed, run['after'])}/model"] if run.get("after") else []
    given = ["launch", str(recipes / run["recipe"]), *run.get("set", ()), *after, f"data.folder={out}/data"]
    return [*given, *overrides, f"seed={seed}", f"name={name}-{seed}", f"output={folder_of(out, seed, name)}"]


def loop(arguments: Sequence[str], seeds: Sequence[int]) -> str:
    """The command of the shell that makes a run with every seed.

    >>> loop(["launch", "a.yaml", "output=runs/$SEED"], [0, 1])
    'for SEED in 0 1; do jigsaw launch a.yaml output=runs/$SEED; done'
    """
    quoted = " ".join(word if "$SEED" in word else shlex.quote(word) for word in arguments)
    return f"for SEED in {' '.join(map(str, seeds))}; do jigsaw {quoted}; done"


def folder_of(out: Path, seed: int | str, name: str) -> Path:
    """Where a run lies."""
    return out / f"seed-{seed}" / name


def run_all(
    runs: Mapping[str, Mapping[str, Any]], commands: Mapping[tuple[int, str], Sequence[str]], out: Path, jobs: int
) -> None:
    """Run commands, `jobs` at a time, each after the one that it goes on from; those that are done are left alone.

    Raises:
        JigsawError: a run failed; the others that had begun are run to their end.
    """
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    began: dict[tuple[int, str], Future[None]] = {}

    def carry_out(seed: int, name: str) -> None:
        if before := runs[name].get("after"):
            began[seed, before].result()
        launch(folder_of(out, seed, name), commands[seed, name], threads)

    with ThreadPoolExecutor(jobs) as pool:
        for seed, name in commands:  # a run comes after what it needs, which so is never kept waiting by it
            began[seed, name] = pool.submit(carry_out, seed, name)
        try:
            wait(began.values(), return_when="FIRST_EXCEPTION")
            for future in began.values():
                if future.done():
                    future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def launch(folder: Path, arguments: Sequence[str], threads: str, program: Sequence[str] = ("-m", "jigsaw")) -> None:
    """Run a recipe unless it ran to its end; continue one that was cut off.

    Args:
        folder: of the run; its log is written next to it.
        arguments: of the command.
        threads: `OMP_NUM_THREADS` of the process.
        program: what Python runs, the `jigsaw` command or a script that changes something about it.
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


def told(
    entry: Mapping[str, Any],
    runs: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
    commands: Mapping[str, str],
    out: Path,
) -> dict[str, Any]:
    """What came out of a finding.

    Args:
        entry: of the plan: `name`, `claim`, `arms`, `figure`.
        runs: of the plan.
        seeds: that were run.
        commands: what made each run, with every seed.
        out: folder of the runs.

    Returns:
        The claim, the level of chance, per run (what the arms go on from among them) its `command`, the `values` of the
        `seeds` and their `mean`, the mean difference with its interval, the verdict.
    """
    first, second = entry["arms"]
    shown: dict[str, dict[str, Any]] = {}
    chance = 0.0
    for name in needed(runs, entry["arms"]):
        values = []
        for seed in seeds:
            value, chance = figure(folder_of(out, seed, name), entry["figure"])
            values.append(value)
        shown[name] = {"values": values, "mean": mean(values), "command": commands[name]}
    pairs = zip(shown[first]["values"], shown[second]["values"], strict=True)
    spread = student([one - other for one, other in pairs])
    known = {key: entry[key] for key in ("name", "claim", "arms", "figure")} | {"seeds": list(seeds)}
    return known | {"chance": chance, "runs": shown, "difference": spread, "verdict": verdict(spread)}


def figure(run: Path, wanted: Mapping[str, Any]) -> tuple[float, float]:
    """A figure of a run's final model on one kind of held-out puzzle, and its chance; 0 where there is no such level.

    Raises:
        JigsawError: the run has no prediction on that kind.
    """
    kind = wanted.get("grid")
    items = [
        item
        for item in read_log(run).main.model.samples
        if item.task == wanted["task"] and (kind is None or item.grid == tuple(kind))
    ]
    if not items:
        raise JigsawError(f"{run} holds no prediction on {wanted['task']} puzzles of grid {kind}")
    value = mean(float(getattr(item, wanted["name"])) for item in items)
    if wanted["name"] == "exact":
        return value, mean(chance_of_right(vars(item)) or 0.0 for item in items)
    return value, mean(chance_place_accuracy(item.num_pieces, item.classes) for item in items)


def student(differences: Sequence[float]) -> dict[str, Any]:
    """Mean of a few differences with Student's 95% interval; without an interval for fewer than two.

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
    """No stronger than the interval allows."""
    if spread["low"] is None:
        return "one seed says nothing"
    if spread["low"] > 0:
        return "holds here"
    return "the opposite holds here" if spread["high"] < 0 else "not shown here: the interval holds zero"


def page(found: Sequence[Mapping[str, Any]], command: str) -> str:
    """The findings as Markdown.

    Args:
        found: what `told` gives of each.
        command: what made it.
    """
    lines = [
        "# Findings, small",
        "",
        "Claims about training on visual jigsaw puzzles (arXiv 2509.25190 and its kin), tried with a tiny model from",
        "random weights on CPU. What follows is what came out, whether or not it agrees. The pictures and films are",
        "made by code, so that such a model can learn them within a minute: the figures tell of the method at work,",
        "not of photos. Both arms of a claim go on from the same warm-up, whose figure stands above them. Differences",
        "are means over seeds with Student's 95% interval. The page, and `findings.json` with its figures, are",
        "written by",
        "",
        "```bash",
        command,
        "```",
        "",
    ]
    for entry in found:
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
    rows.append(Row(f"{first} less {second}", {"mean": Cell(spread["value"], spread["low"], spread["high"])}))
    kind = entry["figure"]
    caption = f"{heading(kind['name'])} on held-out {kind['task']} puzzles"
    caption += f", {kind['grid'][0]}x{kind['grid'][1]}" if kind.get("grid") else ""
    commands = "\n".join(f"- {name}: `{run['command']}`" for name, run in entry["runs"].items())
    return printed([PaperTable(caption, [*columns, "mean"], rows)], "markdown") + commands + "\n"


if __name__ == "__main__":
    main()
