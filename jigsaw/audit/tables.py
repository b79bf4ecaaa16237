"""An audit as tables for the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.table import Table

from jigsaw.audit.audit import FEWEST, Audit, AuditGroup
from jigsaw.evaluation.tables import heading, interval, rounded

COLUMNS = ("exact", "place_accuracy")

WORRY = (
    "A leak shows what a model can learn instead of looking. It matters most for small models; the option behind each "
    "name closes it (docs/guides/shortcuts.md)."
)


def audit_tables(audit: Audit) -> Group:
    """A table per kind of puzzle, and what to do about each leak."""
    parts = [part for group in audit.groups for part in _parts(group)]
    if audit.leaks or audit.here:
        parts.append(WORRY)
    elif any(group.findings for group in audit.groups):
        parts.append("no shortcut is clear of chance")
    return Group(*parts, f"made by {audit.command}")


def _parts(group: AuditGroup) -> list[Any]:
    table = Table(title=f"{group}: {group.num_puzzles} puzzles from {group.num_sources} sources")
    for name in ("shortcut", *COLUMNS, ""):
        table.add_column(heading(name), justify="right" if name in COLUMNS else "left")
    table.add_row("chance", *(rounded(group.chance[name], 3) for name in COLUMNS), "")
    for found in group.findings:
        mark = "leak" if found.leak else "leak here" if found.here else ""
        table.add_row(found.name, interval(found.exact), interval(found.place_accuracy), mark)
    parts: list[Any] = [table]
    if not group.findings:
        parts.append(f"{group.num_puzzles} puzzles of a kind tell nothing; {FEWEST} are needed")
    parts += [f"{found.name}: {found.remedy}" for found in group.findings if found.remedy]
    if any(found.here for found in group.findings):
        few = f"the sources are too few ({group.num_sources}) to speak of others"
        parts.append(f"here: clear of chance on these puzzles; {few}")
    return parts
