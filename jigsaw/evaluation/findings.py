"""`make findings`: claims of the papers tried with tiny models, several seeds each, and told as they come out.

In: `recipes/findings/findings.yaml`. Out: a run folder per finding, arm and seed (one that is there already is not run
again), `findings.json` and a page for the documentation. Seeds are what is sampled: the interval of a difference is
Student's over the seeds, each of which gives both arms the same warm-up draw and the same held-out puzzles.

    python -m jigsaw.evaluation.findings recipes/findings/findings.yaml --out runs/findings --page docs/findings.md
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml

from jigsaw.errors import JigsawError
from jigsaw.evaluation.paper import Cell, Origin, PaperTable, Row, printed
from jigsaw.evaluation.predictions import read_predictions_of

FILE = "findings.json"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked for and write what came out."""
    parser = argparse.ArgumentParser(prog="python -m jigsaw.evaluation.findings", description=__doc__)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/findings"))
    parser.add_argument("--page", type=Path, default=None)
    parser.add_argument("--only", action="append", help="name of a finding; may be given again")
    parser.add_argument("--seeds", type=int, default=None, help="only so many of the plan's seeds")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE for every run, to try things out")
    given = parser.parse_args(arguments)
    try:
        plan = yaml.safe_load(given.plan.read_text(encoding="utf-8"))
        seeds = plan["seeds"][: given.seeds]
        chosen = [entry for entry in plan["findings"] if not given.only or entry["name"] in given.only]
        found = [carry_out(entry, seeds, given.plan.parent, given.out, given.set) for entry in chosen]
        (given.out / FILE).write_text(json.dumps(found, indent=2), encoding="utf-8")
        text = page(found, given.out / FILE)
        if given.page is not None:
            given.page.write_text(text, encoding="utf-8")
        print(text)  # noqa: T201  # what the command is for
    except (JigsawError, OSError, KeyError) as error:
        sys.exit(f"findings: {error}")


def carry_out(
    entry: Mapping[str, Any], seeds: Sequence[int], recipes: Path, out: Path, overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """Run both arms of a finding for every seed, and compare them.

    Args:
        entry: of the plan: `name`, `claim`, `arms`, `figure`.
        seeds: to run.
        recipes: folder of the plan, which its recipes are relative to.
        out: folder of the runs.
        overrides: of every run.

    Returns:
        The claim, per arm and seed the figure and its command, the mean difference with its interval, the verdict.

    Raises:
        JigsawError: a run fails.
    """
    arms: dict[str, list[dict[str, Any]]] = {}
    for name, arm in entry["arms"].items():
        arms[name] = []
        for seed in seeds:
            folder = out / entry["name"] / f"{name}-{seed}"
            words = ["launch", str(recipes / arm["recipe"]), *arm.get("set", ()), *overrides]
            words += [f"seed={seed}", f"name={entry['name']}-{name}-{seed}", f"output={folder}"]
            _launch(folder, words)
            command = shlex.join(["jigsaw", *words])
            arms[name].append({"seed": seed, "value": figure(folder, entry["figure"]), "command": command})
    first, second = arms.values()
    differences = [one["value"] - other["value"] for one, other in zip(first, second, strict=True)]
    told = {"name": entry["name"], "claim": entry["claim"], "figure": entry["figure"], "arms": arms}
    spread = student(differences)
    return told | {"difference": spread, "verdict": verdict(spread)}


def _launch(folder: Path, words: Sequence[str]) -> None:
    """Run a recipe unless it ran to its end; go on with one that was cut off."""
    if (folder / "DONE").is_file():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    resume = ["--resume"] if (folder / "recipe.yaml").is_file() else []
    with (folder.parent / f"{folder.name}.log").open("w", encoding="utf-8") as log:
        code = subprocess.run(
            [sys.executable, "-m", "jigsaw", *words, *resume], stdout=log, stderr=subprocess.STDOUT, check=False
        ).returncode
    if code:
        raise JigsawError(f"jigsaw {shlex.join(words)} ended with code {code}; see {log.name}")


def figure(run: Path, wanted: Mapping[str, Any]) -> float:
    """A figure of a run's final model on one kind of held-out puzzle.

    Raises:
        JigsawError: the run has no prediction on that kind.
    """
    kind = wanted.get("grid")
    values = [
        float(getattr(item, wanted["name"]))
        for item in read_predictions_of(run)
        if item.task == wanted["task"] and (kind is None or item.grid == list(kind))
    ]
    if not values:
        raise JigsawError(f"{run} holds no prediction on {wanted['task']} puzzles of grid {kind}")
    return mean(values)


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


def page(found: Sequence[Mapping[str, Any]], path: Path) -> str:
    """The findings as Markdown, every figure with its field and command."""
    lines = [
        "# Findings, small",
        "",
        "Claims of the papers tried with a tiny model from random weights on CPU, by `make findings`. What follows is",
        "what came out, whether or not it agrees. Differences are means over seeds with Student's 95% interval.",
        "",
    ]
    for at, entry in enumerate(found):
        rows = []
        for name, runs in entry["arms"].items():
            cells = {
                f"seed {run['seed']}": Cell(
                    run["value"], None, None, Origin(str(path), f"[{at}].arms.{name}[{number}].value", run["command"])
                )
                for number, run in enumerate(runs)
            }
            rows.append(Row(name, cells))
        spread = entry["difference"]
        origin = Origin(str(path), f"[{at}].difference", "make findings")
        rows.append(Row("difference", {"mean": Cell(spread["value"], spread["low"], spread["high"], origin)}))
        columns = [f"seed {run['seed']}" for run in next(iter(entry["arms"].values()))]
        kind = entry["figure"]
        caption = f"{kind['name']} on held-out {kind['task']} puzzles" + (
            f", {kind['grid'][0]}x{kind['grid'][1]}" if kind.get("grid") else ""
        )
        lines += [f"## {entry['claim']}", "", f"**{entry['verdict']}**", ""]
        lines += [printed([PaperTable(caption, [*columns, "mean"], rows)], "markdown")]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
