"""Where the points were made and lost: figures by kind of puzzle, reasons of refusal, and which piece went where.

In: scored completions. Out: what `evaluation.json` holds of one checkpoint, plain values only: the figures of
`summary`, and ::

    groups       figures per task, per number of pieces, and per third of difficulty within those
    reasons      how often an answer was refused, and why
    places       per kind of puzzle a confusion of places and, for grids, corners, edges and the interior apart
    sampled      with several completions per puzzle: pass@k, and the vote place by place
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

import numpy as np

from jigsaw.evaluation.difficulty import LABELS, labels
from jigsaw.evaluation.intervals import rate_interval
from jigsaw.evaluation.summary import Scored, levels_of, mean_levels, summarize
from jigsaw.evaluation.voting import majority_order, pass_at_k, powers_of_two
from jigsaw.rewards import Composition, chance_exact, chance_place_accuracy, exact, place_accuracy, true_places

Levels = Callable[[Sequence[str]], Mapping[str, float | None]]
"""Chance levels of the puzzles with these ids."""

Cell = Literal["corner", "edge", "interior"]
CELLS: tuple[Cell, ...] = ("corner", "edge", "interior")


def figures_of(
    puzzles: Sequence[Mapping[str, Any]], scored: Sequence[Scored], composition: Composition
) -> dict[str, Any]:
    """All figures of one checkpoint.

    Args:
        puzzles: a row for each puzzle.
        scored: all completions.
        composition: the rewards that `reward` is the sum of.
    """
    each = levels_of(puzzles, composition)
    by_id = {row["id"]: own for row, own in zip(puzzles, each, strict=True)}

    def levels(ids: Sequence[str]) -> dict[str, float | None]:
        return mean_levels([by_id[name] for name in dict.fromkeys(ids)])

    figures = summarize(scored, mean_levels(each))
    figures |= {"groups": groups(scored, levels), "reasons": reasons(scored), "places": places(scored)}
    if scored[-1].sample:
        figures["sampled"] = sampled(scored)
    return figures


def groups(scored: Sequence[Scored], levels: Levels) -> list[dict[str, Any]]:
    """Figures per task; per task and number of pieces; and within those per third of `contrast`.

    Each has `task`, `num_pieces` and `difficulty` (null where it covers all), and the figures of `summarize`. What has
    only one member below it is not repeated.
    """
    found = []
    by_task = _grouped(scored, lambda item: item.task)
    for task, items in by_task.items():
        by_pieces = _grouped(items, lambda item: item.num_pieces)
        if len(by_task) > 1 or len(by_pieces) > 1:
            found.append(_group(items, levels, task))
        for pieces, same in by_pieces.items():
            found.append(_group(same, levels, task, pieces))
            first = [item for item in same if item.sample == 0]
            thirds = dict(zip([item.id for item in first], labels([item.contrast for item in first]), strict=True))
            for label in LABELS:
                if third := [item for item in same if thirds[item.id] == label]:
                    found.append(_group(third, levels, task, pieces, label))
    return found


def _grouped(items: Sequence[Scored], key: Callable[[Scored], Any]) -> dict[Any, list[Scored]]:
    found: dict[Any, list[Scored]] = defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return {name: found[name] for name in sorted(found)}


def _group(
    items: Sequence[Scored], levels: Levels, task: str, pieces: int | None = None, difficulty: str | None = None
) -> dict[str, Any]:
    figures = summarize(items, levels([item.id for item in items]))
    return {"task": task, "num_pieces": pieces, "difficulty": difficulty, **figures}


def reasons(scored: Sequence[Scored]) -> dict[str, int]:
    """How often each `ParsedOrder.reason` came up, the most frequent first; `ok` is an answer that was taken."""
    return dict(Counter(item.reason for item in scored).most_common())


def cell_of(place: int, grid: tuple[int, int]) -> Cell:
    """Whether a place of a grid lies in a corner, on an edge or inside. A side of length 1 has corners at both ends.

    >>> [cell_of(place, (3, 3)) for place in (0, 1, 4)]
    ['corner', 'edge', 'interior']
    """
    rows, columns = grid
    row, column = divmod(place, columns)
    ends = (row in (0, rows - 1)) + (column in (0, columns - 1))
    return "corner" if ends == 2 else "edge" if ends else "interior"


def places(scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """Per task, number of pieces and grid, where pieces went.

    Each has `confusion`: row i, column j is the share of valid answers in which the piece that belongs at place j was
    put at place i (null without a valid answer); `valid`, how many those are; and for grids `cells`: the place accuracy
    of corners, edges and the interior, invalid answers counted 0, with intervals and chance.
    """
    found = []
    kinds = _grouped(scored, lambda item: (item.task, item.num_pieces, tuple(item.grid or ())))
    for (task, pieces, grid), items in kinds.items():
        homes = [true_places(item.order, item.answer, item.classes) for item in items]
        counts = np.zeros((pieces, pieces))
        valid = [home for home in homes if home is not None]
        for home in valid:
            counts[range(pieces), home] += 1
        found.append(
            {
                "task": task,
                "num_pieces": pieces,
                "grid": list(grid) or None,
                "valid": len(valid),
                "confusion": (counts / len(valid)).tolist() if valid else None,
                "cells": _cells(items, homes, grid) if grid else None,
            }
        )
    return found


def _cells(items: Sequence[Scored], homes: Sequence[list[int] | None], grid: tuple[int, int]) -> dict[str, Any]:
    kinds = [cell_of(place, grid) for place in range(grid[0] * grid[1])]
    found: dict[str, Any] = {}
    for kind in CELLS:
        own = [place for place, other in enumerate(kinds) if other == kind]
        if own:
            shares = [sum(home[place] == place for place in own) / len(own) if home else 0.0 for home in homes]
            chance = sum(chance_place_accuracy(item.num_pieces, item.classes) for item in items) / len(items)
            sources = [item.source for item in items]
            found[kind] = asdict(rate_interval(shares, sources)) | {"chance": chance, "places": len(own)}
    return found


def sampled(scored: Sequence[Scored]) -> dict[str, Any]:
    """Pass@k and the majority vote of puzzles with several completions each.

    Returns:
        `samples`; `pass_at`, one entry per k with `k`, the interval and the chance of k random orders; `majority`,
        exact and place accuracy of the vote, a puzzle without a valid answer counted 0, and their chance: no piece is
        favoured by votes that are drawn evenly, so that of a single random order.
    """
    by_puzzle = list(_grouped(scored, lambda item: item.id).values())
    count = len(by_puzzle[0])
    sources = [items[0].source for items in by_puzzle]
    right = [sum(item.exact == 1.0 for item in items) for items in by_puzzle]
    lucky = [chance_exact(items[0].num_pieces, items[0].classes) for items in by_puzzle]
    placed = [chance_place_accuracy(items[0].num_pieces, items[0].classes) for items in by_puzzle]
    voted = [majority_order([item.order for item in items]) for items in by_puzzle]
    scores = {
        name: [score(order, items[0].answer, items[0].classes) for order, items in zip(voted, by_puzzle, strict=True)]
        for name, score in (("exact", exact), ("place_accuracy", place_accuracy))
    }
    return {
        "samples": count,
        "pass_at": [
            {"k": k}
            | asdict(rate_interval([pass_at_k(hits, count, k) for hits in right], sources))
            | {"chance": sum(1 - (1 - luck) ** k for luck in lucky) / len(lucky)}
            for k in powers_of_two(count)
        ],
        "majority": {
            name: asdict(rate_interval(scores[name], sources)) | {"chance": sum(levels) / len(levels)}
            for name, levels in (("exact", lucky), ("place_accuracy", placed))
        },
    }
