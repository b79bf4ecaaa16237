"""Reading scored completions back: the lines of `predictions.jsonl`, doubted before anything is drawn from them.

In: a file or the folder of an evaluation. Out: `Scored`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from jigsaw.errors import JigsawError
from jigsaw.evaluation.summary import FIGURES, Scored
from jigsaw.files import write_whole
from jigsaw.run_folder import RunFolder

_NAMES = frozenset(field.name for field in fields(Scored))
_TEXTS = ("id", "task", "source", "completion", "reason")


def read_predictions_of(folder: Path) -> list[Scored]:
    """The predictions of an evaluation, or of the final model of a run.

    Args:
        folder: that `jigsaw eval --out` or `jigsaw launch` wrote.

    Raises:
        JigsawError: there are none, or a line is none; names the line.
    """
    path = next((path for name in PLACES if (path := folder / name).is_file()), None)
    if path is None:
        raise JigsawError(f"{folder} holds no predictions.jsonl; name a folder that `jigsaw eval --out` wrote")
    found = []
    for at, row in enumerate(json_lines(path.read_text(encoding="utf-8", errors="replace")), 1):
        item = None if row is None else scored_of(row)
        if item is None:
            raise JigsawError(f"{path}:{at}: this line is no scored completion; evaluate again")
        found.append(item)
    if not found:
        raise JigsawError(f"{path} is empty; evaluate again")
    return found


PLACES = ("predictions.jsonl", "predictions/model.jsonl")

FIRST, LATEST = "periodic-first", "periodic-latest"
"""Scored completions of the periodic evaluations while GRPO trains: before its first step, and of the latest one."""


def write_periodic(folder: Path, step: int, scored: Sequence[Scored]) -> None:
    """Write the scored completions of a periodic evaluation into a run folder, over those of an earlier one."""
    run = RunFolder(folder)
    path = run.predictions(LATEST if step else FIRST)
    path.parent.mkdir(exist_ok=True)
    write_whole(path, "".join(json.dumps(asdict(item)) + "\n" for item in scored))
    if not step:
        run.predictions(LATEST).unlink(missing_ok=True)


def scored_of(row: Mapping[str, Any]) -> Scored | None:
    """A line as a prediction, or None for a line that is none: what is drawn from it must not have to doubt it."""
    if not row.keys() >= _NAMES or not all(isinstance(row[name], str) for name in _TEXTS):
        return None
    answer, order, classes, grid = row["answer"], row["order"], row["classes"], row["grid"]
    if not isinstance(answer, list) or any(number(row[name]) is None for name in FIGURES):
        return None
    if not isinstance(row["sample"], int) or not (row["contrast"] is None or number(row["contrast"]) is not None):
        return None
    places = list(range(1, len(answer) + 1))
    if not _is_order(answer, places) or not (order is None or _is_order(order, places)):
        return None
    if classes is not None and not (_whole(classes) and len(classes) == len(answer)):
        return None
    if grid is not None and not (_whole(grid) and len(grid) == 2 and grid[0] * grid[1] == len(answer)):
        return None
    return Scored(**{name: row[name] for name in _NAMES})


def _is_order(stored: Any, places: list[int]) -> bool:
    return _whole(stored) and bool(places) and sorted(stored) == places


def _whole(stored: Any) -> bool:
    return isinstance(stored, list) and all(isinstance(piece, int) for piece in stored)


def number(stored: Any) -> float | None:
    """A finite number as it came out of JSON; None for anything else."""
    known = isinstance(stored, int | float) and not isinstance(stored, bool) and math.isfinite(stored)
    return float(stored) if known else None


def json_lines(text: str) -> Iterator[Mapping[str, Any] | None]:
    """The objects of JSON lines, None for a line that is none."""
    for line in text.removesuffix("\n").split("\n") if text else ():
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        yield row if isinstance(row, Mapping) else None
