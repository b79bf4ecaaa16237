"""The log of RealUnify, `realunify.json`, and its tables: part by part above the published figures, then the errors."""

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
    """Percent right with its 95% interval, and the number of items."""

    of: int


@dataclass(frozen=True, kw_only=True)
class Part(Stored):
    """One part.

    Attributes:
        shares: task, and `avg` over all items -> percent right.
        valid_orders: of `GEU_jigsaw`: answers that are a permutation.
        unjudged: of UEG: items on which the judge said neither yes nor no; they count as wrong.
        unread: of GEU: replies that name no option; they count as wrong.
        errors: task -> category -> wrong items, see `errors.CATEGORIES`.
    """

    shares: dict[str, Share]
    valid_orders: int | None = None
    unjudged: int | None = None
    unread: int | None = None
    errors: Counts = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RealUnifyLog(Log):
    """What `realunify.json` holds.

    Attributes:
        settings: what the answers depend on.
        missing: part -> why it could not run.
        diagnosis: `GEU` or `UEG` -> task -> outcome in the three settings -> items, see `errors.DIAGNOSES`.
    """

    settings: dict[str, Any]
    parts: dict[str, Part]
    missing: dict[str, str]
    diagnosis: dict[str, Counts] = field(default_factory=dict)


def summary(name: str, records: Sequence[Record]) -> Part:
    """What the records of a part add up to."""
    shares = {}
    for task in [*dict.fromkeys(record["task"] for record in records), "all"]:
        own = [record for record in records if task in (record["task"], "all")]
        spread = rate_interval([float(record["right"]) for record in own], [str(record["at"]) for record in own])
        percent = {key: 100 * value for key, value in asdict(spread).items()}
        shares[SHORT.get(task, "avg")] = Share(**percent, of=len(own))
    geu = name.startswith("GEU")
    return Part(
        shares=shares,
        valid_orders=sum(record["order"] is not None for record in records) if name == "GEU_jigsaw" else None,
        unread=sum(record["letter"] is None for record in records) if geu else None,
        unjudged=None if geu else sum(record["unjudged"] for record in records),
        errors=categories(records),
    )


def realunify_table(folder: Path) -> PaperTable:
    """This model, part by part, above the published figures; our own protocol is a row of its own."""
    path = folder / REALUNIFY_FILE
    log = from_json(RealUnifyLog, path, "name a folder that `jigsaw realunify` wrote, or run it again")
    cells: dict[str, dict[str, Cell]] = {}
    for name, part in log.parts.items():
        kind, _, way = name.partition("_")
        row = cells.setdefault(f"{_answered_by(log, kind, way)}, {way}", {})
        for task, share in part.shares.items():
            column = f"{kind}-avg" if task == "avg" else task
            # The average of GEU_jigsaw is of one task: no average of the benchmark's.
            if column in COLUMNS and not (way == "jigsaw" and task == "avg"):
                row[column] = Cell.of(share)
    rows = [Row(name, row, str(path), log.command) for name, row in cells.items()]
    for way, table in TABLES.items():
        for known in published_rows([table]):
            name = f"{known.name.partition(' (')[0]}, {way} (published)"
            rows.append(Row(name, {key: cell for key, cell in known.cells.items() if key in COLUMNS}, known.file))
    caption = "RealUnify, percent, 95% intervals; jigsaw: our own protocol, tiles put back in the model's order"
    return PaperTable(caption, COLUMNS, rows, digits=1)


def _answered_by(log: RealUnifyLog, kind: str, way: str) -> str:
    """What a row's name says: the model, or the strong models of the oracle."""
    if way != "oracle":
        return str(log.settings["model"])
    return f"{log.settings['oracle_reader']} + {log.settings['oracle_editor' if kind == 'GEU' else 'oracle_generator']}"


def _count_lines(title: str, counts: Counts, meanings: Mapping[str, str]) -> list[str]:
    """A table in Markdown: a line per task, a column per category that occurs, and what each column means."""
    names = [name for name in meanings if any(name in row for row in counts.values())]
    if not names:
        return []
    lines = ["", title, "", f"| task | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    lines += [f"| {task} | {' | '.join(str(row.get(name, 0)) for name in names)} |" for task, row in counts.items()]
    return [*lines, "", *(f"- {name}: {meanings[name]}" for name in names)]


def realunify_text(log: RealUnifyLog, folder: Path) -> str:
    """The table in Markdown, below it what is missing, the error categories and the comparison of the settings."""
    lines = [printed([realunify_table(folder)], "markdown")]
    lines += [f"missing: {part}: {why}" for part, why in log.missing.items()]
    for name, part in log.parts.items():
        of = part.shares["avg"].of
        if part.unjudged:
            lines.append(f"{name}: the judge said neither yes nor no on {part.unjudged} of {of}; they count as wrong")
        if part.unread:
            lines.append(f"{name}: {part.unread} of {of} replies name no option; they count as wrong")
        if part.valid_orders is not None:
            lines.append(f"{name}: {part.valid_orders} of {of} orders were valid; others left the picture as it was")
    for name, part in log.parts.items():
        lines += _count_lines(f"Wrong items of {name} by category", part.errors, CATEGORIES)
    for kind, counts in log.diagnosis.items():
        lines += _count_lines(f"{kind}: items by outcome in the direct, stepwise and oracle setting", counts, DIAGNOSES)
    return "\n".join(lines)
