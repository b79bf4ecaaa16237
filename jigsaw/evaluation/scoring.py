"""Scoring predictions that were made elsewhere: `jigsaw score DATA PREDICTIONS.jsonl`.

In come a folder of puzzle parts (read as parquet, without media) and a JSON-lines file, one `{"id": .., "text": ..}`
per completion; out goes a report, overall, per task and per number of pieces, as a dictionary for `--json` and as a
table. Nothing is guessed: puzzles without a prediction, predictions for no puzzle and ids that are predicted twice
are reported and left out of every mean. Of copies of a puzzle (equal ids) the first counts, as when the set is
loaded.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jigsaw.errors import JigsawError, first_line
from jigsaw.evaluation.random_play import random_levels
from jigsaw.evaluation.summary import heading
from jigsaw.rewards import Composition, RewardError, parsed_rows
from jigsaw.text import encoding_of

if TYPE_CHECKING:
    from rich.table import Table

METRICS = ("valid", "exact", "place_accuracy", "neighbor_accuracy")
NEEDED = ("id", "task", "answer")
LISTED = 10
"""How many ids of each trouble a report names."""

BATCH_ROWS = 2048
"""Rows of a part that are in memory at a time."""


@dataclass
class Group:
    """Running sums over some puzzles: values by score, what chance would give, and the parser's reasons."""

    count: int = 0
    sums: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    chance: Counter[str] = field(default_factory=Counter)
    chance_counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, values: Mapping[str, float | None], chance: Mapping[str, float | None], reason: str) -> None:
        """Count one puzzle in."""
        self.count += 1
        self.reasons[reason] += 1
        for name, value in values.items():
            if value is not None:
                self.sums[name] += value  # type: ignore[assignment]
                self.counts[name] += 1
        for name, value in chance.items():
            if value is not None:
                self.chance[name] += value  # type: ignore[assignment]
                self.chance_counts[name] += 1

    def report(self, names: Sequence[str]) -> dict[str, Any]:
        """Means by score (None where no puzzle has a value), chance level, and how often each reason came up."""
        return {
            "count": self.count,
            **{name: self.sums[name] / self.counts[name] if self.counts[name] else None for name in names},
            "chance": {
                name: self.chance[name] / self.count for name in names if self.chance_counts[name] == self.count > 0
            },
            "reasons": dict(self.reasons.most_common()),
        }


def score_predictions(
    data: str | Path,
    predictions: str | Path,
    rewards: Sequence[str | Mapping[str, Any]] = ("visual_jigsaw",),
    *,
    think_prefilled: bool = False,
) -> dict[str, Any]:
    """Score a file of completions against a puzzle data set.

    Args:
        data: folder of parquet parts with the columns id, task, answer, and answer_style, classes, geometry where they
            matter.
        predictions: JSON lines, each an object with `id` and `text` (or `completion`, as evaluations write it); other
            keys are ignored.
        rewards: rewards to report beside the metrics, names or entries as in a recipe.
        think_prefilled: whether the chat template wrote `<think>`, so that the completions begin after it.

    Returns:
        `puzzles`, `predictions` and `scored` (counts); `missing`, `duplicate`, `unknown` (each `{"count", "ids"}`, the
        first ids of each) and `copies` (rows left out because their id came before); `scores` (names of the columns);
        `overall`, and `groups`: one per task and number of pieces, with `count`, the mean of every score, the `chance`
        level of valid random orders where it is known, and `reasons`.

    Raises:
        JigsawError: a file is missing or broken (named with its line), a reward is wrong, or no id fits.
    """
    texts, duplicates = read_predictions(Path(predictions))
    try:
        composition = Composition(rewards, [{"use": name, "on_error": "fail"} for name in METRICS])
    except RewardError as error:
        raise JigsawError(str(error)) from error
    names = [*METRICS, *(name if name not in METRICS else f"reward {name}" for name in composition.names)]
    overall, groups = Group(), dict[tuple[str, int], Group]()
    seen: set[str] = set()
    missing: list[str] = []
    copies = 0
    for rows in read_puzzles(Path(data)):
        chosen = []
        for row in rows:
            if row["id"] in seen:
                copies += 1
                continue
            seen.add(row["id"])
            if row["id"] in texts:
                chosen.append(row)
            elif row["id"] not in duplicates:
                missing.append(row["id"])
        if chosen:
            for row in chosen:
                row["think_prefilled"] = think_prefilled
            _add(chosen, [texts[row["id"]] for row in chosen], composition, overall, groups)
    unknown = [name for name in (*texts, *duplicates) if name not in seen]
    if not overall.count and texts:
        raise JigsawError(
            f"none of the {len(texts)} ids in {predictions} is in {data} (the first is {next(iter(texts))!r}); "
            "are these predictions of another set?"
        )
    return {
        "data": str(data),
        "predictions_file": str(predictions),
        "puzzles": len(seen),
        "predictions": len(texts) + sum(duplicates.values()),
        "scored": overall.count,
        "missing": _listed(missing),
        "duplicate": _listed(list(duplicates)),
        "unknown": _listed(unknown),
        "copies": copies,
        "scores": names,
        "overall": overall.report(names),
        "groups": [
            {"task": task, "num_pieces": pieces, **groups[task, pieces].report(names)}
            for task, pieces in sorted(groups)
        ],
    }


