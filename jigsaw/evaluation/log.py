"""The log of an evaluation: figures, answers, command and versions.

In a folder of `jigsaw launch`, `jigsaw eval` or `jigsaw score`::

    evaluation.json            an `EvalLog` without its samples
    predictions/model.jsonl    one `Sample` per line; `warmup.jsonl` has those before GRPO, NAME/ those of a named set

`evaluation.json` is written last, so a folder that has it is complete. Evaluation, report, comparison and
generalisation use an `EvalLog`; no other module reads these files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from jigsaw.errors import JigsawError
from jigsaw.files import write_atomically
from jigsaw.results.formatting import kind_in_words
from jigsaw.results.intervals import Estimate
from jigsaw.results.log_file import Log, Stored, from_json, to_json, validated
from jigsaw.rewards import RewardError
from jigsaw.rewards.answers import ORDER, check_answer_of, pieces_of_answer
from jigsaw.run_folder import RunFolder
from jigsaw.text import json_lines

ORDER_FIGURES = ("place_accuracy", "neighbor_accuracy", "kendall_tau")
"""Figures that only orders have."""

RATES = ("exact", *ORDER_FIGURES, "valid", "format")
"""Figures in [0, 1]. A completion without a valid answer has 0 in all of them except `format`."""

FIGURES = (*RATES, "reward")
"""The figures of an evaluation. With several rewards there is also `reward/NAME` for each."""

FIRST, LATEST = "periodic-first", "periodic-latest"
"""Samples of the periodic evaluations during GRPO: the one before the first step, and the latest one."""


@dataclass(frozen=True)
class Figure(Estimate, Stored):
    """A mean with its 95% interval, and its chance level.

    Attributes:
        chance: mean of random answers in the right form; None if the figure has no chance level.
        chance_error: standard error of `chance`; 0 if it was computed and not estimated.
    """

    chance: float | None = None
    chance_error: float = 0.0


@dataclass(frozen=True)
class Change(Estimate, Stored):
    """A mean paired difference with its 95% interval, and the p-value of a randomisation test over sources."""

    p_value: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Sample(Stored):
    """One completion of a puzzle with its scores.

    Attributes:
        sample: number of the completion, from 0; a greedy completion has 0.
        answer: the right answer in the form of its kind; for an order the shown indices by place, from 1.
        answer_kind, answer_args: kind of the answer, and the arguments of the kind (`jigsaw.rewards.answers`).
        classes: class of each shown piece if some look alike, else None.
        grid: rows and columns of the places; None for places in a row.
        contrast: how much the pieces differ. A lower contrast means a harder puzzle.
        order: the order in the completion; None without a valid one, and for other kinds of answer.
        value: the answer of another kind in the completion, as text; None without a valid one.
        reason: `ok`, or why no answer was read.
        exact: 1 if the whole answer is right, else 0. `valid` and `format` are 1 or 0 too.
        place_accuracy, neighbor_accuracy, kendall_tau: shares, for orders; None for other answers.
        reward: weighted sum of `rewards`.
        rewards: value of each reward before its weight; None if the reward does not apply.
    """

    id: str
    task: str
    source: str
    sample: int = 0
    answer: Any
    answer_kind: str = ORDER
    answer_args: dict[str, Any] = field(default_factory=dict)
    classes: list[int] | None = None
    grid: tuple[int, int] | None = None
    contrast: float | None = None
    completion: str
    order: list[int] | None = None
    value: str | None = None
    reason: str
    exact: float
    place_accuracy: float | None = None
    neighbor_accuracy: float | None = None
    kendall_tau: float | None = None
    valid: float
    format: float
    reward: float
    rewards: dict[str, float | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.answer_kind != ORDER:
            self._require_kind()
            return
        if not isinstance(self.answer, list) or not all(type(piece) is int for piece in self.answer):
            raise ValueError(f"answer {self.answer!r} is not a list of whole numbers")
        places = list(range(1, len(self.answer) + 1))
        for name, order in (("answer", self.answer), ("order", self.order)):
            if order is not None and (not places or sorted(order) != places):
                raise ValueError(f"{name} {order} is not a permutation of 1 to {len(places)}")
        if missing := [name for name in ORDER_FIGURES if getattr(self, name) is None]:
            raise ValueError(f"{missing[0]} is missing")
        if self.classes is not None and len(self.classes) != len(places):
            raise ValueError(f"classes has {len(self.classes)} entries for {len(places)} pieces")
        if self.grid is not None and self.grid[0] * self.grid[1] != len(places):
            raise ValueError(f"grid {self.grid} does not have {len(places)} places")

    def _require_kind(self) -> None:
        try:
            check_answer_of(vars(self))
        except RewardError as error:
            raise ValueError(str(error)) from error
        if self.order is not None or any(getattr(self, name) is not None for name in ORDER_FIGURES):
            raise ValueError(f"an answer of kind {self.answer_kind} has no order and no figures of orders")

    @property
    def num_pieces(self) -> int:
        """`K`, the number of pieces; for a choice the number of options; else 1."""
        return pieces_of_answer(self.answer, self.answer_kind, self.answer_args)


@dataclass(frozen=True, kw_only=True)
class Group(Stored):
    """Figures of one kind of puzzle.

    Attributes:
        answer_kind: kind of all its answers.
        num_pieces, difficulty: None if the group has all of them.
    """

    task: str
    answer_kind: str = ORDER
    num_pieces: int | None
    difficulty: str | None
    num_puzzles: int
    num_sources: int
    estimates: dict[str, Figure]

    def __str__(self) -> str:
        """`image, 9 pieces, hard`; `rotation, choice of 4`; `questions, number`."""
        kind = kind_in_words(self.answer_kind, self.num_pieces)
        return ", ".join(part for part in (self.task, kind, self.difficulty) if part)


@dataclass(frozen=True, kw_only=True)
class Places(Stored):
    """Which piece was put where, for one task, number of pieces and grid.

    Attributes:
        valid: number of valid answers.
        confusion: row i, column j: share of valid answers that put the piece of place j at place i; None without valid
            answers.
        cells: for grids the place accuracy of corners, edges and the interior; an invalid answer counts as 0.
    """

    task: str
    num_pieces: int
    grid: tuple[int, int] | None
    valid: int
    confusion: list[list[float]] | None
    cells: dict[str, Figure] | None

    def __str__(self) -> str:
        """`image, 2x3`, or `video, 4 in a row`."""
        return f"{self.task}, {f'{self.grid[0]}x{self.grid[1]}' if self.grid else f'{self.num_pieces} in a row'}"


@dataclass(frozen=True, kw_only=True)
class Sampled(Stored):
    """Several completions of each puzzle.

    Attributes:
        samples: completions of each puzzle.
        pass_at: k -> share of puzzles of which at least one of k completions is right.
        majority: `exact` of the majority vote, and for orders also `place_accuracy`. Orders are voted on place by
            place, other answers as a whole. The chance level is that of a single random answer, because a vote over
            random answers is no better.
    """

    samples: int
    pass_at: dict[int, Figure]
    majority: dict[str, Figure]


@dataclass(frozen=True, kw_only=True)
class Evaluation(Stored):
    """One model on one set of puzzles.

    Attributes:
        estimates: name -> figure. It has all of `FIGURES`; those of orders only if there are orders.
        groups: per task, number of pieces, and third of difficulty. A level with a single group is left out.
        reasons: number of completions by reason (`Sample.reason`), the most frequent first.
        samples: all completions, which are stored in separate files.
    """

    num_puzzles: int
    num_sources: int
    estimates: dict[str, Figure]
    groups: list[Group]
    reasons: dict[str, int]
    places: list[Places]
    sampled: Sampled | None = None
    samples: Annotated[list[Sample], Field(exclude=True)] = field(default_factory=list)

    def __post_init__(self) -> None:
        needed = (name for name in FIGURES if name not in ORDER_FIGURES)
        if missing := [name for name in needed if name not in self.estimates]:
            raise ValueError(f"estimates lacks {missing[0]}")


@dataclass(frozen=True, kw_only=True)
class Comparison(Stored):
    """Paired differences on the puzzles that two evaluations share: this evaluation minus the other one.

    Attributes:
        other: `warmup`, or the folder of the other evaluation.
    """

    other: str
    num_puzzles: int
    changes: dict[str, Change]


@dataclass(frozen=True, kw_only=True)
class SetLog(Stored):
    """One set of puzzles.

    Attributes:
        name: of a further held-out set; empty for the main set.
        model: the evaluation of the model.
        warmup: the evaluation of the model before GRPO, if the run has a supervised stage.
        compared: the comparison with `warmup` or with another evaluation.
    """

    name: str = ""
    model: Evaluation
    warmup: Evaluation | None = None
    compared: Comparison | None = None


@dataclass(frozen=True, kw_only=True)
class Coverage(Stored):
    """How the predictions of `jigsaw score` match the puzzle set.

    Attributes:
        missing: ids of puzzles without a completion.
        duplicate: ids with the same completion number twice; these are not scored.
        unknown: ids that are not in the set.
        copies: rows of the set that were left out because their id occurred before.
    """

    missing: list[str]
    duplicate: list[str]
    unknown: list[str]
    copies: int


@dataclass(frozen=True, kw_only=True)
class EvalLog(Log):
    """The log of an evaluation.

    Attributes:
        settings: what the completions depend on.
        rewards: names or entries of the rewards that `reward` is the sum of.
        sets: at least one; the first is the main set.
        note: why no answer could be read, if none could.
        coverage: of the predictions of `jigsaw score`.
    """

    settings: dict[str, Any]
    rewards: list[Any]
    sets: list[SetLog]
    note: str | None = None
    coverage: Coverage | None = None

    def __post_init__(self) -> None:
        if not self.sets:
            raise ValueError("sets is empty")

    @property
    def main(self) -> SetLog:
        """The main set, by which the model is judged."""
        return self.sets[0]

    def evaluations(self) -> Iterable[tuple[str, str, Evaluation]]:
        """All evaluations, each with the name of its set and of its model (`model` or `warmup`)."""
        for one in self.sets:
            yield one.name, "model", one.model
            if one.warmup is not None:
                yield one.name, "warmup", one.warmup


def write_log(log: EvalLog, folder: Path) -> None:
    """Write a log into a folder, its samples first. It replaces a log that is there."""
    files = RunFolder(folder)
    for name, model, evaluation in log.evaluations():
        write_samples(files.predictions(model, name), evaluation.samples)
    write_atomically(files.evaluation, to_json(log))


def write_samples(path: Path, samples: Sequence[Sample]) -> None:
    """Write samples as JSON lines, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "".join(json.dumps(vars(sample)) + "\n" for sample in samples))


