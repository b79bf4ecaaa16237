"""Evaluations as tables: for the terminal, and for a paper in Markdown, LaTeX, CSV or JSON.

In: an `EvalLog`, or `PaperTable`s. Out: rich tables, or text. A row of a paper's table has the file that it is read
from and the command that wrote it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group as Together
from rich.table import Table
from rich.text import Text

from jigsaw.errors import JigsawError
from jigsaw.evaluation.log import Comparison, Coverage, EvalLog, Evaluation, Figure, Group, Places, Sampled, SetLog
from jigsaw.results.intervals import Estimate

WIDEST = 9
"""Pieces up to which a confusion of places fits into a terminal."""

LISTED = 10
"""How many ids of each kind are named."""

FORMS = ("markdown", "latex", "csv", "json")


def heading(figure: str) -> str:
    """A figure's name as tables print it.

    >>> heading("kendall_tau")
    'kendall tau'
    """
    return figure.replace("_", " ")


def interval(estimate: Estimate, digits: int = 3, sign: str = "", form: str = "{value} [{low}, {high}]") -> str:
    """An estimate with its interval, the only way in which text shows one.

    >>> interval(Estimate(0.441, 0.39, 0.492)), interval(Estimate(0.1, 0.05, 0.15), 2, "+")
    ('0.441 [0.390, 0.492]', '+0.10 [+0.05, +0.15]')
    """
    parts = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return form.format(**{name: rounded(value, digits, sign) for name, value in parts.items()})


def rounded(value: float | None, digits: int, sign: str = "") -> str:
    """A value as text; a chance level of 1/362880 must not be printed as 0.000.

    >>> rounded(0.25, 3), rounded(1 / 362880, 3), rounded(-0.0001, 3, "+")
    ('0.250', '2.8e-06', '-1.0e-04')
    """
    if value is None:
        return ""
    plain = f"{round(value, digits) + 0.0:{sign}.{digits}f}"
    return plain if value == 0 or float(plain) != 0 or abs(value) < 1e-12 else f"{value:{sign}.1e}"


def level(figure: Figure) -> str:
    """A chance level, with its standard error where it has one: `0.042`, `0.083 ± 0.004`."""
    error = f" ± {rounded(figure.chance_error, 3)}" if figure.chance_error else ""
    return rounded(figure.chance, 3) + error


def percent(value: float) -> str:
    """A share as a percentage that does not hide what is there: only nothing is `0%`, and only all is `100%`.

    >>> [percent(value) for value in (0, 1 / 24, 0.615, 0.004, 1 / 362880, 0.9996, 0.997, 1)]
    ['0%', '4%', '62%', '0.4%', 'less than 0.1%', 'more than 99.9%', '99.7%', '100%']
    """
    if 0 < value < 0.0005:
        return "less than 0.1%"
    if 0.9995 <= value < 1:
        return "more than 99.9%"
    fine = 0 < value < 0.00995 or 0.995 <= value < 1
    return f"{100 * value:.1f}%" if fine else f"{int(100 * value + 0.5 + 1e-9)}%"


def log_tables(log: EvalLog) -> Together:
    """All figures of a log: overall, by kind of puzzle, by place, sampled and compared."""
    parts = [part for one in log.sets for part in _set_tables(one)]
    if log.coverage is not None:
        parts += _coverage(log.coverage)
    parts += [log.note] if log.note else []
    return Together(*(Text(part) if isinstance(part, str) else part for part in parts), Text(f"made by {log.command}"))


def _set_tables(one: SetLog) -> list[Table | str]:
    evaluation = one.model
    parts: list[Table | str] = [one.name] if one.name else []
    parts += [_figures(evaluation), _groups(evaluation.groups)]
    parts += [
        _confusion(entry, entry.confusion)
        for entry in evaluation.places
        if entry.confusion and entry.num_pieces <= WIDEST
    ]
    parts += [_cells(entry, entry.cells) for entry in evaluation.places if entry.cells]
    parts += [_sampled(evaluation.sampled)] if evaluation.sampled else []
    parts += [_compared(one.compared)] if one.compared else []
    refused = ", ".join(f"{count} {reason}" for reason, count in evaluation.reasons.items() if reason != "ok")
    return [*parts, f"refused answers: {refused or 'none'}"]


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for at, name in enumerate(columns):
        table.add_column(name, justify="right" if at else "left")
    return table


def _figures(evaluation: Evaluation) -> Table:
    title = f"{evaluation.num_puzzles} puzzles from {evaluation.num_sources} sources, 95% intervals"
    table = _table(title, "", "model", "chance")
    for name, figure in evaluation.estimates.items():
        table.add_row(heading(name), interval(figure), level(figure))
    return table


def _groups(groups: Sequence[Group]) -> Table:
    table = _table(
        "by kind of puzzle; in parentheses chance", "", *map(heading, ("puzzles", "exact", "place_accuracy"))
    )
    for group in groups:
        figures = (group.estimates.get(name) for name in ("exact", "place_accuracy"))
        cells = ["" if figure is None else _with_level(figure) for figure in figures]
        table.add_row(str(group), f"{group.num_puzzles:,}", *cells)
    return table


def _with_level(figure: Figure) -> str:
    return f"{interval(figure)}\n({level(figure) or 'not known'})"


def _cells(entry: Places, cells: Mapping[str, Figure]) -> Table:
    table = Table(title=f"place accuracy on {entry}, by cell")
    for name in cells:
        table.add_column(name, justify="right")
    table.add_row(*(f"{interval(cell)} ({level(cell)})" for cell in cells.values()))
    return table


def _confusion(entry: Places, confusion: Sequence[Sequence[float]]) -> Table:
    """Which piece went where, as shares of valid answers."""
    names = map(str, range(1, entry.num_pieces + 1))
    table = _table(f"{entry}: at row's place put the piece of column's place", "", *names)
    for place, shares in enumerate(confusion, 1):
        table.add_row(str(place), *(f"{share:.2f}" for share in shares))
    return table


def _sampled(sampled: Sampled) -> Table:
    table = _table(f"{sampled.samples} sampled completions of each puzzle", "", "model", "chance")
    for k, figure in sampled.pass_at.items():
        table.add_row(f"pass@{k}", interval(figure), level(figure))
    for name, figure in sampled.majority.items():
        table.add_row(f"{heading(name)} of the vote", interval(figure), level(figure))
    return table


def _compared(comparison: Comparison) -> Table:
    title = f"less {comparison.other}, paired on {comparison.num_puzzles} puzzles"
    table = _table(title, "", "difference", "p")
    for name, change in comparison.changes.items():
        table.add_row(heading(name), interval(change, sign="+"), f"{change.p_value:.3g}")
    return table


def _coverage(coverage: Coverage) -> list[str]:
    """What did not fit, a line for each kind."""
    kinds = (
        (coverage.missing, "puzzles without a completion"),
        (coverage.duplicate, "ids with more than one completion, not scored"),
        (coverage.unknown, "completions of no puzzle of the set"),
    )
    lines = [
        f"{len(ids)} {meaning}: {', '.join(ids[:LISTED])}{', ..' if len(ids) > LISTED else ''}"
        for ids, meaning in kinds
        if ids
    ]
    return lines + ([f"{coverage.copies} copies of puzzles, counted once"] if coverage.copies else [])


@dataclass(frozen=True)
class Cell:
    """One figure; `low` and `high` are None if it has no interval."""

    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, estimate: Estimate) -> Cell:
        """An estimate as a cell."""
        return cls(estimate.value, estimate.low, estimate.high)


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        cells: by column, as far as there are figures.
        file: that the figures are read from.
        command: that wrote it; empty for a published figure.
    """

    name: str
    cells: Mapping[str, Cell]
    file: str = ""
    command: str = ""


