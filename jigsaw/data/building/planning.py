"""The puzzles of one source: planned, and rendered if the set stores its media.

In: a task, a `Job` and a relative path. Out: `Planned`, the rows and the refusals. They depend on the source and the
settings only, not on the process.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from math import ceil, log
from pathlib import Path

from jigsaw.data.sources import open_source
from jigsaw.data.storage.identity import puzzle_id, puzzle_rng, split_of
from jigsaw.data.storage.media import encoded_media
from jigsaw.data.storage.parts import Row, row_of
from jigsaw.data.storage.settings import BuildConfig
from jigsaw.rewards.answers import check_answer_of
from jigsaw.tasks import Puzzle, Reject, Source, Task, canonical_config

MAX_DRAWS = 500
"""Plans per puzzle before a source counts as exhausted: with it, all 24 orders of a 2x2 grid are found (error 1e-9)."""

MISSED = 1e-18
"""Probability of missing a puzzle that is as likely as each one seen, after which a source counts as exhausted too."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker does with each item. It has plain values only, since it is sent to another process.

    Attributes:
        call: the function, as `module:name`; it is called with the task, the job and the item.
        root: folder of the sources.
        build: the task and its settings; without a `split` all sources are used.
    """

    call: str = f"{__name__}:plan_line"
    root: Path
    build: BuildConfig


@dataclass(frozen=True)
class Refusal:
    """A puzzle that could not be planned: index within the source (None for the whole source), reason and detail."""

    index: int | None
    reason: str
    detail: str


@dataclass
class Planned:
    """The rows and refusals of a source. `selected` is False for a source of the other split."""

    rows: list[Row] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    selected: bool = True


def plan_line(task: Task, job: Job, line: list[str]) -> Planned | Refusal:
    """The puzzles of a line of the listing, which may already have a problem."""
    path, *problem = line
    return Refusal(None, *problem) if problem else plan_source(task, job, path)


def plan_source(task: Task, job: Job, path: str) -> Planned:
    """All puzzles of one source. Bad content gives refusals and raises nothing."""
    build = job.build
    try:
        source = open_source(job.root, path, task.source_kind)
    except OSError as error:
        return Planned(refusals=[Refusal(None, "unreadable", error.strerror or str(error))])
    if not is_selected(source, build):
        return Planned(selected=False)
    planned = Planned()
    config = canonical_config(task)
    seen: set[str] = set()
    for index in range(build.per_source):
        identity = puzzle_id(task.name, config, source.fingerprint, build.seed, index)
        try:
            puzzle = _unseen_puzzle(task, source, identity, seen)
            if isinstance(puzzle, Puzzle):
                row = row_of(identity, puzzle, task.prompt(puzzle), source)
                check_answer_of({**row, "answer": puzzle.answer})
                stored = encoded_media(task.render(puzzle, source)) if build.materialize else {}
                planned.rows.append(row | stored)
                continue
        except Exception as error:
            # An error of a plug-in, or a file that changed meanwhile, rejects this source only.
            puzzle = Reject("failed", f"{type(error).__name__}: {error}")
        planned.refusals.append(Refusal(index, puzzle.reason, puzzle.detail))
        if puzzle.final:
            break
    return planned


def is_selected(source: Source, build: BuildConfig) -> bool:
    """Whether a source is in the split that is built; both items of a pair must be."""
    contents = source.contents or (source.fingerprint,)
    return build.split is None or all(split_of(one, build.heldout or 0) == build.split for one in contents)


def _unseen_puzzle(task: Task, source: Source, identity: str, seen: set[str]) -> Puzzle | Reject:
    """A puzzle that differs from the earlier ones of this source."""
    rng = puzzle_rng(identity)
    for _ in range(_draws(len(seen))):
        puzzle = task.plan(source, rng)
        if isinstance(puzzle, Reject):
            return puzzle
        content = json.dumps([puzzle.answer, puzzle.geometry], sort_keys=True)
        if content not in seen:
            seen.add(content)
            return puzzle
    return Reject("exhausted", f"the source gives only {len(seen)} different puzzles")


def _draws(seen: int) -> int:
    """Plans before a source with `seen` puzzles is exhausted: few after few, since a plan may decode the source."""
    return MAX_DRAWS if not seen else min(MAX_DRAWS, ceil(log(MISSED) / log(seen / (seen + 1))))