def read_predictions(path: Path) -> tuple[dict[str, str], dict[str, int]]:
    """The texts by id, and the ids that came more than once with how often; those have no text.

    Raises:
        JigsawError: the file cannot be read, or a line is no object with `id` and `text`; names the line.
    """
    texts: dict[str, str] = {}
    duplicates: Counter[str] = Counter()
    try:
        with path.open("rb") as file:
            encoding = encoding_of(file.read(4096), path)
        with path.open(encoding=encoding, newline="\n") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                name, text = _prediction(line, f"{path}:{number}")
                if name in texts or name in duplicates:
                    duplicates[name] += 1 if name in duplicates else 2
                    texts.pop(name, None)
                else:
                    texts[name] = text
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"it is no {error.encoding.upper()} text"
        raise JigsawError(
            f"cannot read the predictions {path}: {reason}; one JSON object per line is needed"
        ) from error
    if not texts and not duplicates:
        raise JigsawError(f'{path} holds no predictions; write one {{"id": .., "text": ..}} per line')
    return texts, dict(duplicates)


def _prediction(line: str, where: str) -> tuple[str, str]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise JigsawError(
            f"{where}: no JSON ({str(error)[:80]}); each line must be an object with id and text"
        ) from error
    if not isinstance(entry, dict):
        raise JigsawError(f"{where}: {type(entry).__name__}, not an object; each line must have id and text")
    for key in ("id", "completion" if "completion" in entry and "text" not in entry else "text"):
        if not isinstance(entry.get(key), str):
            seen = f"is {entry[key]!r}"[:60] if key in entry else f"is missing (keys: {', '.join(map(str, entry))})"
            raise JigsawError(f"{where}: {key} {seen}; it must be text")
    return entry["id"], entry[key]


def read_puzzles(folder: Path) -> Iterator[list[dict[str, Any]]]:
    """The rows of all parts, some at a time, without prompts and media bytes.

    Raises:
        JigsawError: there are no parts, one is broken, or a column is missing; names the part.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = sorted(folder.glob("*.parquet"))
    if not parts:
        there = "has no parquet parts" if folder.is_dir() else "is no folder"
        raise JigsawError(f"{folder} {there}; give the folder that `jigsaw build` wrote")
    for part in parts:
        try:
            with pq.ParquetFile(part) as table:
                fields = table.schema_arrow
                for name in NEEDED:
                    if name not in fields.names:
                        raise JigsawError(f"{part} has no column {name}; it holds {', '.join(fields.names)}")
                columns = [item.name for item in fields if item.name != "prompt" and "binary" not in str(item.type)]
                for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=columns):
                    yield batch.to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise JigsawError(f"cannot read {part}: {first_line(error)}; build the part again") from error


def _add(
    rows: Sequence[Mapping[str, Any]],
    texts: Sequence[str],
    composition: Composition,
    overall: Group,
    groups: dict[tuple[str, int], Group],
) -> None:
    """Score some rows into their groups."""
    for row in rows:
        if not row["answer"]:
            raise JigsawError(f"puzzle {row['id']} has no answer; build the data set again")
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    columns["num_pieces"] = [len(row["answer"]) for row in rows]
    try:
        parsed = list(parsed_rows(texts, columns["answer"], columns.get("answer_style"), columns["think_prefilled"]))
        values = composition.measure(texts, columns)
        for name, column in composition.score(texts, columns).items():
            values[name if name not in METRICS else f"reward {name}"] = column
    except RewardError as error:
        raise JigsawError(str(error)) from error
    plain = {part.name for part in composition.rewards if part.spec.use == part.name and not part.spec.args}
    for position, row in enumerate(rows):
        own = {name: column[position] for name, column in values.items()}
        group = groups.setdefault((row["task"], len(row["answer"])), Group())
        # Options such as an exponent have levels of their own, which are not known.
        levels = {name: level for name, level in random_levels(row).items() if name in METRICS or name in plain}
        for target in (overall, group):
            target.add(own, levels, parsed[position].reason)


def _listed(ids: Sequence[str]) -> dict[str, Any]:
    return {"count": len(ids), "ids": list(ids[:LISTED])}


def score_table(report: Mapping[str, Any]) -> Table:
    """The report of `score_predictions` as a table, a column per task and number of pieces; troubles as its caption."""
    from rich.table import Table

    troubles = [
        f"{report[kind]['count']} {meaning}: {', '.join(report[kind]['ids'])}"
        + (", .." if report[kind]["count"] > len(report[kind]["ids"]) else "")
        for kind, meaning in (
            ("missing", "puzzles without a prediction"),
            ("duplicate", "ids predicted more than once, not scored"),
            ("unknown", "predictions for no puzzle of the set"),
        )
        if report[kind]["count"]
    ]
    if report["copies"]:
        troubles.append(f"{report['copies']} copies of puzzles, counted once")
    title = f"{report['scored']:,} of {report['puzzles']:,} puzzles scored"
    table = Table(title=title, caption="\n".join(troubles) or None, caption_justify="left")
    groups = [*report["groups"], {"task": "all", "num_pieces": None, **report["overall"]}]
    table.add_column("")
    for group in groups:
        pieces = "" if group["num_pieces"] is None else f", {group['num_pieces']} pieces"
        table.add_column(f"{group['task']}{pieces}", justify="right")
    table.add_row("puzzles scored", *(f"{group['count']:,}" for group in groups))
    for name in report["scores"]:
        cells = [_cell(group[name], group["chance"].get(name)) for group in groups]
        table.add_row(heading(name), *cells)
    return table


def _cell(value: float | None, chance: float | None) -> str:
    shown = "-" if value is None else f"{value:.3f}"
    return shown if chance is None else f"{shown} (chance {chance:.3f})"
