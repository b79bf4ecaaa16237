"""The level of random answers: what a player earns who writes a uniformly random permutation in the right form.

In: puzzles and rewards. Out: levels per puzzle and their means. Order scores and the paper's reward have closed forms
(`jigsaw.rewards.chance`). Other rewards are computed for all orders of up to five pieces, and for 120 random ones of
more, whose mean has a standard error. Of a choice a random option is taken, of an interval or a box
one between two random moments or points; a number, a text or an expression has no level.
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
    RewardSpec,
    chance_exact,
    chance_kendall_tau,
    chance_neighbor_accuracy,
    chance_order_reward,
    chance_place_accuracy,
    grid_of,
    kendall_tau,
    neighbor_accuracy,
)
from jigsaw.rewards.answers import ORDER, kind_of_row

Puzzle = Mapping[str, Any]

ALL_ORDERS_UP_TO = 5
ALL_ORDERS_OF_CLASSES = 6
"""Pieces up to which all orders are scored: with any reward, and with the order scores of puzzles with equal pieces."""

SAMPLED_ORDERS = 120


@dataclass(frozen=True)
class Level:
    """A mean over random answers; `error` is its standard error, 0 where it is exact."""

    mean: float
    error: float = 0.0


Levels = Mapping[str, Level | None]
"""Figure -> level. None where it is not known; a reward that is not for the puzzle's task is left out."""


def levels_of(puzzles: Sequence[Puzzle], composition: Composition) -> list[Levels]:
    """The levels of each puzzle: order scores, `reward`, and with several rewards `reward/NAME`.

    `valid` and `format` have none, since a player who answers in the right form always gets them.
    """
    rewards = reward_levels(puzzles, composition)
    return [{**answer_levels(puzzle), **own} for puzzle, own in zip(puzzles, rewards, strict=True)]


def mean_levels(levels: Sequence[Levels]) -> dict[str, Level | None]:
    """Means over puzzles; None for a figure whose level is not known on one of them."""
    means: dict[str, Level | None] = {}
    for name in dict.fromkeys(name for own in levels for name in own):
        there = [own[name] for own in levels if name in own]
        known = [level for level in there if level is not None]
        if len(known) == len(there):
            error = sqrt(sum(level.error**2 for level in known)) / len(known)
            means[name] = Level(sum(level.mean for level in known) / len(known), error)
        else:
            means[name] = None
    return means


def answer_levels(puzzle: Puzzle) -> dict[str, Level | None]:
    """The levels of `exact`, and of the order scores where the answer is an order."""
    if _is_order(puzzle):
        return order_levels(puzzle)
    luck = chance_of_right(puzzle)
    return {"exact": None if luck is None else Level(luck)}


def chance_of_right(puzzle: Puzzle) -> float | None:
    """The probability that a random answer is right; None where it is not known."""
    if _is_order(puzzle):
        return chance_exact(len(puzzle["answer"]), puzzle.get("classes"))
    return kind_of_row(puzzle).luck(puzzle["answer"])


def _is_order(puzzle: Puzzle) -> bool:
    return (puzzle.get("answer_kind") or ORDER) == ORDER


def order_levels(puzzle: Puzzle) -> dict[str, Level | None]:
    """The levels of the order scores of a puzzle."""
    pieces, classes = len(puzzle["answer"]), puzzle.get("classes")
    grid = grid_of(puzzle.get("geometry"), pieces)
    if classes is None:
        neighbors, tau = Level(chance_neighbor_accuracy(pieces, grid=grid)), Level(chance_kendall_tau(pieces))
    else:
        placed = tuple(classes[piece - 1] for piece in puzzle["answer"])
        neighbors, tau = _levels_with_classes(placed, grid)
    return {
        "exact": Level(chance_exact(pieces, classes)),
        "place_accuracy": Level(chance_place_accuracy(pieces, classes)),
        "neighbor_accuracy": neighbors,
        "kendall_tau": tau,
    }


@lru_cache(maxsize=1024)
def _levels_with_classes(classes: tuple[int, ...], grid: tuple[int, int] | None) -> tuple[Level, Level]:
    """The levels of neighbour accuracy and Kendall's tau where pieces of a class may be exchanged.

    Args:
        classes: the class of the piece that belongs at each place.
        grid: rows and columns of the places.
    """
    pieces = len(classes)
    answer = range(1, pieces + 1)
    exact = pieces <= ALL_ORDERS_OF_CLASSES
    rng = Random(0)
    orders = permutations(answer) if exact else (rng.sample(answer, pieces) for _ in range(SAMPLED_ORDERS))
    scores = [
        (neighbor_accuracy(order, answer, classes, grid=grid), kendall_tau(order, answer, classes)) for order in orders
    ]
    neighbors, taus = zip(*scores, strict=True)
    return _mean(neighbors, exact), _mean(taus, exact)


def reward_levels(puzzles: Sequence[Puzzle], composition: Composition) -> list[dict[str, Level | None]]:
    """The level of `reward` on each puzzle, and with several rewards of each: closed forms, else random orders."""
    closed = [_closed(puzzle, composition) for puzzle in puzzles]
    left = [puzzle for puzzle, levels in zip(puzzles, closed, strict=True) if levels is None]
    tried = iter(_tried(left, composition) if left else ())
    return [next(tried) if levels is None else levels for levels in closed]


