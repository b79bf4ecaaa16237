"""Tables as a paper prints them, every figure with the file, the field and the command that it comes from.

In: figures out of JSON files. Out: one table in Markdown, LaTeX, CSV or JSON. A cell knows its origin; the printed
forms name it below the table, row by row, the others in columns of their own.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jigsaw.errors import JigsawError
from jigsaw.evaluation.predictions import number
from jigsaw.evaluation.summary import heading

FORMS = ("markdown", "latex", "csv", "json")


@dataclass(frozen=True)
class Origin:
    """Where a figure stands, and the command that makes it again ("" for a published one)."""

    file: str
    field: str
    command: str


@dataclass(frozen=True)
class Cell:
    """One figure; `low` and `high` are None where no interval is known."""

    value: float
    low: float | None
    high: float | None
    origin: Origin


@dataclass(frozen=True)
class Row:
    """One line of a table: a name, and a cell for each column that it has."""

    name: str
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class PaperTable:
    """A table: `columns` in the order in which they are printed, `digits` after the point."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Row]
    digits: int = 3


def walk(stored: Any, field: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every figure with an interval of a JSON document, with its field: `heldout.place_accuracy`, `groups[2].exact`.

    >>> [field for field, _ in walk({"a": [{"value": 1, "low": 0, "high": 2}]})]
    ['a[0]']
    """
    if isinstance(stored, Mapping):
        if all(number(stored.get(name)) is not None for name in ("value", "low", "high")):
            yield field, stored
        for name, inner in stored.items():
            yield from walk(inner, f"{field}.{name}" if field else str(name))
    elif isinstance(stored, list):
        for at, inner in enumerate(stored):
            yield from walk(inner, f"{field}[{at}]")


def cell_of(stored: Any, origin: Origin) -> Cell | None:
    """A figure out of JSON as a cell; None where there is none."""
    value = number(stored.get("value")) if isinstance(stored, Mapping) else None
    if value is None:
        return None
    low, high = number(stored.get("low")), number(stored.get("high"))
    return Cell(value, low, high if low is not None else None, origin)


def printed(tables: Sequence[PaperTable], form: str) -> str:
    """Tables in one of `FORMS`.

    Raises:
        JigsawError: there is no such form.
    """
    if form == "csv":
        return _csv(tables)
    if form == "json":
        return json.dumps([asdict(table) for table in tables], indent=2) + "\n"
    if form not in FORMS:
        raise JigsawError(f"--table: {form!r} is none of {', '.join(FORMS)}")
    return "\n".join((_markdown if form == "markdown" else _latex)(table) for table in tables)


def _markdown(table: PaperTable) -> str:
    lines = [f"**{table.caption}**", "", "| |" + "".join(f" {heading(name)} |" for name in table.columns)]
    lines.append("|---|" + "---:|" * len(table.columns))
    for row in table.rows:
        cells = [_text(row.cells.get(name), table.digits, "{value} [{low}, {high}]") for name in table.columns]
        lines.append(f"| {_escaped(row.name, '|')} |" + "".join(f" {cell or '–'} |" for cell in cells))
    lines += ["", *(f"- {_escaped(name, '|')}: {told}" for name, told in origins(table, "`{}`"))]
    return "\n".join(lines) + "\n"


def _latex(table: PaperTable) -> str:
    head = " & ".join(["", *(_tex(heading(name)) for name in table.columns)])
    lines = [rf"% {name}: {told}" for name, told in origins(table, "{}")]
    lines += [r"\begin{table}", r"\centering", rf"\caption{{{_tex(table.caption)}}}"]
    lines += [rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}", r"\toprule", head + r" \\", r"\midrule"]
    form = r"{value} {{\scriptsize [{low}, {high}]}}"
    for row in table.rows:
        cells = [_text(row.cells.get(name), table.digits, form) or "--" for name in table.columns]
        lines.append(" & ".join([_tex(row.name), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def _csv(tables: Sequence[PaperTable]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["table", "row", "figure", "value", "low", "high", "file", "field", "command"])
    for table in tables:
        for row in table.rows:
            for name in table.columns:
                if cell := row.cells.get(name):
                    origin = cell.origin
                    figure = [name, cell.value, cell.low, cell.high]
                    writer.writerow([table.caption, row.name, *figure, origin.file, origin.field, origin.command])
    return text.getvalue()


def origins(table: PaperTable, quoted: str) -> Iterator[tuple[str, str]]:
    """Per row its file, the fields of its figures and the command; rows without figures are left out."""
    for row in table.rows:
        origins = [row.cells[name].origin for name in table.columns if name in row.cells]
        if not origins:
            continue
        files = ", ".join(quoted.format(file) for file in dict.fromkeys(origin.file for origin in origins))
        fields = ", ".join(quoted.format(field) for field in dict.fromkeys(origin.field for origin in origins))
        commands = [quoted.format(command) for command in dict.fromkeys(each.command for each in origins) if command]
        yield row.name, f"{files}: {fields}" + (f"; made by {'; '.join(commands)}" if commands else "")


def _text(cell: Cell | None, digits: int, form: str) -> str:
    if cell is None:
        return ""
    value = rounded(cell.value, digits)
    if cell.low is None or cell.high is None:
        return value
    return form.format(value=value, low=rounded(cell.low, digits), high=rounded(cell.high, digits))


def rounded(value: float, digits: int) -> str:
    """A value as text; a chance level of 1/362880 must not read 0.000."""
    plain = f"{round(value, digits) + 0.0:.{digits}f}"
    return plain if value == 0 or float(plain) != 0 else f"{value:.1e}"


def _escaped(text: str, signs: str) -> str:
    for sign in signs:
        text = text.replace(sign, f"\\{sign}")
    return text


def _tex(text: str) -> str:
    return _escaped(text.replace("\\", "/"), "&%$#_{}").replace("~", r"\textasciitilde{}").replace("^", r"\^{}")
