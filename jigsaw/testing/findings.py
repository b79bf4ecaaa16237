"""What a contract check found: one line per property, and the error that a failing test ends with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Case = TypeVar("Case")


class ContractError(AssertionError):
    """A property of a contract does not hold; the message says what was seen and what is wanted."""


class Unknown(Exception):
    """A property could not be looked at, or is worth a look and no fault; the message says why."""


@dataclass(frozen=True)
class Finding:
    """One property of a contract.

    Attributes:
        name: what should hold.
        ok: whether it does; None if it could not be looked at, or is for the author to judge.
        detail: what was seen, where it does not hold or could not be looked at.
    """

    name: str
    ok: bool | None
    detail: str = ""


def findings_of(case: Case, properties: Mapping[str, Callable[[Case], None]]) -> list[Finding]:
    """Try every property on a case. What a plug-in raises is a finding about it."""
    found = []
    for name, holds in properties.items():
        try:
            holds(case)
        except Unknown as reason:
            found.append(Finding(name, None, str(reason)))
        except Exception as error:
            told = str(error) if isinstance(error, ContractError) else f"{type(error).__name__}: {error}"
            found.append(Finding(name, False, told.strip().partition("\n")[0]))
        else:
            found.append(Finding(name, True))
    return found


def require_all(what: str, found: Sequence[Finding]) -> None:
    """Raise if a property does not hold.

    Raises:
        ContractError: one line for each.
    """
    broken = [f"  {finding.name}: {finding.detail}" for finding in found if finding.ok is False]
    if broken:
        raise ContractError("\n".join([f"{what} breaks its contract:", *broken]))


def findings_table(found: Sequence[Finding]) -> Any:
    """The findings as a table for the terminal."""
    from rich.markup import escape
    from rich.table import Table

    words = {True: "yes", False: "NO", None: "?"}
    table = Table("what should hold", "holds", "what was seen")
    for finding in found:
        table.add_row(finding.name, words[finding.ok], escape(finding.detail))
    return table
