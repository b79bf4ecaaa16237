"""The log of RealUnify, `realunify.json`, and its tables: the results with published figures, and the errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jigsaw.realunify.errors import CATEGORIES, DIAGNOSES, Counts, categories
from jigsaw.realunify.parts import SHORT, Record
from jigsaw.results.intervals import Estimate, rate_interval
from jigsaw.results.log_file import Log, Stored, from_json
from jigsaw.results.tables import Cell, PaperTable, Row, printed
from jigsaw.suites.log import published_rows

REALUNIFY_FILE = "realunify.json"
TABLES = {"direct": "realunify-direct", "step": "realunify-stepwise", "specialist": "realunify-specialists"}
COLUMNS = ("WK", "CR", "MR-I", "LR", "SR", "C2I", "UEG-avg", "MR-II", "MT", "AF", "CN", "GEU-avg")


@dataclass(frozen=True)
class Share(Estimate, Stored):
    """Percentage of right items with its 95% interval, and the number of items."""

    of: int


@dataclass(frozen=True, kw_only=True)
class Part(Stored):
    """The results of one part.

    Attributes:
        shares: task -> percentage of right items; `avg` is over all items.
        valid_orders: for `GEU_jigsaw`, number of answers that are a permutation.
        unjudged: for UEG, number of items without a verdict of the judge; they count as wrong.
        unread: for GEU, number of replies that name no option; they count as wrong.
        errors: task -> category -> number of wrong items, see `errors.CATEGORIES`.
    """

    shares: dict[str, Share]
    valid_orders: int | None = None
    unjudged: int | None = None
    unread: int | None = None
    errors: Counts = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RealUnifyLog(Log):
    """The content of `realunify.json`.

    Attributes:
        settings: what the answers depend on.
        missing: part -> why it cannot run.
        diagnosis: `GEU` or `UEG` -> task -> outcome in the three settings -> number of items, see `errors.DIAGNOSES`.
    """

    settings: dict[str, Any]
    parts: dict[str, Part]
    missing: dict[str, str]
    diagnosis: dict[str, Counts] = field(default_factory=dict)


def summary(name: str, records: Sequence[Record]) -> Part:
    """The results of a part from its records."""
    shares = {}
    for task in [*dict.fromkeys(record["task"] for record in records), "all"]:
        of_task = [record for record in records if task in (record["task"], "all")]
        estimate = rate_interval([float(one["right"]) for one in of_task], [str(one["at"]) for one in of_task])
        percent = {key: 100 * value for key, value in asdict(estimate).items()}
        shares[SHORT.get(task, "avg")] = Share(**percent, of=len(of_task))
    geu = name.startswith("GEU")
    return Part(
        shares=shares,
        valid_orders=sum(record["order"] is not None for record in records) if name == "GEU_jigsaw" else None,
        unread=sum(record["letter"] is None for record in records) if geu else None,
        unjudged=None if geu else sum(record["unjudged"] for record in records),
        errors=categories(records),
    )


def realunify_table(folder: Path) -> PaperTable:
    """The results of each part, and the published figures. `GEU_jigsaw` has a row for its own protocol."""
    path = folder / REALUNIFY_FILE
    log = from_json(RealUnifyLog, path, "name a folder that `jigsaw realunify` wrote, or run it again")
    cells: dict[str, dict[str, Cell]] = {}
    for name, part in log.parts.items():
        kind, _, setting = name.partition("_")
        row = cells.setdefault(f"{_models_of(log, kind, setting)}, {setting}", {})
        for task, share in part.shares.items():
            column = f"{kind}-avg" if task == "avg" else task
            # GEU_jigsaw has one task, so its average is not an average of the benchmark.
            if column in COLUMNS and not (setting == "jigsaw" and task == "avg"):
                row[column] = Cell.of(share)
    rows = [Row(name, row, str(path), log.command) for name, row in cells.items()]
    for setting, table in TABLES.items():
        for row_of_paper in published_rows([table]):
            name = f"{row_of_paper.name.partition(' (')[0]}, {setting} (published)"
            columns = {key: cell for key, cell in row_of_paper.cells.items() if key in COLUMNS}
            rows.append(Row(name, columns, row_of_paper.file))
    caption = "RealUnify, percent, 95% intervals; jigsaw: built-in protocol with tiles in the model's order"
    return PaperTable(caption, COLUMNS, rows, digits=1)


def _models_of(log: RealUnifyLog, kind: str, setting: str) -> str:
    """The name of the model, or those of the strong models of the oracle."""
    if setting != "oracle":
        return str(log.settings["model"])
    return f"{log.settings['oracle_reader']} + {log.settings['oracle_editor' if kind == 'GEU' else 'oracle_generator']}"


def _count_lines(title: str, counts: Counts, meanings: Mapping[str, str]) -> list[str]:
    """A table in Markdown with a row per task and a column per category, and the meaning of each column."""
    names = [name for name in meanings if any(name in row for row in counts.values())]
    if not names:
        return []
    lines = ["", title, "", f"| task | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    lines += [f"| {task} | {' | '.join(str(row.get(name, 0)) for name in names)} |" for task, row in counts.items()]
    return [*lines, "", *(f"- {name}: {meanings[name]}" for name in names)]


def realunify_text(log: RealUnifyLog, folder: Path) -> str:
    """The table in Markdown, the missing parts, the error categories and the comparison of the settings."""
    lines = [printed([realunify_table(folder)], "markdown")]
    lines += [f"missing: {part}: {why}" for part, why in log.missing.items()]
    for name, part in log.parts.items():
        of = part.shares["avg"].of
        if part.unjudged:
            lines.append(f"{name}: {part.unjudged} of {of} items have no verdict of the judge; they count as wrong")
        if part.unread:
            lines.append(f"{name}: {part.unread} of {of} replies name no option; they count as wrong")
        if part.valid_orders is not None:
            lines.append(f"{name}: {part.valid_orders} of {of} orders were valid; the other pictures were not changed")
    for name, part in log.parts.items():
        lines += _count_lines(f"Wrong items of {name} by category", part.errors, CATEGORIES)
    for kind, counts in log.diagnosis.items():
        lines += _count_lines(f"{kind}: items by outcome in the direct, stepwise and oracle setting", counts, DIAGNOSES)
    return "\n".join(lines)
