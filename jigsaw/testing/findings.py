"""What a contract check found: one line per property, and the error that a failing test ends with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from jigsaw.errors import first_line, raised_in

Case = TypeVar("Case")


class ContractError(AssertionError):
    """A property of a contract does not hold; the message says what was seen and what is wanted."""


class Unknown(Exception):
    """A property does not apply, or is for the author to judge and no fault; the message says why."""


class NotChecked(Exception):
    """A property could not be tried, so that nothing is known of it; the message says why and what to do."""


@dataclass(frozen=True)
class Finding:
    """One property of a contract.

    Attributes:
        name: what should hold.
        ok: whether it does; None if it was not checked, does not apply, or is for the author to judge.
        detail: what was seen, where it does not hold or was not checked.
        checked: False where nothing is known of it because it could not be tried.
    """

    name: str
    ok: bool | None
    detail: str = ""
    checked: bool = True


def findings_of(case: Case, properties: Mapping[str, Callable[[Case], None]], code: object) -> list[Finding]:
    """Try every property on a case. What a plug-in raises is a finding about it, with the line of its file.

    An error that repeats ends the trial, because it hides other faults; it is reported once.

    Args:
        case: what the properties are tried on.
        properties: name -> a function that raises where the property does not hold.
        code: the class or function of the plug-in, by whose file an error is placed.
    """
    found: list[Finding] = []
    for number, (name, holds) in enumerate(properties.items()):
        try:
            holds(case)
        except Unknown as reason:
            found.append(Finding(name, None, str(reason)))
        except NotChecked as reason:
            found.append(Finding(name, None, str(reason), checked=False))
        except Exception as error:
            told = _told(error, code)
            if any(finding.detail == told for finding in found):
                again = f"the same error again; correct it first: {told}"
                found += [Finding(left, None, again, checked=False) for left in [*properties][number:]]
                break
            found.append(Finding(name, False, told))
        else:
            found.append(Finding(name, True))
    return found


def _told(error: Exception, code: object) -> str:
    """The first line of what went wrong; for an error of the plug-in's own, after its place in the file."""
    if isinstance(error, ContractError):
        return first_line(error)
    where = raised_in(error, code)
    return f"{where}{': ' if where else ''}{type(error).__name__}: {first_line(error)}"


def require_all(what: str, found: Sequence[Finding]) -> None:
    """Raise if a property does not hold, or could not be checked.

    Raises:
        ContractError: one line for each.
    """
    broken = [f"  {finding.name}: {finding.detail}" for finding in found if finding.ok is False]
    broken += [f"  {finding.name}: not checked: {finding.detail}" for finding in found if not finding.checked]
    if broken:
        raise ContractError("\n".join([f"{what} breaks its contract:", *broken]))


def findings_table(found: Sequence[Finding]) -> Any:
    """The findings as a table for the terminal."""
    from rich.markup import escape
    from rich.table import Table

    words = {True: "yes", False: "NO", None: "-"}
    table = Table("what should hold", "holds", "what was seen")
    for finding in found:
        table.add_row(finding.name, words[finding.ok] if finding.checked else "not checked", escape(finding.detail))
    return table
