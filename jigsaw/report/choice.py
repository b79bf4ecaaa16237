"""Which held-out puzzles a report shows: a fair sample of all, the worst and the best.

In: predictions, one per puzzle or several samples of each. Out: predictions to be drawn. Every choice depends on ids
and scores alone, so the same predictions give the same page.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from statistics import fmean
from typing import Literal

from jigsaw.evaluation.summary import Scored

Outcome = Literal["right", "partly", "wrong", "invalid"]
OUTCOMES: tuple[Outcome, ...] = ("right", "partly", "wrong", "invalid")


def outcome_of(item: Scored) -> Outcome:
    """How a prediction did."""
    if item.order is None:
        return "invalid"
    if item.exact >= 1:
        return "right"
    return "partly" if item.place_accuracy > 0 else "wrong"


def choose(predictions: Sequence[Scored], count: int) -> list[Scored]:
    """At most `count` predictions: outcomes in proportion, none of them missing, sources taken in turns.

    The choice and its order depend on ids and scores alone.
    """
    return proportional(predictions, count, outcome_of, each=True)


def proportional(
    predictions: Sequence[Scored], count: int, kind: Callable[[Scored], str], *, each: bool = False
) -> list[Scored]:
    """At most `count` predictions: kinds in proportion to their number, sources taken in turns.

    The choice and its order depend on ids and kinds alone: nobody picks.

    Args:
        predictions: one per puzzle.
        count: of what is chosen.
        kind: of a prediction.
        each: a kind that exists gets one prediction if there is room, however rare it is.
    """
    ranked = sorted(predictions, key=_drawn)
    groups: dict[str, list[Scored]] = defaultdict(list)
    for item in ranked:
        groups[kind(item)].append(item)
    quota = _shares({name: len(groups[name]) for name in sorted(groups)}, min(count, len(ranked)), each)
    used: Counter[str] = Counter()
    chosen: set[str] = set()
    for name in sorted(
        groups, key=lambda name: (len(groups[name]), name)
    ):  # the rarest have the least choice of sources
        left = list(groups[name])
        for _ in range(quota[name]):
            item = min(left, key=lambda item: used[item.source])  # the first of those, since ids are ranked
            left.remove(item)
            used[item.source] += 1
            chosen.add(item.id)
    return [item for item in ranked if item.id in chosen]


def _shares(sizes: Mapping[str, int], count: int, each: bool) -> dict[str, int]:
    """`count` divided in proportion to sizes, by largest remainder.

    With `each`, what exists gets one if there is room.
    """
    total = sum(sizes.values())
    exact = {name: count * size / total if total else 0.0 for name, size in sizes.items()}
    shares = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(sizes, key=lambda name: shares[name] - exact[name])
    for name in by_remainder[: count - sum(shares.values())]:
        shares[name] += 1
    for name in (name for name, size in sizes.items() if each and size and not shares[name]):
        largest = max(shares, key=lambda name: shares[name])
        if shares[largest] > 1:
            shares[largest] -= 1
            shares[name] += 1
    return shares


def _drawn(item: Scored) -> str:
    return sha256(item.id.encode("utf-8", "replace")).hexdigest()


def extremes(predictions: Sequence[Scored], count: int) -> tuple[list[Scored], list[Scored]]:
    """The worst and the best `count` puzzles, worst first and best first; none is in both.

    The mean reward over a puzzle's samples decides, then the mean place accuracy. Of equals a source that is not shown
    yet comes first; then, since it says most, the easiest of the worst and the hardest of the best (by `contrast`).

    Args:
        predictions: with one or several samples of each puzzle; a puzzle stands for itself by its first.
        count: of each side; half of the puzzles where there are fewer.
    """
    samples: dict[str, list[Scored]] = defaultdict(list)
    for item in predictions:
        samples[item.id].append(item)
    worth = {
        name: (round(fmean(item.reward for item in own), 9), round(fmean(item.place_accuracy for item in own), 9))
        for name, own in samples.items()
    }
    left = sorted((min(own, key=lambda item: item.sample) for own in samples.values()), key=_drawn)
    count = min(count, (len(left) + 1) // 2)
    best = _most(left, {name: (-reward, -place) for name, (reward, place) in worth.items()}, count, 1)
    shown = {item.id for item in best}
    worst = _most([item for item in left if item.id not in shown], worth, count, -1)
    return worst, best


def _most(items: Sequence[Scored], worth: Mapping[str, tuple[float, float]], count: int, sign: int) -> list[Scored]:
    """The `count` items of least worth; of equals as `extremes` says, the contrast taken times `sign`."""
    left, chosen, used = list(items), list[Scored](), Counter[str]()
    while left and len(chosen) < count:
        item = min(left, key=lambda item: (worth[item.id], used[item.source], sign * (item.contrast or 0.0)))
        left.remove(item)
        used[item.source] += 1
        chosen.append(item)
    return chosen
