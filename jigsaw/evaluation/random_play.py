"""What a player earns who writes a uniformly random permutation in the right form: the level to hold figures against.

In: puzzle rows. Out: levels per row. Closed forms (`jigsaw.rewards.chance`) for every built-in score and for rewards
that are made up of them; for other rewards orders are tried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from random import Random
from typing import Any

from jigsaw.rewards import (
    Composition,
    RewardError,
    RewardSpec,
    chance_exact,
    chance_footrule,
    chance_kendall_tau,
    chance_longest_run,
    chance_neighbor_accuracy,
    chance_order_reward,
    chance_place_accuracy,
    chance_smoothed,
    format_order,
    grid_of,
)

Row = Mapping[str, Any]

ALL_ORDERS_UP_TO = 5
SAMPLED_ORDERS = 120


def random_levels(row: Row) -> dict[str, float | None]:
    """The mean of each built-in order score, by name; None where no closed form is known.

    That is the case for `footrule`, `longest_run` and `smoothed` where pieces look alike: what they give depends on
    where those belong, and no recipe of ours has them on such sets.
    """
    pieces, classes = len(row["answer"]), row.get("classes")
    grid = grid_of(row.get("geometry"), pieces)
    placed = None if classes is None else [classes[piece - 1] for piece in row["answer"]]
    alike = classes is not None and len(set(classes)) < pieces
    try:
        neighbors: float | None = chance_neighbor_accuracy(pieces, placed, grid=grid)
    except RewardError:  # too many arrangements of equal pieces
        neighbors = None
    return {
        "exact": chance_exact(pieces, classes),
        "place_accuracy": chance_place_accuracy(pieces, classes),
        "neighbor_accuracy": neighbors,
        "kendall_tau": chance_kendall_tau(pieces, placed),
        "footrule": None if alike else chance_footrule(pieces),
        "longest_run": None if alike else chance_longest_run(pieces),
        "smoothed": None if alike else chance_smoothed(pieces, grid=grid),
    }


def random_rewards(rows: Sequence[Row], composition: Composition) -> list[float]:
    """The mean total reward of each row: exact where all parts have a closed form, else by trying orders."""
    found = [_known_reward(row, composition) for row in rows]
    known = [value for value in found if value is not None]
    return known if len(known) == len(rows) else _tried(rows, composition)


def known_levels(rows: Sequence[Row], composition: Composition) -> dict[str, float]:
    """The mean levels of `exact`, `place_accuracy` and `reward`, as far as closed forms give them: no reward is called.

    Args:
        rows: puzzles; their media are not read.
        composition: of the rewards.
    """
    found: dict[str, list[float | None]] = {
        "exact": [chance_exact(len(row["answer"]), row.get("classes")) for row in rows],
        "place_accuracy": [chance_place_accuracy(len(row["answer"]), row.get("classes")) for row in rows],
        "reward": [_known_reward(row, composition) for row in rows],
    }
    known = {name: [value for value in values if value is not None] for name, values in found.items()}
    return {name: sum(values) / len(rows) for name, values in known.items() if rows and len(values) == len(rows)}


def _known_reward(row: Row, composition: Composition) -> float | None:
    """The level of the total reward on a row, or None where a part has no closed form."""
    parts = [_known(part.spec, row) for part in composition.rewards]
    known = [value for value in parts if value is not None]
    return sum(known) if len(known) == len(parts) else None


def _known(spec: RewardSpec, row: Row) -> float | None:
    """A reward's level on a row, weighted; None where it has to be tried."""
    if spec.only is not None and row["task"] not in spec.only:
        return 0.0
    value = _JIGSAW[spec.use](row, spec.args) if spec.use in _JIGSAW else None
    if spec.use not in _JIGSAW and not spec.args:  # options such as an exponent have no closed form
        value = random_levels(row).get(spec.use)
    return None if value is None else spec.weight * value


def _visual_jigsaw(row: Row, args: Mapping[str, Any]) -> float:
    options = {name: value for name, value in args.items() if name in ("discount", "min_pieces_for_partial")}
    well_formed = 0.0 if row["answer_style"] == "direct" else float(args.get("format_weight", 0.2))
    return chance_order_reward(len(row["answer"]), row.get("classes"), **options) + well_formed


_JIGSAW: Mapping[str, Callable[[Row, Mapping[str, Any]], float]] = {
    "visual_jigsaw": _visual_jigsaw,
    "valid": lambda *_: 1.0,
    "format": lambda *_: 1.0,
}


def _tried(rows: Sequence[Row], composition: Composition) -> list[float]:
    """Means over every order of up to five pieces, and over 120 of more, seeded by the puzzle."""
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
    totals = iter(total_rewards(repeated, texts, composition))
    return [sum(next(totals) for _ in range(count)) / count for count in counts]


def total_rewards(rows: Sequence[Row], texts: Sequence[str], composition: Composition) -> list[float]:
    """The weighted sum of rewards of a text for each row."""
    keys = [key for key in rows[0] if key != "completion"]
    totals = composition.total(composition.score(list(texts), {key: [row[key] for row in rows] for key in keys}))
    return [0.0 if total is None else total for total in totals]
