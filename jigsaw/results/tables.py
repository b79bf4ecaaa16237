"""Tables of results in Markdown, LaTeX, CSV or JSON.

In: rows of figures, each with the file that it was read from and the command that wrote the file. Out: text.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from jigsaw.errors import JigsawError
from jigsaw.results.formatting import heading, interval, rounded
from jigsaw.results.intervals import Estimate

FORMS = ("markdown", "latex", "csv", "json")


@dataclass(frozen=True)
class Cell:
    """One figure. `low` and `high` are None if it has no interval."""

    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, estimate: Estimate) -> Cell:
        """A cell from an estimate."""
        return cls(estimate.value, estimate.low, estimate.high)


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        cells: by column; a column without a figure has no entry.
        file: from which the figures are read.
        command: that wrote the file; empty for published figures.
    """

    name: str
    cells: Mapping[str, Cell]
    file: str = ""
    command: str = ""


@dataclass(frozen=True)
class PaperTable:
    """A table with its columns in the order of printing. `digits` are those after the decimal point."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Row]
    digits: int = 3

    def sources(self) -> dict[str, str]:
        """The files of the rows, each with the command that wrote it."""
        return {row.file: row.command for row in self.rows if row.file}


def printed(tables: Sequence[PaperTable], form: str) -> str:
    """Tables in one of `FORMS`.

    Raises:
        JigsawError: the form is not one of these.
    """
    if form == "csv":
        return _csv(tables)
    if form == "json":
        return json.dumps([asdict(table) for table in tables], indent=2) + "\n"
    if form not in FORMS:
        raise JigsawError(f"--table: {form!r} is not one of {', '.join(FORMS)}")
    return "\n".join((_markdown if form == "markdown" else _latex)(table) for table in tables)


def cell_text(cell: Cell | None, digits: int, form: str = "{value} [{low}, {high}]") -> str:
    """A cell as text; empty for None."""
    if cell is None:
        return ""
    if cell.low is None or cell.high is None:
        return rounded(cell.value, digits)
    return interval(Estimate(cell.value, cell.low, cell.high), digits, form=form)


def _markdown(table: PaperTable) -> str:
    lines = [f"**{table.caption}**", "", "| |" + "".join(f" {heading(name)} |" for name in table.columns)]
    lines.append("|---|" + "---:|" * len(table.columns))
    for row in table.rows:
        cells = [cell_text(row.cells.get(name), table.digits) for name in table.columns]
        name = row.name.replace("|", "\\|")
        lines.append(f"| {name} |" + "".join(f" {cell or '–'} |" for cell in cells))
    lines += [
        "",
        *(f"- `{file}`{f', written by `{command}`' if command else ''}" for file, command in table.sources().items()),
    ]
    return "\n".join(lines) + "\n"


def _latex(table: PaperTable) -> str:
    head = " & ".join(["", *(_tex(heading(name)) for name in table.columns)])
    lines = [f"% {file}{f', written by {command}' if command else ''}" for file, command in table.sources().items()]
    lines += [r"\begin{table}", r"\centering", rf"\caption{{{_tex(table.caption)}}}"]
    lines += [rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}", r"\toprule", head + r" \\", r"\midrule"]
    form = r"{value} {{\scriptsize [{low}, {high}]}}"
    for row in table.rows:
        cells = [cell_text(row.cells.get(name), table.digits, form) or "--" for name in table.columns]
        lines.append(" & ".join([_tex(row.name), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def _csv(tables: Sequence[PaperTable]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["table", "row", "figure", "value", "low", "high", "file", "command"])
    for table in tables:
        for row in table.rows:
            for name in table.columns:
                if cell := row.cells.get(name):
                    figure = [name, cell.value, cell.low, cell.high]
                    writer.writerow([table.caption, row.name, *figure, row.file, row.command])
    return text.getvalue()


def _tex(text: str) -> str:
    escaped = re.sub(r"[&%$#_{}]", r"\\\g<0>", text.replace("\\", "/"))
    return escaped.replace("~", r"\textasciitilde{}").replace("^", r"\^{}")
