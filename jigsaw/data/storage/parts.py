"""Parquet parts: the columns of a puzzle set, and writing and reading of parts.

In: rows as dicts. Out: `data-IIIII-of-PPPPP.parquet`, written atomically, with the hash of the settings and the counts
in its metadata, by which the next build recognises a finished part.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jigsaw.data.storage.manifest import Counts, counts_of
from jigsaw.errors import JigsawError, first_line
from jigsaw.tasks import ORDER, Message, Puzzle, Source
from jigsaw.tasks.media.grids import MOST_CELLS
from jigsaw.text import named

ROWS_PER_GROUP = 1000
BYTES_PER_GROUP = 32 * 2**20
_METADATA_KEY = b"jigsaw"

Row = dict[str, Any]


def part_name(part: int, parts: int) -> str:
    """File name of a part.

    >>> part_name(3, 8)
    'data-00003-of-00008.parquet'
    """
    return f"data-{part:05d}-of-{parts:05d}.parquet"


def schema() -> Any:
    """The Arrow schema of a part. `images` and `videos` are null unless the set stores its media."""
    import pyarrow as pa

    text = pa.string()
    message_part = pa.struct([("type", text), ("text", text)])
    clip = pa.struct([("frames", pa.list_(pa.binary())), ("times", pa.list_(pa.float64())), ("fps", pa.float64())])
    return pa.schema(
        [
            ("id", text),
            ("task", text),
            ("prompt", pa.list_(pa.struct([("role", text), ("content", pa.list_(message_part))]))),
            ("answer", pa.list_(pa.int32())),
            ("num_pieces", pa.int32()),
            ("answer_style", text),
            ("classes", pa.list_(pa.int32())),
            ("answer_kind", text),
            ("answer_args", text),
            ("answer_value", text),
            ("source", pa.struct([("path", text), ("fingerprint", text)])),
            ("geometry", text),
            ("images", pa.list_(pa.struct([("bytes", pa.binary()), ("path", text)]))),
            ("videos", pa.list_(clip)),
        ]
    )


def row_of(identity: str, puzzle: Puzzle, prompt: list[Message], source: Source) -> Row:
    """The row of a puzzle, without media. An order is stored in `answer`, other answers as JSON in `answer_value`."""
    is_order = puzzle.answer_kind == ORDER
    return {
        "id": identity,
        "task": puzzle.task,
        "prompt": [
            {"role": turn["role"], "content": [_message_part(part) for part in turn["content"]]} for turn in prompt
        ],
        "answer": list(puzzle.answer) if is_order else [],
        "num_pieces": puzzle.num_pieces,
        "answer_style": puzzle.answer_style,
        "classes": None if puzzle.classes is None else list(puzzle.classes),
        "answer_kind": puzzle.answer_kind,
        "answer_args": json.dumps(puzzle.answer_args, sort_keys=True) if puzzle.answer_args else None,
        "answer_value": None if is_order else json.dumps(puzzle.answer),
        "source": {"path": source.path, "fingerprint": source.fingerprint},
        "geometry": json.dumps(puzzle.geometry, separators=(",", ":")),
        "images": None,
        "videos": None,
    }


def _message_part(part: dict[str, Any]) -> dict[str, Any]:
    kind = part["type"]
    return {"type": kind, "text": part["text"]} if kind == "text" else {"type": kind}


def puzzle_of(row: Mapping[str, Any]) -> Puzzle:
    """The puzzle of a stored or loaded row; the inverse of `row_of`.

    Raises:
        ValueError: the row is not valid.
    """
    classes, kind = row["classes"], row.get("answer_kind") or ORDER
    return Puzzle(
        task=row["task"],
        answer=tuple(row["answer"]) if kind == ORDER else answer_of_row(row),
        geometry=_geometry_of(row["geometry"]) if isinstance(row["geometry"], str) else row["geometry"],
        answer_style=row["answer_style"],
        classes=None if classes is None else tuple(classes),
        answer_kind=kind,
        answer_args=answer_args_of(row),
    )


def answer_of_row(row: Mapping[str, Any]) -> Any:
    """The answer of a stored or loaded row, in the form of its kind.

    Raises:
        ValueError: it is not valid JSON.
    """
    stored = row.get("answer_value")
    return row["answer"] if stored is None else json.loads(stored)


def answer_args_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a stored or loaded row's answer kind."""
    args = row.get("answer_args")
    return json.loads(args) if isinstance(args, str) else dict(args or {})


