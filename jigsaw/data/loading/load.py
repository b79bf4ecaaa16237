"""Loading a puzzle set: rows with media, which are rendered when a row is read.

In: the folder of a set. Out: a `datasets.Dataset` whose rows have the columns of TRL (`prompt`, `images` or `videos`)
and those of the rewards. A transform renders the media from the sources, or decodes stored ones, and caches the last
ones, so that the completions of a prompt need one decode.
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
"""Size of the cache of rendered media in each process."""

RENDER_LIMIT = 120.0
"""Seconds to render a puzzle: a decoder that hangs must not block training."""


@dataclass(frozen=True)
class Origin:
    """What is needed to render the rows of a set in any process.

    Attributes:
        folder: the set.
        source_root: folder of the sources; not used if the set stores its media.
        spec: name or spec of the task.
        config: configuration of the task as JSON.
    """

    folder: str
    source_root: str
    spec: str
    config: str


def load_puzzles(path: str | Path, source_root: str | Path | None = None, *, task: str | None = None) -> Any:
    """Open a puzzle set.

    Args:
        path: a folder that `jigsaw build` wrote.
        source_root: where the sources are now, if they moved.
        task: spec of the plug-in task of the set. Registered tasks are found by name; code that a set names by file or
            module is run only if it is also named here.

    Returns:
        A `datasets.Dataset`. A row has `prompt`, `images` (list of PIL images) or `videos` (list of `tasks.Clip`),
        `answer`, `answer_kind`, `answer_args` (a dict), `task`, `id`, `num_pieces`, `answer_style`, `classes`, `source`
        and `geometry` (a dict). Rows with the id of an earlier row (copies of a source) are dropped. Sets can be joined
        with `datasets.concatenate_datasets`.

    Raises:
        JigsawError: the folder is not a complete set, or its sources have moved.
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
    return rows.with_transform(rendered)


@contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Disable the progress bars of `datasets`, which would be in logs and `--json` output."""
    shown = datasets.utils.are_progress_bars_disabled() is False
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def origin_of(folder: Path, manifest: Manifest, source_root: str | Path | None, task: str | None) -> Origin:
    """The origin of the rows of a set.

    Raises:
        JigsawError: its sources have moved, or its task is a plug-in that was not named.
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
    )


def spec_of(folder: Path, settings: Settings, task: str | None) -> str:
    """The spec of the task of a set, valid in any working directory.

    Args:
        task: spec of the plug-in from the user, or None.

    Raises:
        JigsawError: the set needs a plug-in that the user has not named, or the user has named another task.
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


def _source_root(folder: Path, manifest: Manifest, source_root: str | Path | None) -> Path:
    if manifest.settings.materialize and source_root is None:
        return Path(manifest.source_root)
    candidates = [Path(manifest.source_root), folder / manifest.source_relative]
    if source_root is not None:
        candidates = [Path(source_root)]
    for candidate in candidates:
        if candidate.exists():
            return candidate.resolve()
    raise JigsawError(f"the sources of {folder} are not at {candidates[0]}; name their folder (source_root=...)")


def spread(length: int, limit: int | None) -> list[int]:
    """Numbers of at most `limit` rows of a set, evenly spaced, since rows of a source are adjacent.

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


def rendered(batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """The transform of a set, from columns of stored rows to columns of rows with media."""
    loaded = [_loaded(dict(zip(batch, values, strict=True))) for values in zip(*batch.values(), strict=True)]
    names = dict.fromkeys(name for row in loaded for name in row)
    return {name: [row.get(name) for row in loaded] for name in names}


_rendered: BoundedCache[Media] = BoundedCache(CACHE_BYTES, media_bytes)


def _loaded(row: Row) -> Row:
    puzzle = _puzzle(row)
    media = media_columns(row, _rendered.get((row["origin"], row["id"]), lambda: _media(row, puzzle)))
    if "images" in media:
        # Copies, since a caller may change an image.
        media["images"] = [image.copy() for image in media["images"]]
    # Arrow fills absent keys with null, and some chat templates take a null `text` for a text.
    prompt = [
        {
            "role": turn["role"],
            "content": [{key: value for key, value in part.items() if value is not None} for part in turn["content"]],
        }
        for turn in row["prompt"]
    ]
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
            f"{json.loads(row['origin'])['folder']}: puzzle {row['id']} is not valid: {error}; build the set again"
        ) from error


def _media(row: Row, puzzle: Puzzle) -> Media:
    def render() -> Media:
        task, source = opened(row)
        return task.render(puzzle, source)

    stored = row["images"] is not None or row["videos"] is not None or task_named(puzzle.task).STORED
    try:
        return media_of(row) if stored else within(RENDER_LIMIT, render)
    except JigsawError:
        raise
    except Exception as error:
        # A task may raise any error for a changed geometry or a damaged source.
        why = first_line(error) if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {error}"
        raise JigsawError(f"puzzle {row['id']} of {row['source']['path']} cannot be rendered: {why}") from error


def pieces_of(row: Mapping[str, Any]) -> Pieces:
    """The pieces of a loaded row, which its task takes from the media of the row."""
    media = Media(images=row.get("images") or (), videos=row.get("videos") or ())
    return task_named(row["task"]).pieces(puzzle_of(row), media)


def opened(row: Row) -> tuple[Task, Source]:
    """The task and the source of a stored row.

    Raises:
        JigsawError: the source is missing or has changed.
    """
    origin = Origin(**json.loads(row["origin"]))
    task = _open_task(origin.spec, origin.config)
    where = Path(origin.source_root) / row["source"]["path"]
    try:
        source = open_source(Path(origin.source_root), row["source"]["path"], task.source_kind)
    except OSError as error:
        raise JigsawError(f"{where} cannot be read: {error.strerror or error}") from error
    if source.fingerprint != row["source"]["fingerprint"]:
        raise JigsawError(f"{where} has changed since {origin.folder} was built; build the set again")
    return task, source


@cache
def _open_task(spec: str, config: str) -> Task:
    return get_task(spec, **json.loads(config))
