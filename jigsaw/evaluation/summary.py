"""From completions to figures: what share was solved, how sure that is, and what guessing would have earned.

In: rows with their completions, as `solve` gives them. Out: a score per completion, and summaries of the form that
`evaluation.json` holds: `{"place_accuracy": {"value": 0.44, "low": 0.39, "high": 0.49, "chance": 0.25}, ...}`. Puzzles
of one source rise and fall together, and intervals know it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jigsaw.evaluation.intervals import bootstrap_mean, rate_interval, sign_flip_p
from jigsaw.evaluation.random_play import random_levels, random_rewards, total_rewards
from jigsaw.rewards import Composition, exact, grid_of, kendall_tau, neighbor_accuracy, parse_order, place_accuracy

RATES = ("exact", "place_accuracy", "neighbor_accuracy", "kendall_tau", "valid", "format")
"""Figures in [0, 1]. An answer that is no permutation counts 0 in all but the last, which speaks of the form alone."""

FIGURES = (*RATES, "reward")

Row = Mapping[str, Any]


def heading(figure: str) -> str:
    """A figure's name as tables print it.

    >>> heading("kendall_tau")
    'kendall tau'
    """
    return figure.replace("_", " ")


@dataclass(frozen=True)
class Scored:
    """One completion of a puzzle and what it is worth.

    Attributes:
        sample: number of the completion, from 0; 0 for the greedy one.
        grid: rows and columns of the places, or None for places in a row.
        contrast: what tells the pieces apart (`jigsaw.evaluation.difficulty`); the smaller the harder.
        order: None where the text holds no permutation.
        reason: `ok`, or why there is no order.
        exact: 1 or 0, as are `valid` and `format`; `place_accuracy`, `neighbor_accuracy` and `kendall_tau` are shares.
    """

    id: str
    task: str
    source: str
    sample: int
    answer: list[int]
    classes: list[int] | None
    grid: list[int] | None
    contrast: float | None
    completion: str
    order: list[int] | None
    reason: str
    exact: float
    place_accuracy: float
    neighbor_accuracy: float
    kendall_tau: float
    valid: float
    format: float
    reward: float

    @property
    def num_pieces(self) -> int:
        """`K`, the number of pieces."""
        return len(self.answer)


def score(rows: Sequence[Row], composition: Composition) -> list[Scored]:
    """Score completions.

    Args:
        rows: puzzle columns and `completion`.
        composition: rewards and their weights; `reward` is their weighted sum.
    """
    totals = total_rewards(rows, [row["completion"] for row in rows], composition)
    return [_scored(row, reward) for row, reward in zip(rows, totals, strict=True)]


def _scored(row: Row, reward: float) -> Scored:
    answer, classes = list(row["answer"]), row["classes"]
    grid = grid_of(row.get("geometry"), len(answer))
    parsed = parse_order(row["completion"], len(answer), row["answer_style"])
    return Scored(
        id=row["id"],
        task=row["task"],
        source=row["source"]["path"],
        sample=row.get("sample", 0),
        answer=answer,
        classes=None if classes is None else list(classes),
        grid=None if grid is None else list(grid),
        contrast=row.get("contrast"),
        completion=row["completion"],
        order=parsed.order,
        reason=parsed.reason,
        exact=exact(parsed.order, answer, classes),
        place_accuracy=place_accuracy(parsed.order, answer, classes),
        neighbor_accuracy=neighbor_accuracy(parsed.order, answer, classes, grid=grid),
        kendall_tau=kendall_tau(parsed.order, answer, classes),
        valid=float(parsed.order is not None),
        format=float(parsed.well_formed),
        reward=reward,
    )


def levels_of(rows: Sequence[Row], composition: Composition) -> list[dict[str, float | None]]:
    """What a player earns on each row who writes a uniformly random permutation in the right form.

    `valid` and `format` have no level, since such a player always gets them. Rewards are asked once for all rows.
    """
    found = []
    for row, reward in zip(rows, random_rewards(rows, composition), strict=True):
        levels = random_levels(row)
        found.append({name: levels.get(name) for name in RATES} | {"reward": reward})
    return found


def mean_levels(levels: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Means of chance levels; None for a figure that has no level on one of the rows."""
    means: dict[str, float | None] = {}
    for name in FIGURES:
        known = [value for level in levels if (value := level[name]) is not None]
        means[name] = sum(known) / len(levels) if len(known) == len(levels) else None
    return means


def summarize(scored: Sequence[Scored], chance_levels: Mapping[str, float | None]) -> dict[str, Any]:
    """Means with intervals and chance levels, the number of puzzles and the number of sources."""
    sources = [item.source for item in scored]
    summary: dict[str, Any] = {
        name: asdict(_estimate(name, [getattr(item, name) for item in scored], sources))
        | {"chance": chance_levels[name]}
        for name in FIGURES
    }
    return summary | {"num_puzzles": len({item.id for item in scored}), "num_sources": len(set(sources))}


def _estimate(name: str, values: Sequence[float], sources: Sequence[str]) -> Any:
    return rate_interval(values, sources) if name in RATES else bootstrap_mean(values, sources)


def gain(
    before: Sequence[Scored], after: Sequence[Scored], figures: Sequence[str] = ("exact", "place_accuracy", "reward")
) -> dict[str, Any]:
    """Paired differences on the same puzzles, after less before: mean, interval and p-value each.

    Intervals resample sources; the p-value is that of a randomisation test over sources (`sign_flip_p`).

    Raises:
        ValueError: the two are not of the same puzzles in the same order.
    """
    pairs = list(zip(before, after, strict=True))
    if any((first.id, first.sample) != (second.id, second.sample) for first, second in pairs):
        raise ValueError("the two evaluations are of different puzzles")
    sources = [second.source for _, second in pairs]
    found = {}
    for name in figures:
        differences = [getattr(second, name) - getattr(first, name) for first, second in pairs]
        found[name] = asdict(bootstrap_mean(differences, sources)) | {"p_value": sign_flip_p(differences, sources)}
    return found
