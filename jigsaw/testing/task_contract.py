"""The contract of a task as properties that are checked on synthetic sources or on given ones.

In: a task's name or spec and its configuration. Out: findings. Planning, rendering and prompting are called as in a
build and in loading, and finally worker processes build, load and check a small set.
"""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, get_args

import numpy as np

from jigsaw.data import build_puzzles, check_puzzles, load_puzzles
from jigsaw.data.sources import open_source, scan, source_root
from jigsaw.data.storage.media import media_columns, same_media
from jigsaw.data.storage.parts import puzzle_of, row_of
from jigsaw.rewards import RewardError
from jigsaw.rewards.answers import check_answer_of, written
from jigsaw.tasks import (
    LEAKS,
    ORDER,
    Media,
    Puzzle,
    Reject,
    Source,
    SourceKind,
    Task,
    TaskError,
    absolute_spec,
    answer_of,
    canonical_config,
    config_values,
    describe_task,
    get_task,
    varied,
)
from jigsaw.testing.findings import ContractError, Finding, NotChecked, findings_of, require_all
from jigsaw.testing.synthetic_sources import write_sources

DRAWS = 6
"""Puzzles that are planned for each source."""

MOST_SOURCES = 4
MOST_BYTES = 64 * 1024
"""Largest geometry as JSON text; a puzzle must not contain pixels."""

Planned = tuple[Source, int, Puzzle | Reject]
"""The source, the seed of the generator, and the plan."""


@dataclass
class _Case:
    spec: str
    task: Task
    place: Path
    """The folder, list or container of the sources."""
    sources: list[Source] = field(default_factory=list)

    @cached_property
    def planned(self) -> list[Planned]:
        return [
            (source, seed, self.task.plan(source, Random(seed))) for source in self.sources for seed in range(DRAWS)
        ]

    @cached_property
    def puzzles(self) -> list[tuple[Source, int, Puzzle]]:
        return [(source, seed, plan) for source, seed, plan in self.planned if isinstance(plan, Puzzle)]

    def a_puzzle_per_source(self) -> Iterator[tuple[Source, Puzzle]]:
        """One puzzle of each source, for properties that decode the source."""
        if not self.puzzles:
            raise NotChecked("there is no puzzle to check")
        first = {source.path: (source, puzzle) for source, _, puzzle in reversed(self.puzzles)}
        yield from first.values()

    def fresh(self) -> Task:
        """Another object of the same task, as in another process."""
        return get_task(self.spec, **config_values(self.task))


def assert_task(spec: str, *, source: str | Path | None = None, **config: Any) -> None:
    """Raise if a task breaks its contract; the arguments are those of `check_task`.

    Raises:
        ContractError: has one line per property that does not hold.
    """
    require_all(spec, check_task(spec, source=source, **config))


def check_task(spec: str, *, source: str | Path | None = None, **config: Any) -> list[Finding]:
    """Check every property of the contract.

    Args:
        spec: the task's name, `package.module:Name` or `path/to/file.py:Name`.
        source: a folder, list or container of sources that suit the task; by default synthetic ones.
        config: the task's configuration.

    Raises:
        TaskError: there is no such task, or it refuses the configuration.
    """
    spec = absolute_spec(spec)
    task = get_task(spec, **config)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(source) if source is not None else Path(scratch) / "sources"
        case = _Case(spec, task, place)
        if source is None and task.source_kind in get_args(SourceKind):
            write_sources(task.source_kind, place)
        names = scan(place, task.source_kind, task.pairing)
        usable = (name for name in names if isinstance(name, str))
        case.sources = [
            open_source(source_root(place), name, task.source_kind) for name in islice(usable, MOST_SOURCES)
        ]
        return findings_of(case, _PROPERTIES, type(task))


