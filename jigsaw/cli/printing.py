"""Prints the results of commands: the option `--json`, lines of key and value, tables, listings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

UNLIMITED = 100_000
"""Width in columns of a listing that is not printed on a terminal."""


def print_answer(answer: dict[str, Any], as_json: bool) -> None:
    """Print one line per key, or JSON."""
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
    else:
        for key, value in answer.items():
            typer.echo(f"{key.replace('_', ' ')}: {_text_of(value)}")


def _text_of(value: Any) -> str:
    """A value of an answer as text: `name 3, name 4` for a mapping, and `;` between the entries of a list."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items()) or "none"
    return "; ".join(map(_text_of, value)) if isinstance(value, list) else str(value)


def print_table(table: Any) -> None:
    """Print anything that rich renders."""
    from rich.console import Console

    Console().print(table)


def print_listing(table: Table) -> None:
    """Print a table with one row per entry; if the output is not a terminal, as one line per entry, however long.

    Columns are then aligned with spaces and have no frame, so that `grep` and `awk` can read the lines.
    """
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        table.box, table.pad_edge = None, False
        console = Console(width=UNLIMITED)
        with console.capture() as capture:
            console.print(table)
        typer.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))
    else:
        console.print(table)
