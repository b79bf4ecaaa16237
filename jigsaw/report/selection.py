"""Selection of the puzzles that a report shows: a fair sample, the worst and the best."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from statistics import fmean

from jigsaw.evaluation.log import Sample


def choose(samples: Sequence[Sample], count: int, kind: Callable[[Sample], str], *, each: bool = False) -> list[Sample]:
    """At most `count` samples, with kinds in proportion to their frequency. The selection depends only on the ids.

    `samples` has one per puzzle. With `each`, a rare kind has at least one sample if `count` allows it.
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
    """`count` divided in proportion to sizes, by largest remainder. `each`: at least 1 for each size if possible."""
    total = sum(sizes.values())
    quotas = {name: count * size / total if total else 0.0 for name, size in sizes.items()}
    shares = {name: int(quota) for name, quota in quotas.items()}
    by_remainder = sorted(sizes, key=lambda name: shares[name] - quotas[name])
    for name in by_remainder[: count - sum(shares.values())]:
        shares[name] += 1
    for name in (name for name, size in sizes.items() if each and size and not shares[name]):
        largest = max(shares, key=lambda name: shares[name])
        if shares[largest] > 1:
            shares[largest] -= 1
            shares[name] += 1
    return shares


def extremes(samples: Sequence[Sample], count: int) -> tuple[list[Sample], list[Sample]]:
    """The worst and the best `count` puzzles by mean reward, then mean place accuracy. No puzzle is in both.

    If a puzzle has several samples, the first one is returned. With few puzzles `count` is half of all.
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
