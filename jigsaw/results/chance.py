"""Chance levels: the scores of a player who writes random answers in the right form.

In: puzzles and rewards. Out: levels per puzzle, and their means. The random answer to an order is a uniformly random
permutation. Order scores and the paper's reward have closed forms (`jigsaw.rewards.chance`). Other rewards are
computed for every order of up to five pieces, and for more pieces estimated from 120 random orders, with a standard
error.
The random answer to a choice is a random option; to an interval or box, one between two random moments or points.
Numbers, texts and expressions have no chance level.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from math import sqrt
from random import Random
from typing import Any

from jigsaw.rewards import (
    Composition,
    RewardError,
    RewardSpec,
    chance_exact,
    chance_kendall_tau,
    chance_neighbor_accuracy,
    chance_place_accuracy,
    grid_of,
    neighbor_accuracy,
)
from jigsaw.rewards.answers import ORDER, kind_of_row

Puzzle = Mapping[str, Any]

ALL_ORDERS_UP_TO = 5
"""Maximum number of pieces for which a reward without a closed form scores all orders."""

SAMPLED_ORDERS = 120
"""Number of random orders for puzzles with more pieces."""


@dataclass(frozen=True)
class Level:
    """A mean over random answers. `error` is its standard error, or 0 if it was computed from all of them."""

    mean: float
    error: float = 0.0


Levels = Mapping[str, Level | None]
"""Figure -> level, None if it cannot be computed. A reward that does not apply to the puzzle's task has no entry."""


def levels_of(puzzles: Sequence[Puzzle], composition: Composition) -> list[Levels]:
    """The levels of each puzzle: order scores, `reward`, and with several rewards `reward/NAME`.

    `valid` and `format` have no level, because an answer in the right form always gets 1.
    """
    closed = [_closed_forms(puzzle, composition) for puzzle in puzzles]
    others = [puzzle for puzzle, levels in zip(puzzles, closed, strict=True) if levels is None]
    scored = iter(_scored_guesses(others, composition))
    return [
        answer_levels(puzzle) | (next(scored) if levels is None else levels)
        for puzzle, levels in zip(puzzles, closed, strict=True)
    ]


def mean_levels(levels: Sequence[Levels]) -> dict[str, Level | None]:
    """Means over puzzles. A figure without a level on one of them has the mean None."""
    means: dict[str, Level | None] = {}
    for name in dict.fromkeys(name for of_puzzle in levels for name in of_puzzle):
        values = [of_puzzle[name] for of_puzzle in levels if name in of_puzzle]
        numbers = [level for level in values if level is not None]
        means[name] = None
        if len(numbers) == len(values):
            error = sqrt(sum(level.error**2 for level in numbers)) / len(numbers)
            means[name] = Level(sum(level.mean for level in numbers) / len(numbers), error)
    return means


def answer_levels(puzzle: Puzzle) -> dict[str, Level | None]:
    """The level of `exact`, and if the answer is an order also those of the other order scores."""
    levels = {"exact": _level(chance_of_right(puzzle))}
    if not _is_order(puzzle):
        return levels
    pieces, classes = len(puzzle["answer"]), puzzle.get("classes")
    by_place = None if classes is None else tuple(classes[piece - 1] for piece in puzzle["answer"])
    grid = grid_of(puzzle.get("geometry"), pieces)
    levels["place_accuracy"] = Level(chance_place_accuracy(pieces, classes))
    try:
        levels["neighbor_accuracy"] = Level(chance_neighbor_accuracy(pieces, by_place, grid=grid))
    except RewardError:  # the sum over the arrangements of look-alike pieces is too long
        levels["neighbor_accuracy"] = _sampled_neighbors(by_place or (), grid)
    return levels | {"kendall_tau": Level(chance_kendall_tau(pieces, by_place))}


def chance_of_right(puzzle: Puzzle) -> float | None:
    """The probability that a random answer is right; None if it cannot be computed."""
    if _is_order(puzzle):
        return chance_exact(len(puzzle["answer"]), puzzle.get("classes"))
    return kind_of_row(puzzle).luck(puzzle["answer"])


def _is_order(puzzle: Puzzle) -> bool:
    return (puzzle.get("answer_kind") or ORDER) == ORDER


def _level(mean: float | None) -> Level | None:
    return None if mean is None else Level(mean)


@lru_cache(maxsize=1024)
def _sampled_neighbors(classes: tuple[int, ...], grid: tuple[int, int] | None) -> Level:
    """The level of neighbour accuracy from random orders; `classes` has the class of the piece of each place."""
    rng, answer = Random(0), range(1, len(classes) + 1)
    orders = (rng.sample(answer, len(classes)) for _ in range(SAMPLED_ORDERS))
    return _mean([neighbor_accuracy(order, answer, classes, grid=grid) for order in orders], complete=False)


def closed_form_levels(puzzles: Sequence[Puzzle], composition: Composition) -> dict[str, float]:
    """The mean levels of `exact`, `place_accuracy` and `reward` that have closed forms.

    No reward is called, and no media are read.
    """
    levels = []
    for puzzle in puzzles:
        own = {"exact": _level(chance_of_right(puzzle))}
        if _is_order(puzzle):
            own["place_accuracy"] = Level(chance_place_accuracy(len(puzzle["answer"]), puzzle.get("classes")))
        levels.append(own | {"reward": (_closed_forms(puzzle, composition) or {}).get("reward")})
    return {name: level.mean for name, level in mean_levels(levels).items() if level is not None}