def _says_what_it_is(case: _Case) -> None:
    about = describe_task(case.spec)
    if not about["doc"]:
        raise ContractError("the class has no docstring; its first line is what `jigsaw tasks` shows")
    if about["source_kind"] not in get_args(SourceKind):
        raise ContractError(f"source_kind is {about['source_kind']!r}, not one of {', '.join(get_args(SourceKind))}")
    undescribed = [key["key"] for key in about["config"] if not key["doc"]]
    if undescribed:
        raise ContractError(f"no description of {', '.join(undescribed)}; add Annotated[type, Field(description=...)]")


def _frozen(case: _Case) -> None:
    config = type(case.task).Config
    parameters = getattr(config, "__dataclass_params__", None)
    if parameters is None or not parameters.frozen:
        raise ContractError(f"{config.__name__} is not a frozen dataclass; use @dataclass(frozen=True, kw_only=True)")
    needed = [
        entry.name
        for entry in dataclasses.fields(config)
        if entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
    ]
    if needed:
        raise ContractError(f"{', '.join(needed)} has no default")


def _config_survives_json(case: _Case) -> None:
    again = get_task(case.spec, **json.loads(canonical_config(case.task)))
    if canonical_config(again) != canonical_config(case.task):
        raise ContractError(f"written and read as JSON, {canonical_config(case.task)} is {canonical_config(again)}")


def _makes_puzzles(case: _Case) -> None:
    if not case.sources:
        raise ContractError(f"there is no {case.task.source_kind} source in {case.place}")
    for source, _, plan in case.planned:
        if not isinstance(plan, Puzzle | Reject):
            raise ContractError(f"plan returned {type(plan).__name__} for {source.path}, neither Puzzle nor Reject")
        if isinstance(plan, Reject) and plan.reason not in case.task.REASONS:
            raise ContractError(f"the reject reason {plan.reason!r} is not in REASONS")
        if isinstance(plan, Puzzle) and plan.task != case.task.name:
            raise ContractError(f"the puzzle has the task {plan.task!r}, but the task's name is {case.task.name!r}")
    if not case.puzzles:
        reject = next(plan for _, _, plan in case.planned if isinstance(plan, Reject))
        remedy = "give sources that suit the task (--source FOLDER) or another configuration"
        raise ContractError(f"all sources are rejected ({reject.reason}: {reject.detail}); {remedy}")


def _plans_again(case: _Case) -> None:
    fresh = case.fresh()
    for source, seed, plan in reversed(case.planned):
        if fresh.plan(source, Random(seed)) != plan:
            raise ContractError(
                f"{source.path}: the same random state gave another puzzle in another object; "
                "use only `rng` for randomness, and keep no state between calls that changes a plan"
            )


def _plans_variety(case: _Case) -> None:
    if case.puzzles and len({str(puzzle.answer) for _, _, puzzle in case.puzzles}) == 1:
        raise ContractError(f"{len(case.puzzles)} draws have the same answer {written(case.puzzles[0][2].answer)}")