def write_periodic(folder: Path, step: int, samples: Sequence[Sample]) -> None:
    """Write the samples of a periodic evaluation into a run folder. They replace those of the evaluation before."""
    run = RunFolder(folder)
    write_samples(run.predictions(LATEST if step else FIRST), samples)
    if not step:
        run.predictions(LATEST).unlink(missing_ok=True)


def read_log(folder: Path) -> EvalLog:
    """The log of an evaluation, with its samples.

    Args:
        folder: written by `jigsaw launch`, `jigsaw eval --out` or `jigsaw score --out`.

    Raises:
        JigsawError: there is no log, another version wrote it, or it is broken.
    """
    files = RunFolder(folder)
    log = from_json(EvalLog, files.evaluation)

    def complete(one: SetLog) -> SetLog:
        model = replace(one.model, samples=read_samples(files.predictions("model", one.name)))
        warmup = one.warmup and replace(one.warmup, samples=read_samples(files.predictions("warmup", one.name)))
        return replace(one, model=model, warmup=warmup)

    return replace(log, sets=[complete(one) for one in log.sets])


def read_samples(path: Path) -> list[Sample]:
    """The samples of a file.

    Raises:
        JigsawError: the file is missing or empty, or a line is not a sample; names the line.
    """
    if not path.is_file():
        raise JigsawError(f"{path} is missing; evaluate again with `jigsaw eval`")
    samples = []
    try:
        for number, stored in json_lines(path):
            try:
                samples.append(validated(Sample, stored))
            except ValueError as error:
                raise JigsawError(f"{path}:{number}: {error}") from error
    except JigsawError as error:
        raise JigsawError(f"{error}; evaluate again with `jigsaw eval`") from error
    if not samples:
        raise JigsawError(f"{path} is empty; evaluate again with `jigsaw eval`")
    return samples
