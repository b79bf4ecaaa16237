"""Figures of evaluations as tables for the terminal.

In: what `evaluation.json` holds. Out: rich tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from jigsaw.evaluation.summary import FIGURES, heading

WIDEST = 9
"""Pieces up to which a confusion of places fits into a terminal."""


def figures_table(named: Mapping[str, Mapping[str, Any]]) -> Table:
    """Figures of one or several checkpoints on the same puzzles, beside chance."""
    first = next(iter(named.values()))
    table = Table(title=f"{first['num_puzzles']} puzzles from {first['num_sources']} sources, 95% intervals")
    table.add_column("")
    for name in named:
        table.add_column(name, justify="right")
    table.add_column("chance", justify="right")
    for figure in FIGURES:
        cells = [interval(figures[figure]) for figures in named.values()]
        table.add_row(heading(figure), *cells, level(first[figure]["chance"]))
    return table


def evaluation_tables(figures: Mapping[str, Any]) -> Group:
    """All figures of one evaluation: overall, by kind of puzzle, by place, sampled and compared."""
    parts: list[Table | str] = [figures_table({"model": figures}), _groups(figures["groups"])]
    cells = [_cells(entry) for entry in figures["places"] if entry["cells"]]
    parts += [_confusion(entry) for entry in figures["places"] if entry["confusion"] and entry["num_pieces"] <= WIDEST]
    parts += [*cells, *([_sampled(figures["sampled"])] if "sampled" in figures else [])]
    if "compared" in figures:
        parts.append(_compared(figures["compared"]))
    refused = ", ".join(f"{count} {reason}" for reason, count in figures["reasons"].items() if reason != "ok")
    parts += [
        f"refused answers: {refused or 'none'}",
        f"fields of evaluation.json (--out) and --json, made by {figures['command']}",
        *([figures["note"]] if "note" in figures else []),
    ]
    return Group(*(Text(part) if isinstance(part, str) else part for part in parts))


def interval(entry: Mapping[str, Any]) -> str:
    """`0.441 [0.390, 0.492]`."""
    return f"{entry['value']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"


def level(chance: float | None) -> str:
    """A chance level; 1/24 reads 0.042, and 1/362880 must not read 0.000."""
    return "" if chance is None else f"{chance:.3f}" if chance >= 0.001 or chance == 0 else f"{chance:.1e}"


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


def kind_of(group: Mapping[str, Any]) -> str:
    """A group in words: `image, 9 pieces, hard`."""
    pieces = None if group["num_pieces"] is None else f"{group['num_pieces']} pieces"
    return ", ".join(str(part) for part in (group["task"], pieces, group["difficulty"]) if part)


def _groups(groups: Any) -> Table:
    table = Table(title="by kind of puzzle; in parentheses chance")
    table.add_column("")
    for name in ("puzzles", "exact", "place_accuracy"):
        table.add_column(heading(name), justify="right")
    for group in groups:
        cells = [f"{interval(group[name])}\n({level(group[name]['chance'])})" for name in ("exact", "place_accuracy")]
        table.add_row(kind_of(group), f"{group['num_puzzles']:,}", *cells)
    return table


def _cells(entry: Mapping[str, Any]) -> Table:
    rows, columns = entry["grid"]
    table = Table(title=f"place accuracy on {rows}x{columns}, by cell")
    for name in entry["cells"]:
        table.add_column(name, justify="right")
    table.add_row(*(f"{interval(cell)} ({level(cell['chance'])})" for cell in entry["cells"].values()))
    return table


def _confusion(entry: Mapping[str, Any]) -> Table:
    """Which piece went where, as shares of valid answers."""
    grid = f"{entry['grid'][0]}x{entry['grid'][1]}" if entry["grid"] else f"{entry['num_pieces']} in a row"
    table = Table(title=f"{entry['task']}, {grid}: at row's place put the piece of column's place")
    for name in ("", *range(1, entry["num_pieces"] + 1)):
        table.add_column(str(name), justify="right")
    for place, shares in enumerate(entry["confusion"], 1):
        table.add_row(str(place), *(f"{share:.2f}" for share in shares))
    return table


def _sampled(entry: Mapping[str, Any]) -> Table:
    table = Table(title=f"{entry['samples']} sampled completions a puzzle")
    table.add_column("")
    table.add_column("model", justify="right")
    table.add_column("chance", justify="right")
    for point in entry["pass_at"]:
        table.add_row(f"pass@{point['k']}", interval(point), level(point["chance"]))
    for name, figure in entry["majority"].items():
        table.add_row(f"{heading(name)} of the vote", interval(figure), level(figure["chance"]))
    return table


def _compared(entry: Mapping[str, Any]) -> Table:
    table = Table(title=f"less {entry['with']}, paired on {entry['num_puzzles']} puzzles")
    for name in ("", "difference", "p"):
        table.add_column(name, justify="right")
    for name, found in entry["difference"].items():
        shown = f"{found['value']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"
        table.add_row(heading(name), shown, f"{found['p_value']:.3g}")
    return table
