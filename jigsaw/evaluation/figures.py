"""Figures of an evaluation: from scored samples to estimates with intervals, by kind of puzzle and by place.

`evaluation_of` is the only way from completions to figures: the end of a run, `jigsaw eval` and `jigsaw score` all call
it. Puzzles of one source are correlated, and the intervals allow for that.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

import numpy as np

from jigsaw.answering.answers import AnsweredPuzzle
from jigsaw.errors import JigsawError
from jigsaw.evaluation.log import (
    FIGURES,
    RATES,
    Change,
    Comparison,
    Evaluation,
    Figure,
    Group,
    Places,
    Sample,
    Sampled,
    SetLog,
)
from jigsaw.evaluation.scoring import score
from jigsaw.results.chance import Level, Levels, chance_of_right, levels_of, mean_levels
from jigsaw.results.intervals import bootstrap_mean, rate_interval, sign_flip_p
from jigsaw.results.sampling import majority_order, pass_at_k, powers_of_two
from jigsaw.rewards import Composition, RewardError, chance_place_accuracy, exact, place_accuracy, true_places
from jigsaw.rewards.answers import ORDER

Cell = Literal["corner", "edge", "interior"]
CELLS: tuple[Cell, ...] = ("corner", "edge", "interior")
LABELS = ("hard", "medium", "easy")

CHANGES = ("exact", "place_accuracy", "reward")
"""Figures for which a run reports the change by GRPO."""


def evaluation_of(answers: Sequence[AnsweredPuzzle], composition: Composition) -> Evaluation:
    """All figures of one model on one set of puzzles.

    Args:
        answers: one per puzzle, all with the same number of completions. The figures do not depend on their order.
        composition: the rewards that `reward` is the weighted sum of.

    Raises:
        JigsawError: there is no answer, the numbers of completions differ, or a reward fails.
    """
    counts = {len(one.completions): one.puzzle["id"] for one in answers}
    if len(counts) != 1:
        if not counts:
            raise JigsawError("there is no answer to score")
        examples = ", ".join(f"{name} has {count}" for count, name in sorted(counts.items())[:2])
        raise JigsawError(f"puzzles need the same number of completions: {examples}")
    samples = score(answers, composition)
    try:
        levels = levels_of([one.puzzle for one in answers], composition)
    except RewardError as error:
        raise JigsawError(str(error)) from error
    by_id = {one.puzzle["id"]: own for one, own in zip(answers, levels, strict=True)}
    # Sums are computed in a fixed order, so that equal completions give equal figures to the last digit.
    ordered = sorted(samples, key=lambda item: (item.id, item.sample))

    return Evaluation(
        num_puzzles=len(by_id),
        num_sources=len({item.source for item in samples}),
        estimates=estimates(ordered, by_id),
        groups=groups(ordered, by_id),
        reasons=dict(Counter(item.reason for item in ordered).most_common()),
        places=places(ordered),
        sampled=sampled(ordered) if max(counts) > 1 else None,
        samples=samples,
    )


def value_of(item: Sample, figure: str) -> float | None:
    """A figure of a sample: one of `FIGURES`, or `reward/NAME`."""
    name = figure.removeprefix("reward/")
    value: float | None = item.rewards[name] if name != figure else getattr(item, figure)
    return value


def estimates(samples: Sequence[Sample], levels: Mapping[str, Levels]) -> dict[str, Figure]:
    """Means with intervals, and the chance level of each.

    Args:
        samples: at least one.
        levels: the chance levels of each puzzle, by id.
    """
    chance = mean_levels([levels[name] for name in dict.fromkeys(item.id for item in samples)])
    parts = samples[0].rewards if len(samples[0].rewards) > 1 else ()
    figures = {}
    for name in (*FIGURES, *(f"reward/{part}" for part in parts)):
        pairs = [(value, item.source) for item in samples if (value := value_of(item, name)) is not None]
        if pairs:
            values, sources = [value for value, _ in pairs], [source for _, source in pairs]
            figures[name] = _figure(name, values, sources, chance.get(name))
    return figures


def _figure(name: str, values: Sequence[float], sources: Sequence[str], level: Level | None) -> Figure:
    estimate = rate_interval(values, sources) if name in RATES else bootstrap_mean(values, sources)
    return Figure(**asdict(estimate), **({} if level is None else {"chance": level.mean, "chance_error": level.error}))


def groups(samples: Sequence[Sample], levels: Mapping[str, Levels]) -> list[Group]:
    """Figures per task and kind of answer, then per number of pieces, then per third of `contrast`."""
    parts: list[Group] = []

    def add(items: Sequence[Sample], pieces: int | None = None, difficulty: str | None = None) -> None:
        parts.append(
            Group(
                task=items[0].task,
                answer_kind=items[0].answer_kind,
                num_pieces=pieces,
                difficulty=difficulty,
                num_puzzles=len({item.id for item in items}),
                num_sources=len({item.source for item in items}),
                estimates=estimates(items, levels),
            )
        )

    by_task = _grouped(samples, lambda item: (item.task, item.answer_kind))
    for items in by_task.values():
        by_pieces = _grouped(items, lambda item: item.num_pieces)
        if len(by_task) > 1 or len(by_pieces) > 1:
            add(items)
        for pieces, same in by_pieces.items():
            add(same, pieces)
            first = [item for item in same if item.sample == 0]
            thirds = dict(zip([item.id for item in first], labels([item.contrast for item in first]), strict=True))
            for label in LABELS:
                if third := [item for item in same if thirds[item.id] == label]:
                    add(third, pieces, label)
    return parts


def labels(contrasts: Sequence[float | None]) -> list[str | None]:
    """Thirds by contrast: `hard`, `medium` or `easy`; None for None, and for all if fewer than 3 contrasts are known.

    >>> labels([9.0, 1.0, None, 4.0])
    ['easy', 'hard', None, 'medium']
    """
    known = sorted(value for value in contrasts if value is not None)
    if len(known) < len(LABELS):
        return [None] * len(contrasts)
    bounds = [known[len(known) * third // 3] for third in (1, 2)]
    return [None if value is None else LABELS[sum(value >= bound for bound in bounds)] for value in contrasts]


def _grouped(items: Sequence[Sample], key: Callable[[Sample], Any]) -> dict[Any, list[Sample]]:
    groups: dict[Any, list[Sample]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return {name: groups[name] for name in sorted(groups)}


def cell_of(place: int, grid: tuple[int, int]) -> Cell:
    """Whether a place of a grid is a corner, on an edge or in the interior. A side of length 1 has two corners.

    >>> [cell_of(place, (3, 3)) for place in (0, 1, 4)]
    ['corner', 'edge', 'interior']
    """
    rows, columns = grid
    row, column = divmod(place, columns)
    ends = (row in (0, rows - 1)) + (column in (0, columns - 1))
    return "corner" if ends == 2 else "edge" if ends else "interior"


def places(samples: Sequence[Sample]) -> list[Places]:
    """Which piece was put where, per task, number of pieces and grid. Only orders have places."""
    entries = []
    orders = [item for item in samples if item.answer_kind == ORDER]
    kinds = _grouped(orders, lambda item: (item.task, item.num_pieces, tuple(item.grid or ())))
    for (task, pieces, grid), items in kinds.items():
        true = [true_places(item.order, item.answer, item.classes) for item in items]
        counts = np.zeros((pieces, pieces))
        valid = [order for order in true if order is not None]
        for order in valid:
            counts[range(pieces), order] += 1
        entries.append(
            Places(
                task=task,
                num_pieces=pieces,
                grid=grid or None,
                valid=len(valid),
                confusion=(counts / len(valid)).tolist() if valid else None,
                cells=_cells(items, true, grid) if grid else None,
            )
        )
    return entries


def _cells(items: Sequence[Sample], true: Sequence[list[int] | None], grid: tuple[int, int]) -> dict[str, Figure]:
    """Place accuracy of corners, edges and the interior; `true` has the true places of each answer's pieces."""
    kinds = [cell_of(place, grid) for place in range(grid[0] * grid[1])]
    sources = [item.source for item in items]
    chance = sum(chance_place_accuracy(item.num_pieces, item.classes) for item in items) / len(items)
    figures = {}
    for kind in CELLS:
        places = [place for place, other in enumerate(kinds) if other == kind]
        if places:
            shares = [sum(order[at] == at for at in places) / len(places) if order else 0.0 for order in true]
            figures[str(kind)] = Figure(**asdict(rate_interval(shares, sources)), chance=chance)
    return figures


