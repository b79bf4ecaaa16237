"""`jigsaw import visual-jigsaw`: puzzle sets in the format of the paper's authors.

In: the Parquet files of a foreign set and the folder of its media. Out: a puzzle set like a built one. A task defines
which rows are its puzzles (`Task.FOREIGN`) and how they are converted (`Task.adopt`). The authors shuffle on loading,
without a seed; here the shown order is sampled with the seed of the import. Prompts are not changed.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jigsaw.data.building.build import BuildSummary
from jigsaw.data.building.planning import Job, Planned, Refusal
from jigsaw.data.building.pool import Pool
from jigsaw.data.building.writer import Outcome
from jigsaw.data.importing.folders import media_folder, parquet_errors, parquet_files, write_imported
from jigsaw.data.sources import open_source
from jigsaw.data.storage.identity import puzzle_id, puzzle_rng
from jigsaw.data.storage.media import placeholders
from jigsaw.data.storage.parts import row_of
from jigsaw.data.storage.settings import BuildConfig, Settings
from jigsaw.errors import JigsawError, first_line
from jigsaw.processes import usable_cores
from jigsaw.tasks import (
    AnswerStyle,
    ForeignRows,
    Message,
    Reject,
    Task,
    canonical_config,
    find_task,
    get_task,
    task_names,
)
from jigsaw.tasks.foreign import unwrapped
from jigsaw.tasks.media.formats import MediaError

FORMATS = ("visual-jigsaw",)
ROWS_PER_PART = 50_000
_PLACEHOLDERS = {"<image>": "image", "<video>": "video"}
_MEDIA_COLUMNS = ("images", "videos", "image", "video", "audios", "audio", "sounds", "speech")
_KIND_COLUMNS = ("data_source", "videos")
_COLUMNS = ("data_source", "prompt", *_MEDIA_COLUMNS)


def import_puzzles(
    form: str,
    path: str | Path,
    out: str | Path,
    *,
    media_root: str | Path | None = None,
    only: str | None = None,
    seed: int = 0,
    workers: int | None = None,
    time_limit: float = 120.0,
    progress: bool = True,
) -> BuildSummary:
    """Import a foreign puzzle set.

    Args:
        form: one of `FORMATS`.
        path: a Parquet file, or a folder of them.
        out: a new or empty folder, or one in which the same import was interrupted.
        media_root: folder to which the media paths are relative; by default that of the Parquet files.
        only: name of the task whose rows are read. A set has one task.
        seed: of the shown orders.
        workers, time_limit, progress: see `build_puzzles`.

    Raises:
        JigsawError: the format is unknown, the files have another format or several tasks, or the folder is not empty.
    """
    if form not in FORMATS:
        raise JigsawError(f"unknown format {form!r}; known: {', '.join(FORMATS)}, qa")
    files = parquet_files(Path(path), "*.parquet")
    known = foreign_tasks()
    kinds = Counter(_kind(row, known) for file in files for row in _foreign_rows(file, _KIND_COLUMNS))
    if only is not None and only not in kinds:
        raise JigsawError(f"{path} has no {only} puzzles; it has {', '.join(sorted(kinds)) or 'no rows'}")
    if only is None and len(kinds) != 1:
        found = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "no rows"
        raise JigsawError(
            f"{path} has {found}; a data set has one task: choose with --only {' or --only '.join(sorted(kinds))}"
        )
    kind = only or next(iter(kinds))
    task, root = get_task(kind), media_folder(media_root, Path(path))
    build = BuildConfig.of(kind, seed=seed, heldout=None)
    settings = Settings.of_build(
        build,
        config=json.loads(canonical_config(task)),
        task=task.name,
        parts=max(1, -(-kinds[kind] // ROWS_PER_PART)),
        num_sources=kinds[kind],
        listing="",
        imported=form,
    )
    job = Job(call=f"{__name__}:import_row", root=root.resolve(), build=build)
    with Pool(job, min(workers or usable_cores(), max(1, settings.num_sources)), time_limit) as pool:
        results = pool.run(_items(files, task.name, known))
        outcomes = (Outcome(item["path"], result, {"row": item["row"]}) for item, result in results)
        return write_imported(Path(out), root, settings, outcomes, task, rows_per_part=ROWS_PER_PART, progress=progress)


def _foreign_rows(file: Path, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    with parquet_errors(file), pq.ParquetFile(file) as parquet:
        names = parquet.schema_arrow.names
        if "data_source" not in names or "prompt" not in names:
            raise JigsawError(f"{file} is not a visual-jigsaw file: it lacks the columns data_source and prompt")
        for batch in parquet.iter_batches(batch_size=256, columns=[name for name in columns if name in names]):
            yield from batch.to_pylist()


def foreign_tasks() -> dict[str, ForeignRows]:
    """Registered tasks that import foreign rows: name -> which rows."""
    found = {name: find_task(name).FOREIGN for name in task_names()}
    return {name: rows for name, rows in found.items() if rows is not None}


def _kind(row: dict[str, Any], known: Mapping[str, ForeignRows]) -> str:
    """The task of a row: of those that read its media, the one with the longest mark in `data_source`."""
    column = "videos" if row.get("videos") else "images"
    fit = [name for name, rows in known.items() if rows.column == column and rows.mark in str(row["data_source"])]
    return max(fit, key=lambda name: len(known[name].mark))


def _items(files: list[Path], kind: str, known: Mapping[str, ForeignRows]) -> Iterator[dict[str, Any]]:
    """The rows of one task, each with the number of earlier rows of the same source."""
    seen: Counter[str] = Counter()
    number = 0
    for file in files:
        for row in _foreign_rows(file, _COLUMNS):
            if _kind(row, known) == kind:
                about = _about(row, known[kind])
                path = about.get("path", "")
                yield {
                    "row": number,
                    "path": path,
                    "index": seen[path],
                    "about": about,
                    "media": {name: row[name] for name in _MEDIA_COLUMNS if row.get(name)},
                    "prompt": row["prompt"],
                    "source": str(row["data_source"]),
                }
                seen[path] += 1
            number += 1


def _about(row: dict[str, Any], rows: ForeignRows) -> dict[str, Any]:
    """The entry of a row for its first image or video; empty if it names no file."""
    media = row.get(rows.column)
    about = media[0] if isinstance(media, list) and media else None
    if not isinstance(about, dict):
        return {}
    path = unwrapped(about.get("path"))
    return about | {"path": path} if isinstance(path, str) else {}


def import_row(task: Task, job: Job, item: dict[str, Any]) -> Planned | Refusal:
    """The row of a foreign row. Runs in a worker."""
    assert task.FOREIGN is not None
    if (problem := _unread_media(task.FOREIGN.column, item["media"])) is not None:
        return Refusal(None, "placeholders", problem)
    if not item["path"]:
        needed = f"{task.FOREIGN.column} needs a list of {{path, ...}}"
        return Refusal(None, "unreadable", f"the row names no file: {needed}")
    try:
        source = open_source(job.root, item["path"], task.source_kind)
    except OSError as error:
        return Refusal(None, "unreadable", error.strerror or str(error))
    identity = puzzle_id(task.name, canonical_config(task), source.fingerprint, job.build.seed, item["index"])
    try:
        prompt = _messages(item["prompt"])
        puzzle = task.adopt(source, puzzle_rng(identity), item["about"], _style(prompt, item["source"]))
    except KeyError as error:
        return Refusal(None, "failed", f"the row has no {error.args[0]}")
    except MediaError as error:
        return Refusal(None, error.reason, str(error))
    except (ValueError, IndexError) as error:
        return Refusal(None, "failed", first_line(error))
    except Exception as error:  # the type depends on the content of the row
        return Refusal(None, "failed", f"{type(error).__name__}: {first_line(error)}")
    if isinstance(puzzle, Reject):
        return Refusal(None, puzzle.reason, puzzle.detail)
    wanted, found = placeholders(task.prompt(puzzle)), placeholders(prompt)
    if wanted != found:
        problem = f"the prompt has {_counted(found)} placeholders, the puzzle has {_counted(wanted)}"
        return Refusal(None, "placeholders", problem)
    return Planned(rows=[row_of(identity, puzzle, prompt, source)])


def _unread_media(own: str, media: dict[str, Any]) -> str | None:
    """A problem of a row with other media than the one of its puzzle, which would be lost; else None."""
    others = [name for name in media if name != own]
    if others:
        return f"the row has `{others[0]}` in addition to the {own} of its puzzle; leave it out"
    count = len(media[own]) if isinstance(media.get(own), list) else 1
    return f"the row has {count} {own}; a puzzle uses one" if count > 1 else None


def _counted(kinds: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "no"


def _messages(prompt: Any) -> list[Message]:
    """The prompt as chat messages; `<image>` and `<video>` in a text become placeholders.

    Raises:
        ValueError: a turn has no text.
    """
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if not isinstance(turns, list) or not turns:
        raise ValueError(f"the prompt is {json.dumps(prompt)[:60]}, not a text or a list of turns")
    messages = []
    for number, turn in enumerate(turns, start=1):
        if not isinstance(turn.get("content"), str) or not isinstance(turn.get("role"), str):
            raise ValueError(f"turn {number} of the prompt has no role, or no text as content")
        messages.append({"role": turn["role"], "content": [*_parts(turn["content"])]})
    return messages


def _parts(text: str) -> Iterator[dict[str, str]]:
    for piece in re.split("(<image>|<video>)", text):
        if piece in _PLACEHOLDERS:
            yield {"type": _PLACEHOLDERS[piece]}
        elif piece:
            yield {"type": "text", "text": piece}


def _style(prompt: list[Message], data_source: str) -> AnswerStyle:
    """The answer style of a prompt."""
    if "nothink" in data_source:
        return "direct"
    text = " ".join(part.get("text", "") for turn in prompt for part in turn["content"])
    return "boxed" if "\\boxed" in text else "think"
