"""From completions to figures: what share was solved, how sure that is, and what guessing would have earned.

In: rows with their completions, as `solve` gives them. Out: a score per puzzle, and summaries of the form that
`evaluation.json` holds: `{"place": {"value": 0.44, "low": 0.39, "high": 0.49, "chance": 0.25}, ...}`. Intervals
resample sources, since puzzles of one photo rise and fall together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from random import Random
from typing import Any

from jigsaw.evaluation.intervals import bootstrap_mean
from rewards import (
    Composition,
    chance_exact,
    chance_place_accuracy,
    exact,
    format_order,
    parse_order,
    place_accuracy,
)

FIGURES = ("exact", "place", "valid", "reward")
ALL_ORDERS_UP_TO = 5
SAMPLED_ORDERS = 120

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Scored:
    """One puzzle, its completion and what that is worth. `order` is None where the text holds no permutation."""

    id: str
    task: str
    source: str
    answer: list[int]
    completion: str
    order: list[int] | None
    reason: str
    exact: float
    place: float
    valid: float
    reward: float


def score(rows: Sequence[Row], composition: Composition) -> list[Scored]:
    """Score completions.

    Args:
        rows: puzzle columns and `completion`.
        composition: rewards and their weights; `reward` is their weighted sum.
    """
    totals = _totals(rows, [row["completion"] for row in rows], composition)
    scored = []
    for row, reward in zip(rows, totals, strict=True):
        parsed = parse_order(row["completion"], len(row["answer"]), row["answer_style"])
        right = 0.0 if parsed.order is None else place_accuracy(parsed.order, row["answer"], row["classes"])
        whole = 0.0 if parsed.order is None else exact(parsed.order, row["answer"], row["classes"])
        scored.append(
            Scored(
                id=row["id"],
                task=row["task"],
                source=row["source"]["path"],
                answer=list(row["answer"]),
                completion=row["completion"],
                order=parsed.order,
                reason=parsed.reason,
                exact=whole,
                place=right,
                valid=float(parsed.order is not None),
                reward=reward,
            )
        )
    return scored


def chance(rows: Sequence[Row], composition: Composition) -> dict[str, float | None]:
    """What a player earns who writes a uniformly random permutation in the right form.

    Every order of up to five pieces is tried; of more pieces 120 are drawn, seeded by the puzzle. `valid` has no chance
    level: such a player is always valid.
    """
    texts, repeated, exacts, places = [], [], [], []
    for row in rows:
        pieces = len(row["answer"])
        if pieces <= ALL_ORDERS_UP_TO:
            orders = [list(order) for order in permutations(range(1, pieces + 1))]
        else:
            rng = Random(row["id"])
            orders = [rng.sample(range(1, pieces + 1), pieces) for _ in range(SAMPLED_ORDERS)]
        texts += [format_order(order, row["answer_style"]) for order in orders]
        repeated += [(row, 1 / len(orders) / len(rows))] * len(orders)
        exacts.append(chance_exact(pieces, row["classes"]))
        places.append(chance_place_accuracy(pieces, row["classes"]))
    totals = _totals([row for row, _ in repeated], texts, composition)
    return {
        "exact": sum(exacts) / len(exacts),
        "place": sum(places) / len(places),
        "valid": None,
        "reward": sum(total * share for total, (_, share) in zip(totals, repeated, strict=True)),
    }


def summarize(scored: Sequence[Scored], chance_levels: Mapping[str, float | None]) -> dict[str, Any]:
    """Means with intervals and chance levels, the number of puzzles and the number of sources."""
    sources = [item.source for item in scored]
    summary: dict[str, Any] = {
        name: asdict(bootstrap_mean([getattr(item, name) for item in scored], sources))
        | {"chance": chance_levels[name]}
        for name in FIGURES
    }
    return summary | {"num_puzzles": len(scored), "num_sources": len(set(sources))}


def gain(before: Sequence[Scored], after: Sequence[Scored]) -> dict[str, Any]:
    """Paired differences of place accuracy and reward on the same puzzles, after less before, with intervals."""
    pairs = list(zip(before, after, strict=True))
    if any(first.id != second.id for first, second in pairs):
        raise ValueError("the two evaluations are of different puzzles")
    sources = [second.source for _, second in pairs]
    return {
        name: asdict(bootstrap_mean([getattr(second, name) - getattr(first, name) for first, second in pairs], sources))
        for name in ("place", "reward")
    }


def _totals(rows: Sequence[Row], texts: Sequence[str], composition: Composition) -> list[float]:
    keys = [key for key in rows[0] if key != "completion"]
    totals = composition.total(composition.score(list(texts), {key: [row[key] for row in rows] for key in keys}))
    return [0.0 if total is None else total for total in totals]
