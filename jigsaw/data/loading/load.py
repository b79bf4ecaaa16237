"""Loading a data set: rows with media, rendered when they are read.

In: a folder that `build_puzzles` wrote. Out: a `datasets.Dataset` whose rows carry what TRL reads (`prompt`, `images`
or `videos`) and what rewards read. Media are rendered from the sources, or decoded from a materialised set, by a
transform that keeps the last ones used: the completions of one prompt cost one decode.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jigsaw.compat import hidden
from jigsaw.data.loading.time_limit import within
from jigsaw.data.sources import open_source
from jigsaw.data.storage.manifest import Manifest, read_manifest
from jigsaw.data.storage.media import media_bytes, media_columns, media_of
from jigsaw.data.storage.parts import (
    Row,
    answer_args_of,
    answer_of_row,
    part_files,
    puzzle_of,
    require_schema,
    require_values,
)
from jigsaw.data.storage.settings import Settings
from jigsaw.errors import JigsawError, first_line
from jigsaw.tasks import (
    ORDER,
    BoundedCache,
    Media,
    Pieces,
    Puzzle,
    Source,
    Task,
    TaskError,
    absolute_spec,
    find_task,
    get_task,
    task_named,
)

CACHE_BYTES = 256 * 2**20
"""Rendered media held per process."""

RENDER_LIMIT = 120.0
"""Seconds that a puzzle may take: a decoder that hangs must not hold up a training run for ever."""


@dataclass(frozen=True)
class Origin:
    """Where the rows of a data set come from: enough to render them in any process.

    Attributes:
        folder: the data set.
        source_root: the sources; unused when the set is materialised.
        spec: the task's name or spec.
        config: the task's configuration as JSON.
        seed: of the build.
    """

    folder: str
    source_root: str
    spec: str
    config: str
    seed: int


def load_puzzles(path: str | Path, source_root: str | Path | None = None, *, task: str | None = None) -> Any:
    """Open a data set.

    Args:
        path: a folder that `jigsaw build` wrote.
        source_root: where the sources are now, if they moved.
        task: spec of the plug-in task that built the set. Registered tasks are found by name; code that a data set
            names by file or module is run only when it is named here too.

    Returns:
        A `datasets.Dataset`. A row has `prompt`, `images` (list of PIL images) or `videos` (list of `tasks.Clip`),
        `answer`, `answer_kind`, `answer_args` (a dict), `task`, `id`, `num_pieces`, `answer_style`, `classes`, `source`
        and `geometry` (a dict). Rows whose id came before (copies of a source) are dropped. Sets can be put together
        with `datasets.concatenate_datasets`.

    Raises:
        JigsawError: no data set there, an unfinished one, or sources that are not where they were.
    """
    import datasets

    folder = Path(path).resolve()
    manifest = read_manifest(folder)
    if not manifest.complete:
        raise JigsawError(f"{path} is not complete; run its `jigsaw build` again to finish it")
    files = part_files(folder)
    if len(files) != manifest.settings.parts:
        raise JigsawError(f"{path} has {len(files)} of {manifest.settings.parts} parts; run its `jigsaw build` again")
    for file in files:
        require_schema(file)
    origin = origin_of(folder, manifest, source_root, task)
    with _quiet(datasets), hidden("scipy.io"):
        rows = _without_copies(datasets.Dataset.from_parquet([str(file) for file in files]))
        rows = rows.add_column("origin", [json.dumps(origin.__dict__)] * len(rows))
    return rows.with_transform(Renderer())


@contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Without the progress bars of `datasets`, which would end up in logs and `--json` output."""
    shown = datasets.utils.are_progress_bars_disabled() is False
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def origin_of(folder: Path, manifest: Manifest, source_root: str | Path | None, task: str | None) -> Origin:
    """Where the rows of a data set come from.

    Raises:
        JigsawError: its sources are not where they were, or its task is a plug-in that was not named.
    """
    settings = manifest.settings
    spec = spec_of(folder, settings, task)
    try:
        get_task(spec, **settings.config)
    except TaskError as error:
        raise JigsawError(f"{folder}: {error}; build the set again") from error
    return Origin(
        folder=str(folder),
        source_root=str(_source_root(folder, manifest, source_root)),
        spec=spec,
        config=json.dumps(settings.config),
        seed=settings.seed,
    )


def spec_of(folder: Path, settings: Settings, task: str | None) -> str:
    """The spec under which the task of a data set is found, valid in any working directory.

    Args:
        task: spec of the plug-in, where the user has named one.

    Raises:
        JigsawError: the set names code by module or file and the user does not, or they name different tasks.
    """
    if task is None and ":" in settings.spec:
        raise JigsawError(
            f"{folder} was built by the plug-in {settings.spec}; name it again to run its code: --task {settings.spec} "
            f"(in a recipe: task)"
        )
    spec = absolute_spec(task or settings.spec)
    try:
        name = find_task(spec).name
    except TaskError as error:
        raise JigsawError(f"{folder}: {error}") from error
    if name != settings.task:
        raise JigsawError(f"{folder} was built by task {settings.task}, not by {spec}")
    return spec


