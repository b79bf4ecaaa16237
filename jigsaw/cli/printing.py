"""How commands print results: the option `--json`, lines of key and value, tables."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


def print_answer(answer: dict[str, Any], as_json: bool) -> None:
    """One line per key, or JSON."""
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
    else:
        for key, value in answer.items():
            typer.echo(f"{key.replace('_', ' ')}: {_in_words(value)}")


def _in_words(value: Any) -> str:
    """A value of an answer as people write it: `name 3, name 4` for a mapping, `;` between the entries of a list."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items()) or "none"
    return "; ".join(map(_in_words, value)) if isinstance(value, list) else str(value)


def print_table(table: Any) -> None:
    """Anything that rich prints."""
    from rich.console import Console

    Console().print(table)
