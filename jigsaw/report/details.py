"""The parts of an evaluation that a page shows below its main figures.

In: what `evaluation.json` holds of one checkpoint, or whatever stands there. Out: tables for the template, each line
with the JSON field that it is read from. What another version wrote, or a broken disk, is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jigsaw.evaluation.intervals import Estimate
from jigsaw.evaluation.predictions import number
from jigsaw.evaluation.tables import kind_of

REASONS = {
    "ok": "taken",
    "malformed": "the tags are not as asked",
    "several_answers": "it gives more than one answer",
    "empty": "the answer is empty",
    "not_integers": "the answer is no list of whole numbers",
    "wrong_count": "the answer has too few or too many numbers",
    "out_of_range": "the answer names a piece that does not exist",
    "duplicate": "the answer uses a piece twice",
}
"""`ParsedOrder.reason` in words."""

LARGEST_MAP = 16
"""Pieces up to which a confusion of places is drawn; beyond, its cells are too small to be read."""


@dataclass(frozen=True)
class Entry:
    """A figure: what it is of, where it stands, and its level of chance or p-value where it has one."""

    name: str
    field: str
    estimate: Estimate
    chance: float | None = None
    p: float | None = None


@dataclass(frozen=True)
class Kind:
    """A kind of puzzle: how many there are, and their `exact` and `place_accuracy`. One kind alone is not shown."""

    name: str
    puzzles: int
    entries: Sequence[Entry]


@dataclass(frozen=True)
class Map:
    """Which piece went where, for one kind of puzzle.

    Attributes:
        title: the kind in words.
        shares: row i, column j: the share of valid answers that put the piece of place j at place i.
        valid: how many those are.
        cells: place accuracy of corners, edges and the interior of a grid; empty where all places are of one kind.
    """

    title: str
    field: str
    shares: Sequence[Sequence[float]]
    valid: int
    cells: Sequence[Entry]


@dataclass(frozen=True)
class Details:
    """All that is shown of one checkpoint beyond its main figures."""

    kinds: Sequence[Kind]
    reasons: Sequence[tuple[str, int, str]]
    maps: Sequence[Map]
    sampled: Sequence[Entry]
    compared: Sequence[Entry]
    compared_with: str


def details_of(stored: Mapping[str, Any], field: str = "") -> Details:
    """The details of a checkpoint's figures; `field` is where those stand in the file."""
    prefix = f"{field}." if field else ""
    compared, kinds = _mapping(stored.get("compared")), list(_kinds(stored.get("groups"), prefix))
    reasons = _mapping(stored.get("reasons"))
    refused = any(name != "ok" for name in reasons)
    return Details(
        kinds=kinds if len(kinds) > 1 else [],
        reasons=[
            (REASONS.get(str(name), str(name)), count, f"{prefix}reasons.{name}")
            for name, count in reasons.items()
            if refused and isinstance(count, int)
        ],
        maps=list(_maps(stored.get("places"), prefix)),
        sampled=list(_sampled(_mapping(stored.get("sampled")), f"{prefix}sampled")),
        compared=list(_entries(_mapping(compared.get("difference")), f"{prefix}compared.difference")),
        compared_with=str(compared.get("with", "")),
    )


def _kinds(stored: Any, prefix: str) -> Iterator[Kind]:
    for at, group in enumerate(_list(stored)):
        if isinstance(group, Mapping) and {"task", "num_pieces", "difficulty"} <= group.keys():
            figures = {name: group.get(name) for name in ("exact", "place_accuracy")}
            entries = list(_entries(figures, f"{prefix}groups[{at}]"))
            if len(entries) == len(figures):
                yield Kind(kind_of(group), int(number(group.get("num_puzzles")) or 0), entries)


def _maps(stored: Any, prefix: str) -> Iterator[Map]:
    for at, entry in enumerate(_list(stored)):
        shares = [_list(row) for row in _list(_mapping(entry).get("confusion"))]
        size = len(shares)
        square = all(len(row) == size and all(number(share) is not None for share in row) for row in shares)
        if not (square and 0 < size <= LARGEST_MAP):
            continue
        grid = _list(entry.get("grid"))
        title = f"{entry.get('task')}, {f'{grid[0]}x{grid[1]}' if len(grid) == 2 else f'{size} in a row'}"
        field = f"{prefix}places[{at}]"
        cells = list(_entries(_mapping(entry.get("cells")), f"{field}.cells"))
        cells = cells if len(cells) > 1 else []
        yield Map(title, f"{field}.confusion", shares, int(number(entry.get("valid")) or 0), cells)


def _sampled(stored: Mapping[str, Any], field: str) -> Iterator[Entry]:
    for at, point in enumerate(_list(stored.get("pass_at"))):
        yield from _entries({f"pass@{_mapping(point).get('k')}": point}, "", f"{field}.pass_at[{at}]")
    majority = _mapping(stored.get("majority"))
    for name in majority:
        yield from _entries({f"{name} of the vote": majority[name]}, "", f"{field}.majority.{name}")


def _entries(stored: Mapping[str, Any], below: str, field: str = "") -> Iterator[Entry]:
    """The figures of a mapping, each at `field` or under its own name `below` one."""
    for name, figure in stored.items():
        parts = [number(_mapping(figure).get(part)) for part in ("value", "low", "high")]
        known = [part for part in parts if part is not None]
        if len(known) == len(parts):
            level, p = number(figure.get("chance")), number(figure.get("p_value"))
            shown = str(name).replace("_", " ") if below else str(name)
            yield Entry(shown, field or f"{below}.{name}", Estimate(*known), level, p)


def _mapping(stored: Any) -> Mapping[str, Any]:
    return stored if isinstance(stored, Mapping) else {}


def _list(stored: Any) -> Sequence[Any]:
    return stored if isinstance(stored, list) else ()
