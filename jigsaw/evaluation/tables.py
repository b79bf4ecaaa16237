"""Tables of an evaluation: all figures of one log for the terminal, and the main figures of several for a paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group as Together
from rich.table import Table
from rich.text import Text

from jigsaw.evaluation.log import Comparison, Coverage, EvalLog, Figure, Group, Places, SetLog
from jigsaw.results.formatting import heading, interval, rounded
from jigsaw.results.tables import Cell, PaperTable, Row

WIDEST = 9
"""Maximum number of pieces for a table of places in the terminal."""

LISTED = 10
"""Number of ids that are listed."""


def level(figure: Figure) -> str:
    """A chance level, with its standard error if it is estimated: `0.042`, `0.083 ± 0.004`."""
    error = f" ± {rounded(figure.chance_error, 3)}" if figure.chance_error else ""
    return rounded(figure.chance, 3) + error


def log_tables(log: EvalLog) -> Together:
    """All figures of a log: overall, by kind of puzzle, by place, sampled and compared."""
    parts = [part for one in log.sets for part in _set_tables(one)]
    if log.coverage is not None:
        parts += _coverage(log.coverage)
    parts += [log.note] if log.note else []
    return Together(
        *(Text(part) if isinstance(part, str) else part for part in parts), Text(f"written by {log.command}")
    )


def _set_tables(one: SetLog) -> list[Table | str]:
    evaluation = one.model
    parts: list[Table | str] = [one.name] if one.name else []
    title = f"{evaluation.num_puzzles} puzzles from {evaluation.num_sources} sources, 95% intervals"
    parts.append(_with_chance(title, {heading(name): figure for name, figure in evaluation.estimates.items()}))
    parts.append(_groups(evaluation.groups))
    parts += [
        _confusion(entry, entry.confusion)
        for entry in evaluation.places
        if entry.confusion and entry.num_pieces <= WIDEST
    ]
    parts += [_cells(entry, entry.cells) for entry in evaluation.places if entry.cells]
    if sampled := evaluation.sampled:
        votes = {f"pass@{k}": figure for k, figure in sampled.pass_at.items()}
        votes |= {f"{heading(name)} of the majority vote": figure for name, figure in sampled.majority.items()}
        parts.append(_with_chance(f"{sampled.samples} sampled completions of each puzzle", votes))
    parts += [_compared(one.compared)] if one.compared else []
    invalid = ", ".join(f"{count} {reason}" for reason, count in evaluation.reasons.items() if reason != "ok")
    return [*parts, f"invalid answers: {invalid or 'none'}"]


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for at, name in enumerate(columns):
        table.add_column(name, justify="right" if at else "left")
    return table


def _with_chance(title: str, figures: Mapping[str, Figure]) -> Table:
    table = _table(title, "", "model", "chance")
    for name, figure in figures.items():
        table.add_row(name, interval(figure), level(figure))
    return table


def _groups(groups: Sequence[Group]) -> Table:
    table = _table(
        "by kind of puzzle; chance in parentheses", "", *map(heading, ("puzzles", "exact", "place_accuracy"))
    )
    for group in groups:
        figures = (group.estimates.get(name) for name in ("exact", "place_accuracy"))
        cells = ["" if figure is None else _with_level(figure) for figure in figures]
        table.add_row(str(group), f"{group.num_puzzles:,}", *cells)
    return table


def _with_level(figure: Figure) -> str:
    return f"{interval(figure)}\n({level(figure) or 'unknown'})"


def _cells(entry: Places, cells: Mapping[str, Figure]) -> Table:
    table = Table(title=f"place accuracy on {entry}, by cell")
    for name in cells:
        table.add_column(name, justify="right")
    table.add_row(*(f"{interval(cell)} ({level(cell)})" for cell in cells.values()))
    return table


def _confusion(entry: Places, confusion: Sequence[Sequence[float]]) -> Table:
    """Which piece was put where, as shares of valid answers."""
    names = map(str, range(1, entry.num_pieces + 1))
    table = _table(f"{entry}: at the place of the row, the piece of the place of the column", "", *names)
    for place, shares in enumerate(confusion, 1):
        table.add_row(str(place), *(f"{share:.2f}" for share in shares))
    return table


def _compared(comparison: Comparison) -> Table:
    title = f"minus {comparison.other}, paired on {comparison.num_puzzles} puzzles"
    table = _table(title, "", "difference", "p")
    for name, change in comparison.changes.items():
        table.add_row(heading(name), interval(change, sign="+"), f"{change.p_value:.3g}")
    return table


def _coverage(coverage: Coverage) -> list[str]:
    """Predictions that were not scored, one line per reason."""
    kinds = (
        (coverage.missing, "puzzles without a completion"),
        (coverage.duplicate, "ids with more than one completion, not scored"),
        (coverage.unknown, "completions of unknown puzzles"),
    )
    lines = [
        f"{len(ids)} {meaning}: {', '.join(ids[:LISTED])}{', ..' if len(ids) > LISTED else ''}"
        for ids, meaning in kinds
        if ids
    ]
    return lines + ([f"{coverage.copies} copies of puzzles, counted once"] if coverage.copies else [])


def puzzle_table(logs: Mapping[str, tuple[str, EvalLog]]) -> PaperTable:
    """Figures on the main set of each log: a row per model, and one per kind of puzzle if there are several.

    `logs` has a file and its log by label.
    """
    rows: list[Row] = []
    levels: dict[tuple[Any, ...], Row] = {}
    columns: dict[str, None] = {}
    for label, (file, log) in logs.items():
        one = log.main
        models = {label: one.model}
        if one.warmup is not None:
            models = {f"{label} warm-up": one.warmup, f"{label} trained": one.model}
        for name, evaluation in models.items():
            columns |= dict.fromkeys(evaluation.estimates)
            rows.append(_row(name, evaluation.estimates, file, log.command))
            if len({(group.task, group.answer_kind, group.num_pieces) for group in evaluation.groups}) > 1:
                kinds = (group for group in evaluation.groups if group.difficulty is None)
                rows += [_row(f"{name}: {group}", group.estimates, file, log.command) for group in kinds]
            chance = {key: figure.chance for key, figure in evaluation.estimates.items() if figure.chance is not None}
            same = tuple((key, round(value, 9)) for key, value in chance.items())  # equal except for rounding
            cells = {key: Cell(value) for key, value in chance.items()}
            levels.setdefault(same, Row("chance", cells, file, log.command))
    return PaperTable("Held-out puzzles, 95% intervals", list(columns), [*levels.values(), *rows])


def _row(name: str, estimates: Mapping[str, Figure], file: str, command: str) -> Row:
    return Row(name, {key: Cell.of(figure) for key, figure in estimates.items()}, file, command)
