"""`Shortcut`: a simple rule that answers puzzles, and the remedies for each kind of leak."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from jigsaw.tasks import Leak

Sample = TypeVar("Sample")


@dataclass(frozen=True)
class Shortcut(Generic[Sample]):
    """A rule that answers puzzles of one kind without understanding what they show.

    Attributes:
        name: its name in the table.
        what: what it reads.
        leak: the kind of leak, which selects the remedy.
        solve: returns an answer for each puzzle, or None if the rule does not apply.
    """

    name: str
    what: str
    leak: Leak
    solve: Callable[[Sequence[Sample]], Sequence[Any] | None]


DEFAULT_REMEDIES: Mapping[Leak, str] = {
    "order": "set identity=true and build the set again: the shown orders are not uniformly random",
    "edges": "leave a gap between the pieces, with an option of the task",
    "look": "use sources with other subjects or other light",
    "form": "resize the pieces to one size, with an option of the task",
    "position": "use other sources, or choose the points in other places",
}
"""The remedies for tasks that do not name one."""