@dataclass(frozen=True)
class PaperTable:
    """A table: `columns` in the order in which they are printed, `digits` after the point."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Row]
    digits: int = 3

    def sources(self) -> dict[str, str]:
        """File -> command, in the order of the rows."""
        return {row.file: row.command for row in self.rows if row.file}


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


def cell_text(cell: Cell | None, digits: int, form: str = "{value} [{low}, {high}]") -> str:
    """A cell as text; empty without one."""
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
        lines.append(f"| {_escaped(row.name, '|')} |" + "".join(f" {cell or '–'} |" for cell in cells))
    lines += [
        "",
        *(f"- `{file}`{f' made by `{command}`' if command else ''}" for file, command in table.sources().items()),
    ]
    return "\n".join(lines) + "\n"


def _latex(table: PaperTable) -> str:
    head = " & ".join(["", *(_tex(heading(name)) for name in table.columns)])
    lines = [f"% {file}{f' made by {command}' if command else ''}" for file, command in table.sources().items()]
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


def _escaped(text: str, signs: str) -> str:
    for sign in signs:
        text = text.replace(sign, f"\\{sign}")
    return text


def _tex(text: str) -> str:
    return _escaped(text.replace("\\", "/"), "&%$#_{}").replace("~", r"\textasciitilde{}").replace("^", r"\^{}")


def puzzle_table(logs: Mapping[str, tuple[str, EvalLog]]) -> PaperTable:
    """Figures on the first set of each log: a row per model, and per kind of puzzle where there are several.

    Args:
        logs: label -> file, and the log in it.
    """
    rows: list[Row] = []
    levels: dict[tuple[Any, ...], Row] = {}
    columns: dict[str, None] = {}
    for label, (file, log) in logs.items():
        one = log.main
        named = {label if one.warmup is None else f"{label} trained": one.model}
        named = ({f"{label} warm-up": one.warmup} if one.warmup is not None else {}) | named
        for name, evaluation in named.items():
            columns |= dict.fromkeys(evaluation.estimates)
            rows.append(_row(name, evaluation.estimates, file, log.command))
            if len({(group.task, group.answer_kind, group.num_pieces) for group in evaluation.groups}) > 1:
                kinds = (group for group in evaluation.groups if group.difficulty is None)
                rows += [_row(f"{name}: {group}", group.estimates, file, log.command) for group in kinds]
            known = {key: figure.chance for key, figure in evaluation.estimates.items() if figure.chance is not None}
            same = tuple((key, round(value, 9)) for key, value in known.items())  # sums in another order
            cells = {key: Cell(value) for key, value in known.items()}
            levels.setdefault(same, Row("chance", cells, file, log.command))
    return PaperTable("Held-out puzzles, 95% intervals", list(columns), [*levels.values(), *rows])


def _row(name: str, estimates: Mapping[str, Figure], file: str, command: str) -> Row:
    return Row(name, {key: Cell.of(figure) for key, figure in estimates.items()}, file, command)
