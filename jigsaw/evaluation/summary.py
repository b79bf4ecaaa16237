"""From completions to figures: what share was solved, how sure that is, and what guessing would have earned.

In: rows with their completions, as `solve` gives them. Out: a score per completion, and summaries of the form that
`evaluation.json` holds: `{"place": {"value": 0.44, "low": 0.39, "high": 0.49, "chance": 0.25}, ...}`. Puzzles of one
source rise and fall together, and intervals know it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from random import Random
from typing import Any

from jigsaw.evaluation.intervals import bootstrap_mean, rate_interval, sign_flip_p
from rewards import (
    Composition,
    chance_exact,
    chance_kendall_tau,
    chance_neighbor_accuracy,
    chance_order_reward,
    chance_place_accuracy,
    exact,
    format_order,
    grid_of,
    kendall_tau,
    neighbor_accuracy,
    parse_order,
    place_accuracy,
)

RATES = ("exact", "place", "neighbor", "kendall_tau", "valid", "format")
"""Figures in [0, 1]. An answer that is no permutation counts 0 in all but the last, which speaks of the form alone."""

FIGURES = (*RATES, "reward")
ALL_ORDERS_UP_TO = 5
SAMPLED_ORDERS = 120

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Scored:
    """One completion of a puzzle and what it is worth.

    Attributes:
        sample: number of the completion, from 0; 0 for the greedy one.
        grid: rows and columns of the places, or None for places in a row.
        contrast: what tells the pieces apart (`jigsaw.evaluation.difficulty`); the smaller the harder.
        order: None where the text holds no permutation.
        reason: `ok`, or why there is no order.
        exact: 1 or 0, as are `valid` and `format`; `place`, `neighbor` and `kendall_tau` are shares.
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
    place: float
    neighbor: float
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
    totals = _totals(rows, [row["completion"] for row in rows], composition)
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
        place=place_accuracy(parsed.order, answer, classes),
        neighbor=neighbor_accuracy(parsed.order, answer, classes, grid=grid),
        kendall_tau=kendall_tau(parsed.order, answer, classes),
        valid=float(parsed.order is not None),
        format=float(parsed.well_formed),
        reward=reward,
    )


def chance(rows: Sequence[Row], composition: Composition) -> dict[str, float | None]:
    """What a player earns who writes a uniformly random permutation in the right form: means over the rows.

    Closed forms (`rewards.chance`) but for rewards other than `visual_jigsaw`: of those every order of up to five
    pieces is tried, and of more pieces 120, seeded by the puzzle. `valid` and `format` have no level, since such a
    player always gets them; `neighbor` has none where pieces look alike.
    """
    levels = [_levels(row) for row in rows]
    rewards = _known_rewards(rows, composition) or _tried_rewards(rows, composition)
    shared = {name: [level[name] for level in levels] for name in RATES}
    known = {name: [value for value in values if value is not None] for name, values in shared.items()}
    means = {name: sum(values) / len(rows) if len(values) == len(rows) else None for name, values in known.items()}
    return means | {"reward": sum(rewards) / len(rows)}


def _levels(row: Row) -> dict[str, float | None]:
    """The chance levels of one puzzle."""
    pieces, classes = len(row["answer"]), row["classes"]
    placed = None if classes is None else [classes[piece - 1] for piece in row["answer"]]
    grid = grid_of(row.get("geometry"), pieces)
    return {
        "exact": chance_exact(pieces, classes),
        "place": chance_place_accuracy(pieces, classes),
        "neighbor": chance_neighbor_accuracy(pieces, grid=grid) if classes is None else None,
        "kendall_tau": chance_kendall_tau(pieces, placed),
        "valid": None,
        "format": None,
    }


def _known_rewards(rows: Sequence[Row], composition: Composition) -> list[float] | None:
    """The level of each row where `visual_jigsaw` is the only reward; None where it is not."""
    specs = [part.spec for part in composition.rewards]
    if len(specs) != 1 or specs[0].use != "visual_jigsaw" or specs[0].only is not None:
        return None
    options = dict(specs[0].args)
    weight = options.pop("format_weight", 0.2)
    options.pop("format_gate", None)  # for text that is not well formed
    return [
        specs[0].weight
        * (
            chance_order_reward(len(row["answer"]), row["classes"], **options)
            + (0.0 if row["answer_style"] == "direct" else weight)
        )
        for row in rows
    ]


def _tried_rewards(rows: Sequence[Row], composition: Composition) -> list[float]:
    texts: list[str] = []
    repeated: list[Row] = []
    counts: list[int] = []
    for row in rows:
        pieces = len(row["answer"])
        if pieces <= ALL_ORDERS_UP_TO:
            orders = [list(order) for order in permutations(range(1, pieces + 1))]
        else:
            rng = Random(row["id"])
            orders = [rng.sample(range(1, pieces + 1), pieces) for _ in range(SAMPLED_ORDERS)]
        texts += [format_order(order, row["answer_style"]) for order in orders]
        repeated += [row] * len(orders)
        counts.append(len(orders))
    totals = iter(_totals(repeated, texts, composition))
    return [sum(next(totals) for _ in range(count)) / count for count in counts]


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
    before: Sequence[Scored], after: Sequence[Scored], figures: Sequence[str] = ("place", "reward")
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


def _totals(rows: Sequence[Row], texts: Sequence[str], composition: Composition) -> list[float]:
    keys = [key for key in rows[0] if key != "completion"]
    totals = composition.total(composition.score(list(texts), {key: [row[key] for row in rows] for key in keys}))
    return [0.0 if total is None else total for total in totals]