def known_levels(puzzles: Sequence[Puzzle], composition: Composition) -> dict[str, float]:
    """The mean levels of `exact`, `place_accuracy` and `reward`, as far as closed forms give them: no reward is called.

    Args:
        puzzles: their media are not read.
        composition: of the rewards.
    """
    closed = [_closed(puzzle, composition) for puzzle in puzzles]
    rewards = [levels["reward"] for levels in closed if levels is not None]
    solved = [chance_of_right(puzzle) for puzzle in puzzles]
    orders = [puzzle for puzzle in puzzles if _is_order(puzzle)]
    placed = [chance_place_accuracy(len(puzzle["answer"]), puzzle.get("classes")) for puzzle in orders]
    found = {
        "exact": ([level for level in solved if level is not None], len(puzzles)),
        "place_accuracy": (placed, len(orders)),
        "reward": ([level.mean for level in rewards if level is not None], len(puzzles)),
    }
    return {name: sum(values) / len(values) for name, (values, count) in found.items() if len(values) == count > 0}


def _closed(puzzle: Puzzle, composition: Composition) -> dict[str, Level | None] | None:
    """The levels of the rewards on a puzzle, or None where one has no closed form."""
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
    single = {f"reward/{name}": level for name, level in parts.items()} if len(composition.rewards) > 1 else {}
    return {"reward": total, **single}


def _closed_form(spec: RewardSpec, puzzle: Puzzle) -> float | None:
    if spec.use in _CLOSED:
        return _CLOSED[spec.use](puzzle, spec.args)
    if spec.args or spec.use not in ("exact", "place_accuracy", "neighbor_accuracy", "kendall_tau"):
        return None  # an option such as an exponent has no closed form
    level = answer_levels(puzzle).get(spec.use)
    return None if level is None or level.error else level.mean


def _visual_jigsaw(puzzle: Puzzle, args: Mapping[str, Any]) -> float:
    options = {name: value for name, value in args.items() if name in ("discount", "min_pieces_for_partial")}
    return chance_order_reward(len(puzzle["answer"]), puzzle.get("classes"), **options) + _for_form(puzzle, args)


def _answer(puzzle: Puzzle, args: Mapping[str, Any]) -> float | None:
    if _is_order(puzzle):
        return _visual_jigsaw(puzzle, args)
    level = kind_of_row(puzzle).chance(puzzle["answer"])
    return None if level is None else level + _for_form(puzzle, args)


def _for_form(puzzle: Puzzle, args: Mapping[str, Any]) -> float:
    return 0.0 if puzzle["answer_style"] == "direct" else float(args.get("format_weight", 0.2))


_CLOSED: Mapping[str, Callable[[Puzzle, Mapping[str, Any]], float | None]] = {
    "visual_jigsaw": _visual_jigsaw,
    "answer": _answer,
    "valid": lambda *_: 1.0,
    "format": lambda *_: 1.0,
}


def _tried(puzzles: Sequence[Puzzle], composition: Composition) -> list[dict[str, Level | None]]:
    """Means over what a guesser may answer; None for a puzzle whose answers cannot be listed."""
    tries = [_guesses(puzzle) for puzzle in puzzles]
    repeated = [puzzle for puzzle, guesses in zip(puzzles, tries, strict=True) for _ in guesses]
    texts = [
        kind_of_row(puzzle).format(guess, puzzle["answer_style"], think_prefilled=bool(puzzle.get("think_prefilled")))
        for puzzle, guesses in zip(puzzles, tries, strict=True)
        for guess in guesses
    ]
    scores = rewards_of(repeated, texts, composition) if repeated else {name: [] for name in composition.names}
    totals = composition.total(scores)
    found: list[dict[str, Level | None]] = []
    start = 0
    for puzzle, guesses in zip(puzzles, tries, strict=True):
        rows, start = slice(start, start + len(guesses)), start + len(guesses)
        if not guesses:
            names = composition.names if len(composition.rewards) > 1 else ()
            found.append({"reward": None, **{f"reward/{name}": None for name in names}})
            continue
        own = {name: [value for value in values[rows] if value is not None] for name, values in scores.items()}
        exact = not _is_order(puzzle) or len(puzzle["answer"]) <= ALL_ORDERS_UP_TO
        parts = {name: _mean(values, exact) for name, values in own.items() if values}
        found.append(_named(parts, _mean([total or 0.0 for total in totals[rows]], exact), composition))
    return found


def _guesses(puzzle: Puzzle) -> list[Any]:
    """Every order of up to five pieces, 120 of more, seeded by the puzzle; every option of a choice; else nothing."""
    if not _is_order(puzzle):
        return list(kind_of_row(puzzle).guesses())
    pieces = len(puzzle["answer"])
    if pieces <= ALL_ORDERS_UP_TO:
        return [list(order) for order in permutations(range(1, pieces + 1))]
    rng = Random(puzzle["id"])
    return [rng.sample(range(1, pieces + 1), pieces) for _ in range(SAMPLED_ORDERS)]


def _mean(values: Sequence[float], exact: bool) -> Level:
    """The mean of values, which is exact if they are those of all orders."""
    mean = sum(values) / len(values)
    spread = 0.0 if exact or len(values) < 2 else sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return Level(mean, sqrt(spread / len(values)))


def rewards_of(
    puzzles: Sequence[Puzzle], texts: Sequence[str], composition: Composition
) -> dict[str, list[float | None]]:
    """The value of each reward for a text on each puzzle.

    Raises:
        RewardError: a reward fails, or a column is missing.
    """
    names = dict.fromkeys(key for puzzle in puzzles for key in puzzle)
    return composition.score(list(texts), {name: [puzzle.get(name) for puzzle in puzzles] for name in names})