def _source_root(folder: Path, manifest: Manifest, given: str | Path | None) -> Path:
    if manifest.settings.materialize and given is None:
        return Path(manifest.source_root)
    candidates = [Path(given)] if given is not None else [Path(manifest.source_root), folder / manifest.source_relative]
    for candidate in candidates:
        if candidate.exists():
            return candidate.resolve()
    raise JigsawError(f"the sources of {folder} are not at {candidates[0]}; say where they are (source_root=...)")


def spread(length: int, limit: int | None) -> list[int]:
    """At most `limit` of the rows of a set, evenly spread: its rows lie source by source.

    >>> spread(10, 4), spread(2, 4)
    ([0, 2, 5, 7], [0, 1])
    """
    if limit is None or limit >= length:
        return list(range(length))
    return [number * length // limit for number in range(limit)]


def _without_copies(rows: Any) -> Any:
    first: dict[str, int] = {}
    for number, identity in enumerate(rows["id"][:]):
        first.setdefault(identity, number)
    return rows if len(first) == len(rows) else rows.select(list(first.values()))


@dataclass(frozen=True)
class Renderer:
    """The transform of a data set: stored rows to rows with media.

    It holds no state of its own, so that it is equal to, and can be sent like, every other one; what was rendered last
    is kept per process.
    """

    def __call__(self, batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """Turn columns of stored rows into columns of loaded rows."""
        size = len(batch["id"])
        stored = [{name: values[number] for name, values in batch.items()} for number in range(size)]
        loaded = [_loaded(row) for row in stored]
        names = dict.fromkeys(name for row in loaded for name in row)
        return {name: [row.get(name) for row in loaded] for name in names}


def _loaded(row: Row) -> Row:
    puzzle = _puzzle(row)
    media = media_columns(row, _media(row, puzzle))
    if "images" in media:
        # A reader that changes an image must not change what the next reader gets.
        media["images"] = [image.copy() for image in media["images"]]
    prompt = [{"role": turn["role"], "content": [_part(part) for part in turn["content"]]} for turn in row["prompt"]]
    kept = {name: row[name] for name in ("task", "id", "num_pieces", "answer_style", "classes", "source")}
    answer = {
        "answer": answer_of_row(row),
        "answer_kind": row.get("answer_kind") or ORDER,
        "answer_args": answer_args_of(row),
    }
    return {"prompt": prompt, **media, **answer, **kept, "geometry": dict(puzzle.geometry)}


def _puzzle(row: Row) -> Puzzle:
    try:
        require_values(row)
        return puzzle_of(row)
    except ValueError as error:
        raise JigsawError(
            f"{json.loads(row['origin'])['folder']}: puzzle {row['id']} is no puzzle: {error}; build the set again"
        ) from error


def _part(part: Row) -> Row:
    # Arrow fills absent keys with null, and a part with a null `text` counts as having one for some chat templates.
    return {key: value for key, value in part.items() if value is not None}


_rendered: BoundedCache[Media] = BoundedCache(CACHE_BYTES, media_bytes)


def _media(row: Row, puzzle: Puzzle) -> Media:
    return _rendered.get((row["origin"], row["id"]), lambda: _make_media(row, puzzle))


def _make_media(row: Row, puzzle: Puzzle) -> Media:
    stored = row["images"] is not None or row["videos"] is not None or task_named(puzzle.task).STORED
    try:
        return media_of(row) if stored else within(RENDER_LIMIT, lambda: _render(row, puzzle))
    except JigsawError:
        raise
    except Exception as error:
        # Whatever a task raises for a geometry that is not its own, or for a source that is damaged.
        why = first_line(error) if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {error}"
        raise JigsawError(f"puzzle {row['id']} of {row['source']['path']} cannot be rendered: {why}") from error


def _render(row: Row, puzzle: Puzzle) -> Media:
    task, source = opened(row)
    return task.render(puzzle, source)


def pieces_of(row: Mapping[str, Any]) -> Pieces:
    """The pieces of a loaded row, as its task finds them in the row's media."""
    media = Media(images=row.get("images") or (), videos=row.get("videos") or ())
    return task_named(row["task"]).pieces(puzzle_of(row), media)


def opened(row: Row) -> tuple[Task, Source]:
    """The task and the source of a stored row.

    Raises:
        JigsawError: the source is gone or changed.
    """
    origin = Origin(**json.loads(row["origin"]))
    task = _open_task(origin.spec, origin.config)
    where = Path(origin.source_root) / row["source"]["path"]
    try:
        source = open_source(Path(origin.source_root), row["source"]["path"], task.source_kind)
    except OSError as error:
        raise JigsawError(f"{where} cannot be read: {error.strerror or error}") from error
    if source.fingerprint != row["source"]["fingerprint"]:
        raise JigsawError(f"{where} changed since {origin.folder} was built; rebuild it")
    return task, source


@cache
def _open_task(spec: str, config: str) -> Task:
    return get_task(spec, **json.loads(config))
