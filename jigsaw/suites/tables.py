"""The results of a suite side by side: ours, the base model's, and what the papers print.

In: folders with `suite.json`. Out: one table in percent; a row per model and number of frames.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jigsaw.errors import JigsawError
from jigsaw.evaluation.paper import Cell, Origin, PaperTable, Row
from jigsaw.suites.suites import PUBLISHED, PUBLISHED_FILE, SUITES, published

SUITE_FILE = "suite.json"


def read_suite(folder: Path) -> Mapping[str, Any]:
    """What `suite.json` of a folder holds.

    Raises:
        JigsawError: it cannot be read.
    """
    path = folder / SUITE_FILE
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise JigsawError(f"{path} cannot be read: name a folder that `jigsaw eval --suite` wrote") from error
    if not isinstance(stored, Mapping) or stored.get("suite") not in SUITES:
        raise JigsawError(f"{path} holds no results of a suite")
    return stored


def suite_table(suite: str, folders: Sequence[Path]) -> PaperTable:
    """Runs of a suite in the order given, below them the published figures."""
    names = [benchmark.name for benchmark in SUITES[suite]]
    rows = [row for folder in folders for row in _rows(folder)]
    rows += _published_rows(suite)
    return PaperTable(f"Suite {suite}, percent, 95% intervals", names, rows, digits=2)


def _rows(folder: Path) -> list[Row]:
    stored = read_suite(folder)
    results = stored["benchmarks"]
    widths = sorted({found["frames"] for found in results.values() if found.get("frames")}) or [None]
    rows = []
    for width in widths:
        cells: dict[str, Cell] = {}
        for key, found in results.items():
            if found.get("frames") in (None, width) and "value" in found:
                origin = Origin(str(folder / SUITE_FILE), f"benchmarks.{key}.value", stored["command"])
                cells[found["benchmark"]] = Cell(found["value"], found.get("low"), found.get("high"), origin)
        label = stored["model"]["pretrained"]
        rows.append(Row(label if len(widths) == 1 else f"{label}, {width} frames", cells))
    return rows


def _published_rows(suite: str) -> list[Row]:
    rows: dict[str, dict[str, Cell]] = {}
    for found in published(PUBLISHED[suite]):
        label = f"{found.model}{f', {found.frames} frames' if found.frames else ''}"
        label += f" ({found.table.removeprefix('visual-jigsaw-')}, published)"
        where = "/".join(filter(None, (found.table, found.model, found.frames)))
        origin = Origin(PUBLISHED_FILE.name, where, "")
        rows.setdefault(label, {})[found.benchmark] = Cell(found.score, None, None, origin)
    return [Row(label, cells) for label, cells in rows.items()]
