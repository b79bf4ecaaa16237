"""The page of `make findings`: what came out, every figure with its field and command.

In: what `findings.json` holds. Out: Markdown for the documentation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jigsaw.evaluation.paper import Cell, Origin, PaperTable, Row, printed


def page(found: Sequence[Mapping[str, Any]], path: Path, command: str) -> str:
    """The findings as Markdown.

    Args:
        found: what `findings.told` gives of each.
        path: of the JSON file with the same content.
        command: what made it.
    """
    lines = [
        "# Findings, small",
        "",
        f"Claims of the papers tried with a tiny model from random weights on CPU, by `{command}`. What follows is",
        "what came out, whether or not it agrees. The pictures and films are made by code, so that such a model can",
        "learn them within a minute: the figures tell of the method at work, not of photos. Both arms of a claim go on",
        "from the same warm-up, whose figure stands above them. Differences are means over seeds with Student's 95%",
        "interval.",
        "",
    ]
    for at, entry in enumerate(found):
        lines += [f"## {entry['claim']}", "", f"**{entry['verdict']}**", "", _table(at, entry, path, command)]
    return "\n".join(lines)


def _table(at: int, entry: Mapping[str, Any], path: Path, command: str) -> str:
    chance = Cell(entry["chance"], None, None, Origin(str(path), f"[{at}].chance", command))
    columns = [f"seed {run['seed']}" for run in next(iter(entry["runs"].values()))]
    rows = [Row("chance", dict.fromkeys(columns, chance))]
    for name, runs in entry["runs"].items():
        cells = {
            f"seed {run['seed']}": Cell(
                run["value"], None, None, Origin(str(path), f"[{at}].runs.{name}[{number}].value", run["command"])
            )
            for number, run in enumerate(runs)
        }
        rows.append(Row(name, cells))
    spread = entry["difference"]
    origin = Origin(str(path), f"[{at}].difference", command)
    first, second = entry["arms"]
    difference = Cell(spread["value"], spread["low"], spread["high"], origin)
    rows.append(Row(f"{first} less {second}", {"mean": difference}))
    kind = entry["figure"]
    caption = f"{kind['name']} on held-out {kind['task']} puzzles"
    caption += f", {kind['grid'][0]}x{kind['grid'][1]}" if kind.get("grid") else ""
    return printed([PaperTable(caption, [*columns, "mean"], rows)], "markdown")
