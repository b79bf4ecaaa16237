"""Findings of a contract check, one per property, and the error of a failed check."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from jigsaw.errors import first_line, raised_in

Case = TypeVar("Case")


class ContractError(AssertionError):
    """A property of a contract does not hold; the message has the observed and the expected behaviour."""


class Unknown(Exception):
    """A property does not apply, or may be intended by the author; the message has the reason."""


class NotChecked(Exception):
    """A property could not be checked; the message has the reason and the remedy."""


@dataclass(frozen=True)
class Finding:
    """One property of a contract.

    Attributes:
        name: the property.
        ok: whether it holds; None if it was not checked, does not apply, or its violation may be intended.
        detail: the observed behaviour, if the property does not hold or was not checked.
        checked: False if the property could not be checked.
    """

    name: str
    ok: bool | None
    detail: str = ""
    checked: bool = True


def findings_of(case: Case, properties: Mapping[str, Callable[[Case], None]], code: object) -> list[Finding]:
    """Check every property of a case. An error of the plug-in is a finding with the line of its file.

    If an error repeats, the other properties are not checked, because the error hides other faults.

    Args:
        case: the case that the properties are checked on.
        properties: name -> a function that raises if the property does not hold.
        code: the class or function of the plug-in, which gives the file of an error.
    """
    findings: list[Finding] = []
    for number, (name, holds) in enumerate(properties.items()):
        try:
            holds(case)
        except Unknown as reason:
            findings.append(Finding(name, None, str(reason)))
        except NotChecked as reason:
            findings.append(Finding(name, None, str(reason), checked=False))
        except Exception as error:
            message = _message(error, code)
            if any(finding.detail == message for finding in findings):
                again = f"the same error again; correct it first: {message}"
                findings += [Finding(left, None, again, checked=False) for left in [*properties][number:]]
                break
            findings.append(Finding(name, False, message))
        else:
            findings.append(Finding(name, True))
    return findings


def _message(error: Exception, code: object) -> str:
    """The first line of an error; an error of the plug-in is preceded by its file and line."""
    if isinstance(error, ContractError):
        return first_line(error)
    where = raised_in(error, code)
    return f"{where}{': ' if where else ''}{type(error).__name__}: {first_line(error)}"


def require_all(what: str, findings: Sequence[Finding]) -> None:
    """Raise if a property does not hold or could not be checked.

    Raises:
        ContractError: has one line per such property.
    """
    broken = [f"  {finding.name}: {finding.detail}" for finding in findings if finding.ok is False]
    broken += [f"  {finding.name}: not checked: {finding.detail}" for finding in findings if not finding.checked]
    if broken:
        raise ContractError("\n".join([f"{what} breaks its contract:", *broken]))


def findings_table(findings: Sequence[Finding]) -> Any:
    """The findings as a table for the terminal."""
    from rich.markup import escape
    from rich.table import Table

    words = {True: "yes", False: "NO", None: "-"}
    table = Table("property", "holds", "observed")
    for finding in findings:
        table.add_row(finding.name, words[finding.ok] if finding.checked else "not checked", escape(finding.detail))
    return table
