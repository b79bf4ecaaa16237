"""What a shortcut is, and what closes each kind of leak."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from jigsaw.tasks import Leak, task_named

Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Shortcut(Generic[Seen]):
    """A rule that answers puzzles of one kind without understanding what they show.

    Attributes:
        name: as it is reported.
        what: what it reads, in words.
        leak: the kind of leak, by which a task has its remedy.
        solve: an answer for each puzzle, or None where the rule does not apply.
    """

    name: str
    what: str
    leak: Leak
    solve: Callable[[Sequence[Seen]], Sequence[Any] | None]


USUAL_REMEDIES: Mapping[Leak, str] = {
    "order": "sampling: the shown orders are not drawn evenly; build the set again, with identity=true",
    "edges": "leave a gap between the pieces",
    "look": "sampling: other sources",
    "form": "resize the pieces to one size",
    "position": "sampling: other sources, or points in other places",
}
"""What closes a leak, where its task has no remedy of its own."""


def remedy_of(leak: Leak, task: str) -> str:
    """What closes a leak of the task of that name."""
    return task_named(task).REMEDIES.get(leak, USUAL_REMEDIES[leak])
