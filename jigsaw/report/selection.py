"""Selection of the puzzles that a report shows: a fair sample, the worst and the best."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from statistics import fmean

from jigsaw.evaluation.log import Sample


def choose(samples: Sequence[Sample], count: int, kind: Callable[[Sample], str], *, each: bool = False) -> list[Sample]:
    """At most `count` samples: kinds in proportion to their number, in an order that depends only on ids.

    Args:
        samples: one per puzzle.
        count: of what is chosen.
        kind: of a sample.
        each: a kind that exists gets one sample if there is room, however rare it is.
    """
    groups: dict[str, list[Sample]] = defaultdict(list)
    ranked = sorted(samples, key=_by_id)
    for item in ranked:
        groups[kind(item)].append(item)
    quota = _shares({name: len(groups[name]) for name in sorted(groups)}, min(count, len(ranked)), each)
    chosen = {item.id for name, items in groups.items() for item in items[: quota[name]]}
    return [item for item in ranked if item.id in chosen]


def _by_id(item: Sample) -> str:
    return sha256(item.id.encode("utf-8", "replace")).hexdigest()


def _shares(sizes: Mapping[str, int], count: int, each: bool) -> dict[str, int]:
    """`count` divided in proportion to sizes, by largest remainder; with `each`, at least one if there is room."""
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


def extremes(samples: Sequence[Sample], count: int) -> tuple[list[Sample], list[Sample]]:
    """The worst and the best `count` puzzles by mean reward, then mean place accuracy; none is in both.

    Args:
        samples: one or several of each puzzle, which is represented by its first.
        count: of each side; half of the puzzles where there are fewer.
    """
    by_puzzle: dict[str, list[Sample]] = defaultdict(list)
    for item in samples:
        by_puzzle[item.id].append(item)

    def worth(item: Sample) -> tuple[float, float, str]:
        own = by_puzzle[item.id]
        return fmean(one.reward for one in own), fmean(one.place_accuracy or 0.0 for one in own), _by_id(item)

    ranked = sorted((min(own, key=lambda item: item.sample) for own in by_puzzle.values()), key=worth)
    count = min(count, (len(ranked) + 1) // 2)
    best = ranked[::-1][:count]
    return ranked[: min(count, len(ranked) - len(best))], best