def _closed_forms(puzzle: Puzzle, composition: Composition) -> dict[str, Level | None] | None:
    """The levels of the rewards on a puzzle; None if one of them has no closed form."""
    values: dict[str, float] = {}
    for part in composition.rewards:
        if part.spec.only is None or puzzle["task"] in part.spec.only:
            value = _closed_form(part.spec, puzzle)
            if value is None:
                return None
            values[part.name] = value
    weights = dict(zip(composition.names, composition.weights, strict=True))
    total = sum(weights[name] * value for name, value in values.items())
    return _named({name: Level(value) for name, value in values.items()}, Level(total), composition)


def _named(parts: Mapping[str, Level], total: Level, composition: Composition) -> dict[str, Level | None]:
    """Levels under the names of figures: `reward`, and with several rewards `reward/NAME`."""
    each = {f"reward/{name}": level for name, level in parts.items()} if len(composition.rewards) > 1 else {}
    return {"reward": total, **each}


def _closed_form(spec: RewardSpec, puzzle: Puzzle) -> float | None:
    if spec.use in _CLOSED:
        return _CLOSED[spec.use](puzzle, spec.args)
    if spec.args or spec.use not in ("exact", "place_accuracy", "neighbor_accuracy", "kendall_tau"):
        return None  # an option such as an exponent has no closed form
    level = answer_levels(puzzle).get(spec.use)
    return None if level is None or level.error else level.mean


def _answer(puzzle: Puzzle, args: Mapping[str, Any]) -> float | None:
    options = {name: value for name, value in args.items() if name in ("discount", "min_pieces_for_partial")}
    level = kind_of_row(puzzle, **options).chance(puzzle["answer"])
    form = 0.0 if puzzle["answer_style"] == "direct" else float(args.get("format_weight", 0.2))
    return None if level is None else level + form


_CLOSED: Mapping[str, Callable[[Puzzle, Mapping[str, Any]], float | None]] = {
    "visual_jigsaw": _answer,
    "answer": _answer,
    "valid": lambda *_: 1.0,
    "format": lambda *_: 1.0,
}


def _scored_guesses(puzzles: Sequence[Puzzle], composition: Composition) -> list[dict[str, Level | None]]:
    """The mean rewards of the answers that a guesser may write; None if these cannot be listed."""
    guesses = [_guesses(puzzle) for puzzle in puzzles]
    repeated = [puzzle for puzzle, own in zip(puzzles, guesses, strict=True) for _ in own]
    texts = [
        kind_of_row(puzzle).format(guess, puzzle["answer_style"], think_prefilled=bool(puzzle.get("think_prefilled")))
        for puzzle, own in zip(puzzles, guesses, strict=True)
        for guess in own
    ]
    scores = rewards_of(repeated, texts, composition) if repeated else {name: [] for name in composition.names}
    totals = composition.total(scores)
    levels: list[dict[str, Level | None]] = []
    start = 0
    for puzzle, own in zip(puzzles, guesses, strict=True):
        rows, start = slice(start, start + len(own)), start + len(own)
        if not own:
            names = composition.names if len(composition.rewards) > 1 else ()
            levels.append({"reward": None, **{f"reward/{name}": None for name in names}})
            continue
        values = {name: [value for value in column[rows] if value is not None] for name, column in scores.items()}
        complete = not _is_order(puzzle) or len(puzzle["answer"]) <= ALL_ORDERS_UP_TO
        parts = {name: _mean(column, complete) for name, column in values.items() if column}
        levels.append(_named(parts, _mean([total or 0.0 for total in totals[rows]], complete), composition))
    return levels


def _guesses(puzzle: Puzzle) -> list[Any]:
    """All orders of up to five pieces, else 120 random ones, seeded by the puzzle's id; all options of a choice."""
    if not _is_order(puzzle):
        return list(kind_of_row(puzzle).guesses())
    pieces = len(puzzle["answer"])
    if pieces <= ALL_ORDERS_UP_TO:
        return [list(order) for order in permutations(range(1, pieces + 1))]
    rng = Random(puzzle["id"])
    return [rng.sample(range(1, pieces + 1), pieces) for _ in range(SAMPLED_ORDERS)]


def _mean(values: Sequence[float], complete: bool) -> Level:
    """The mean of values. It has no standard error if the values are complete, those of all answers."""
    mean = sum(values) / len(values)
    variance = 0.0 if complete or len(values) < 2 else sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return Level(mean, sqrt(variance / len(values)))


def rewards_of(
    puzzles: Sequence[Puzzle], texts: Sequence[str], composition: Composition
) -> dict[str, list[float | None]]:
    """The value of each reward for a text on each puzzle.

    Raises:
        RewardError: a reward fails, or a column is missing.
    """
    names = dict.fromkeys(key for puzzle in puzzles for key in puzzle)
    return composition.score(list(texts), {name: [puzzle.get(name) for puzzle in puzzles] for name in names})