def require_values(row: Row) -> None:
    """Check that a stored row has all its values; the types of its columns are those of the schema.

    Raises:
        ValueError: names the column.
    """
    is_order = (row.get("answer_kind") or ORDER) == ORDER
    answer = "answer" if is_order else "answer_value"
    for name in ("id", "task", "prompt", answer, "answer_style", "source", "geometry"):
        if not row[name]:
            raise ValueError(f"its {name} is {'null' if row[name] is None else 'empty'}")
    for name in ("path", "fingerprint"):
        if not row["source"][name]:
            raise ValueError(f"its source.{name} is null or empty")
    for name in ("answer", "classes"):
        if row[name] is not None and None in row[name]:
            raise ValueError(f"its {name} has a null")
    if is_order and row["num_pieces"] != len(row["answer"]):
        raise ValueError(f"num_pieces is {row['num_pieces']}, and its answer has {len(row['answer'])} numbers")
    for number, turn in enumerate(row["prompt"], start=1):
        if not turn or turn["role"] is None or turn["content"] is None:
            raise ValueError(f"turn {number} of its prompt has no role or no content")
        for part in turn["content"]:
            kind = None if part is None else part["type"]
            if kind not in PART_TYPES or (kind == "text" and part.get("text") is None):
                raise ValueError(f"turn {number} of its prompt has a part of type {kind!r}, or one without its text")


PART_TYPES = ("text", "image", "video")
"""Types of the parts of a prompt."""

LARGEST = 2**53
"""Largest number of a geometry; integers of thousands of digits would block the process for minutes."""


def _geometry_of(text: str) -> Any:
    """The geometry of a row that may come from other people.

    Raises:
        ValueError: it is not valid JSON, is nested too deeply, or has too large numbers.
    """
    try:
        geometry = json.loads(text)
    except RecursionError:
        raise ValueError("the geometry is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"the geometry is not valid JSON ({first_line(error)})") from None
    left = [geometry]
    while left:
        item = left.pop()
        if isinstance(item, dict | list):
            left.extend(item.values() if isinstance(item, dict) else item)
        elif isinstance(item, int | float) and not abs(item) <= LARGEST:
            raise ValueError(f"the geometry has a number above {LARGEST}")
    if not isinstance(geometry, dict):
        raise ValueError(f"the geometry is {named(geometry)}, not an object")
    grid = geometry.get("grid")
    if isinstance(grid, list) and math.prod(side for side in grid if isinstance(side, int)) > MOST_CELLS:
        raise ValueError(f"the grid of the geometry has more than {MOST_CELLS:,} cells")
    return geometry


@contextmanager
def _disk_errors_named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise JigsawError(
            f"{path} cannot be written: {error.strerror or error}; no incomplete file was left"
        ) from error


def write_part(path: Path, work: Path, rows: Iterable[Row], settings_digest: str, counts: Callable[[], Counts]) -> None:
    """Write a part under a temporary name and move it into place when it is complete.

    Args:
        work: folder on the same disk for the unfinished file.
        rows: taken one at a time; one row group is in memory.
        settings_digest: hash of the settings, stored in the file.
        counts: returns the `Counts` of the part; called after the last row.

    Raises:
        JigsawError: the disk is full or the folder cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    temporary = work / f"{path.name}.{os.getpid()}.tmp"
    columns = schema()
    try:
        with _disk_errors_named(path):
            writer = pq.ParquetWriter(temporary, columns, compression="zstd")
        try:
            for group in _groups(rows):  # errors of the rows are not errors of the disk
                with _disk_errors_named(path):
                    writer.write_table(pa.Table.from_pylist(group, schema=columns))
            record = {"settings": settings_digest, "counts": asdict(counts())}
            writer.add_key_value_metadata({_METADATA_KEY: json.dumps(record).encode()})
        finally:
            with _disk_errors_named(path):
                writer.close()
        with _disk_errors_named(path):
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    group: list[Row] = []
    size = 0
    for row in rows:
        group.append(row)
        size += sum(len(image["bytes"]) for image in row["images"] or ())
        size += sum(len(frame) for clip in row["videos"] or () for frame in clip["frames"])
        if len(group) >= ROWS_PER_GROUP or size >= BYTES_PER_GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group


def finished_part(path: Path) -> tuple[str, Counts] | None:
    """Settings hash and counts of a part, or None if it does not exist.

    Raises:
        JigsawError: the file is damaged, or no build wrote it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        return None
    try:
        metadata = pq.read_metadata(path).metadata or {}
        record = json.loads(metadata[_METADATA_KEY])
        return str(record["settings"]), counts_of(record["counts"])
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError, RecursionError) as error:
        raise JigsawError(f"{path} was not written by `jigsaw build`, or is damaged; delete it") from error


def require_schema(path: Path) -> None:
    """Check that the columns of a part are those of `schema`, since its values are used without conversion.

    Raises:
        JigsawError: names the part and the column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise JigsawError(f"{path} is damaged ({first_line(error)}); build the part again") from error
    for column in schema():
        place = found.get_field_index(column.name)
        if place < 0:
            raise JigsawError(f"{path} has no column {column.name}; build the part again")
        if (kind := found.field(place).type) != column.type:
            raise JigsawError(f"{path}: column {column.name} has type {kind}, not {column.type}; build the part again")


def sources_of(path: Path) -> int:
    """Number of different sources of the rows of a part."""
    import pyarrow.parquet as pq

    paths: set[str] = set()
    with pq.ParquetFile(path) as part:
        for batch in part.iter_batches(columns=["source.path"]):
            paths.update(batch.column("source").field("path").to_pylist())
    return len(paths)


def part_files(folder: Path) -> list[Path]:
    """The parts of a data set in order."""
    return sorted(folder.glob("data-*-of-*.parquet"))