def sampled(samples: Sequence[Sample]) -> Sampled:
    """Pass@k and the majority vote, if puzzles have several completions."""
    by_puzzle = list(_grouped(samples, lambda item: item.id).values())
    count = len(by_puzzle[0])
    right = [sum(item.exact == 1.0 for item in items) for items in by_puzzle]
    chances = [chance_of_right(vars(items[0])) for items in by_puzzle]
    orders = [items for items in by_puzzle if items[0].answer_kind == ORDER]

    def figure(values: Sequence[float], levels: Sequence[float | None], puzzles: Sequence[list[Sample]]) -> Figure:
        numbers = [level for level in levels if level is not None]
        chance = sum(numbers) / len(numbers) if len(numbers) == len(levels) else None
        return Figure(**asdict(rate_interval(values, [items[0].source for items in puzzles])), chance=chance)

    majority = {"exact": figure([_vote(items, exact) for items in by_puzzle], chances, by_puzzle)}
    if orders:
        levels = [chance_place_accuracy(items[0].num_pieces, items[0].classes) for items in orders]
        majority["place_accuracy"] = figure([_vote(items, place_accuracy) for items in orders], levels, orders)
    return Sampled(
        samples=count,
        pass_at={
            k: figure(
                [pass_at_k(hits, count, k) for hits in right],
                [None if chance is None else 1 - (1 - chance) ** k for chance in chances],
                by_puzzle,
            )
            for k in powers_of_two(count)
        },
        majority=majority,
    )


