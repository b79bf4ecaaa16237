"""The page of `make findings`: what came out, every figure with its field and command.

In: what `findings.json` holds. Out: Markdown for the documentation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jigsaw.evaluation.paper import Cell, Origin, PaperTable, Row, printed
from jigsaw.evaluation.summary import heading


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
        "Claims about training on visual jigsaw puzzles (arXiv 2509.25190 and its kin), tried with a tiny model from",
        "random weights on CPU. What follows is what came out, whether or not it agrees. The pictures and films are",
        "made by code, so that such a model can learn them within a minute: the figures tell of the method at work,",
        "not of photos. Both arms of a claim go on from the same warm-up, whose figure stands above them. Differences",
        "are means over seeds with Student's 95% interval. The page is written by",
        "",
        "```bash",
        command,
        "```",
        "",
    ]
    for at, entry in enumerate(found):
        lines += [f"## {entry['claim']}", "", f"**{entry['verdict']}**", "", _table(at, entry, path, command)]
    return "\n".join(lines)


def _table(at: int, entry: Mapping[str, Any], path: Path, command: str) -> str:
    chance = Cell(entry["chance"], None, None, Origin(str(path), f"[{at}].chance", command))
    columns = [f"seed {seed}" for seed in entry["seeds"]]
    rows = [Row("chance", dict.fromkeys(columns, chance))]
    for name, run in entry["runs"].items():
        origin = Origin(str(path), f"[{at}].runs.{name}.values", run["command"])
        values = [Cell(value, None, None, origin) for value in run["values"]]
        middle = Cell(run["mean"], None, None, Origin(str(path), f"[{at}].runs.{name}.mean", run["command"]))
        rows.append(Row(name, dict(zip([*columns, "mean"], [*values, middle], strict=True))))
    spread = entry["difference"]
    origin = Origin(str(path), f"[{at}].difference", command)
    first, second = entry["arms"]
    difference = Cell(spread["value"], spread["low"], spread["high"], origin)
    rows.append(Row(f"{first} less {second}", {"mean": difference}))
    kind = entry["figure"]
    caption = f"{heading(kind['name'])} on held-out {kind['task']} puzzles"
    caption += f", {kind['grid'][0]}x{kind['grid'][1]}" if kind.get("grid") else ""
    return printed([PaperTable(caption, [*columns, "mean"], rows)], "markdown")