def _puzzle_survives_json(case: _Case) -> None:
    for source, _, puzzle in case.puzzles:
        try:
            text = json.dumps(puzzle.geometry, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ContractError(f"the geometry is not JSON: {error}") from error
        if len(text) > MOST_BYTES:
            raise ContractError(f"the geometry has {len(text):,} bytes, over {MOST_BYTES:,}; store no pixels in it")
        row = row_of("check", puzzle, case.task.prompt(puzzle), source)
        again = puzzle_of(row)
        if json.dumps(again.geometry) != text:
            raise ContractError("the geometry changes when it is written and read; keys must be text")


def _require_order_shown(case: _Case) -> None:
    """If the media are the same for every answer, the puzzle cannot be solved."""
    for source, puzzle in case.a_puzzle_per_source():
        others = [other for where, _, other in case.puzzles if where is source and other.answer != puzzle.answer]
        if puzzle.answer_kind == ORDER and "shown" in puzzle.geometry and puzzle.num_pieces > 1:
            shown = [*puzzle.geometry["shown"][1:], puzzle.geometry["shown"][0]]
            geometry = {**puzzle.geometry, "shown": shown}
            others = [dataclasses.replace(puzzle, geometry=geometry, answer=answer_of(shown))]
        for other in others[:1]:
            one, two = case.task.render(puzzle, source), case.task.render(other, source)
            same_words = case.task.prompt(puzzle) == case.task.prompt(other)
            if same_words and same_media(one, two):
                answers = f"{written(puzzle.answer)} and {written(other.answer)}"
                raise ContractError(
                    f"{source.path}: the answers {answers} have the same media; render must depend on the answer"
                )


def _keeps_the_convention(case: _Case) -> None:
    _require_order_shown(case)
    for source, _, puzzle in case.puzzles:
        try:
            check_answer_of(vars(puzzle))
        except RewardError as error:
            raise ContractError(f"{source.path}: {error}") from error
    if any(puzzle.answer_kind != ORDER for _, _, puzzle in case.puzzles):
        return  # the convention is only about orders
    if not all("shown" in puzzle.geometry for _, _, puzzle in case.puzzles):
        raise NotChecked("store `shown`, the 0-based pieces as displayed, in the geometry, to compare answers")
    for source, _, puzzle in case.puzzles:
        shown = puzzle.geometry["shown"]
        if answer_of(shown) != puzzle.answer:
            right = list(answer_of(shown))
            raise ContractError(
                f"{source.path}: shown {list(shown)} has the answer {right}, not {list(puzzle.answer)}; "
                "use tasks.answer_of"
            )


def _prompts_are_messages(case: _Case) -> None:
    for _, _, puzzle in case.puzzles:
        for turn in case.task.prompt(puzzle):
            if set(turn) != {"role", "content"} or not isinstance(turn["content"], list):
                raise ContractError("a message must have the keys role and content, a list of parts")
            for part in turn["content"]:
                wanted = {"text": {"type", "text"}, "image": {"type"}, "video": {"type"}}.get(part.get("type"))
                if wanted is None or set(part) != wanted:
                    raise ContractError(f"a part must be {{type: text, text}} or {{type: image | video}}, not {part}")


def _prompts_hide_the_answer(case: _Case) -> None:
    long = [puzzle for _, _, puzzle in case.puzzles if puzzle.num_pieces > 2 and puzzle.answer_kind == ORDER]
    revealing = sum(_words(case.task, puzzle).count(", ".join(map(str, puzzle.answer))) > 0 for puzzle in long)
    if revealing > len(long) / 2:
        raise ContractError(f"{revealing} of {len(long)} prompts contain the answer")


def _words(task: Task, puzzle: Puzzle) -> str:
    return " ".join(part.get("text", "") for turn in task.prompt(puzzle) for part in turn["content"])


def _media_fit_the_prompt(case: _Case) -> None:
    for source, puzzle in case.a_puzzle_per_source():
        media = case.task.render(puzzle, source)
        media_columns(row_of("check", puzzle, case.task.prompt(puzzle), source), media)
        for image in media.images:
            if image.mode != "RGB" or min(image.size) < 1:
                raise ContractError(f"an image is {image.mode} of {image.width}x{image.height}, not RGB")
        for clip in media.videos:
            if clip.frames.dtype != np.uint8 or clip.frames.ndim != 4 or clip.frames.shape[3] != 3:
                raise ContractError(f"frames are {clip.frames.dtype} {clip.frames.shape}, not uint8 (T, H, W, 3)")
            if len(clip.times) != len(clip.frames) or (np.diff(clip.times) <= 0).any() or clip.fps <= 0:
                raise ContractError("a clip must have one increasing time per frame and a rate above 0")


def _renders_again(case: _Case) -> None:
    fresh = case.fresh()
    for source, puzzle in reversed(list(case.a_puzzle_per_source())):
        stored = puzzle_of(row_of("check", puzzle, case.task.prompt(puzzle), source))
        one: Media = case.task.render(puzzle, source)
        if not same_media(one, case.task.render(puzzle, source)):
            raise ContractError(f"{source.path}: rendered twice, the pixels differ")
        if not same_media(one, fresh.render(stored, source)):
            raise ContractError(f"{source.path}: rendered from the stored puzzle, the pixels differ")


def _serves_reports(case: _Case) -> None:
    """Audit, preview, generalisation and reports read these members; a wrong one would fail there, hours later."""
    task = case.task
    if unknown := sorted(set(task.REMEDIES) - set(LEAKS)):
        raise ContractError(f"REMEDIES has {', '.join(unknown)}; the leaks are {', '.join(LEAKS)}")
    if task.SIZE is not None:
        key, sizes = task.SIZE
        for size in sizes:
            try:
                get_task(case.spec, **(config_values(task) | {key: size}))
            except TaskError as error:
                raise ContractError(f"SIZE offers {key}={size}, which the task refuses: {error}") from error
    for source, puzzle in case.a_puzzle_per_source():
        media, prompt = task.render(puzzle, source), task.prompt(puzzle)
        for variant in task.variants(puzzle):
            try:
                other = varied(prompt, variant, puzzle)
            except (KeyError, IndexError, ValueError) as error:
                allowed = "{count}, {rows}, {columns}, and {number} in a label"
                raise ContractError(
                    f"the prompt variant {variant.opening!r} has a placeholder other than {allowed}"
                ) from error
            media_columns(row_of("check", puzzle, other, source), media)
        pieces = task.pieces(puzzle, media)
        for name, found in (("frames", pieces.frames), ("times", pieces.times), ("points", pieces.points)):
            if len(found) not in (0, puzzle.num_pieces):
                raise ContractError(f"pieces returned {len(found)} {name} for {puzzle.num_pieces} pieces")
        if any(piece.ndim != 4 or piece.dtype != np.uint8 or piece.shape[3] != 3 for piece in pieces.frames):
            raise ContractError("the frames of a piece must be uint8 of shape (T, height, width, 3)")
        difficulty = task.difficulty(puzzle, pieces)
        if difficulty is not None and not math.isfinite(difficulty):
            raise ContractError(f"difficulty is {difficulty}; return a finite number or None")


def _rejects_damage(case: _Case) -> None:
    for content in (b"", b"neither a picture nor a video", bytes(range(256)) * 64):
        files: dict[str, Path | bytes] = dict.fromkeys(case.sources[0].files if case.sources else (), content)
        plan = case.task.plan(Source("damaged", f"damaged-{len(content)}", files), Random(0))
        if not isinstance(plan, Reject):
            raise ContractError(f"a damaged file of {len(content)} bytes became a puzzle")
        if plan.reason not in case.task.REASONS:
            raise ContractError(f"the reject reason {plan.reason!r} is not in REASONS")


def _works_in_workers(case: _Case) -> None:
    if not case.puzzles:
        raise NotChecked("there is no puzzle to build")
    config = config_values(case.task)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        built = build_puzzles(case.spec, case.place, out, config=config, limit=2, workers=1, progress=False)
        if not built.counts.puzzles:
            raise ContractError(f"a worker process made no puzzle of two sources: {dict(built.counts.rejects)}")
        report = check_puzzles(out, task=case.spec, workers=1, progress=False)
        if not report.ok:
            raise ContractError(f"the check of a built set failed: {report.faults[0]}")
        load_puzzles(out, task=case.spec)[0]


_PROPERTIES = {
    "it describes itself and its keys": _says_what_it_is,
    "its configuration is frozen and has defaults": _frozen,
    "its configuration survives JSON": _config_survives_json,
    "it makes puzzles of the sources, or rejects them with a reason": _makes_puzzles,
    "the same source and random state give the same puzzle": _plans_again,
    "other random states give other answers": _plans_variety,
    "puzzles are small and survive JSON": _puzzle_survives_json,
    "answers follow the convention": _keeps_the_convention,
    "prompts are messages of typed parts": _prompts_are_messages,
    "prompts do not contain the answer": _prompts_hide_the_answer,
    "media are valid, one for every placeholder": _media_fit_the_prompt,
    "a stored puzzle renders to the same pixels": _renders_again,
    "audit, preview and reports can read its puzzles": _serves_reports,
    "damaged files are rejected with a reason": _rejects_damage,
    "worker processes build, load and check a set": _works_in_workers,
}