def _vote(samples: Sequence[Sample], of_order: Callable[..., float]) -> float:
    """The score of the majority vote on a puzzle, of an order by `of_order`; of another answer 1 if it is right.

    The earliest answer decides a tie. 0 without an answer.
    """
    first = samples[0]
    if first.answer_kind == ORDER:
        return of_order(majority_order([item.order for item in samples]), first.answer, first.classes)
    votes = Counter(item.value for item in samples if item.value is not None)
    if not votes:
        return 0.0
    chosen = votes.most_common(1)[0][0]
    return next(item.exact for item in samples if item.value == chosen)


def set_log(
    name: str,
    answers: Sequence[AnsweredPuzzle],
    composition: Composition,
    *,
    warmup: Sequence[AnsweredPuzzle] | None = None,
    against: tuple[str, Sequence[Sample]] | None = None,
) -> SetLog:
    """The figures of a model on one set of puzzles, compared with the model before GRPO or with another evaluation.

    Args:
        name: of the set; empty for the main set.
        answers: of the model.
        composition: as for `evaluation_of`.
        warmup: answers of the model before GRPO to the same puzzles.
        against: name and samples of another evaluation.

    Raises:
        JigsawError: as for `evaluation_of` and `compare`.
    """
    model = evaluation_of(answers, composition)
    before = None if warmup is None else evaluation_of(warmup, composition)
    compared = None
    if before is not None:
        compared = compare(before.samples, model.samples, "warmup", CHANGES)
    elif against is not None:
        compared = compare(against[1], model.samples, against[0])
    return SetLog(name=name, model=model, warmup=before, compared=compared)


def compare(
    before: Sequence[Sample], after: Sequence[Sample], other: str, figures: Sequence[str] = FIGURES
) -> Comparison:
    """Paired differences (after minus before) on the puzzles that two evaluations share.

    Intervals resample sources. The p-value is that of a randomisation test over sources (`sign_flip_p`). `other` is the
    name of the evaluation of `before`.

    Raises:
        JigsawError: the evaluations share no sample.
    """
    earlier = {(item.id, item.sample): item for item in before}
    shared = sorted(
        ((key, item) for item in after if (key := (item.id, item.sample)) in earlier), key=lambda pair: pair[0]
    )
    if not shared:
        raise JigsawError("--against: the two evaluations share no puzzle; evaluate both models on the same set")
    changes = {}
    for name in figures:
        pairs = [(getattr(item, name), getattr(earlier[key], name), item.source) for key, item in shared]
        both = [(now - before, source) for now, before, source in pairs if now is not None and before is not None]
        if both:
            differences, sources = [value for value, _ in both], [source for _, source in both]
            estimate = bootstrap_mean(differences, sources)
            changes[name] = Change(**asdict(estimate), p_value=sign_flip_p(differences, sources))
    return Comparison(other=other, num_puzzles=len({item.id for _, item in shared}), changes=changes)
