"""Media in tables: rows of Parquet files and of saved `datasets`.

In: a table. Out: the column of the media, the names of its items (`12`, or `12/0`, `12/1` ... if a row has a list), and
the bytes of an item. A column can have media if its cells are bytes, structs with `bytes` as `datasets` writes them, or
lists of these, also in large, view and dictionary-encoded types. Among several such columns the first cells and the
names decide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from jigsaw.data.sources.recognition import MediaKind, Skipped
from jigsaw.data.sources.tars import ContainerError
from jigsaw.errors import first_line
from jigsaw.tasks.media.formats import HEAD_BYTES, format_of

_OUR_KEY = b"jigsaw"
_SAMPLED_CELLS = 24
_SAMPLED_BATCHES = 16
_BATCH = 8
_NAMES = {
    "image": (
        "image",
        "images",
        "img",
        "imgs",
        "picture",
        "pictures",
        "photo",
        "photos",
        "pixels",
        "jpg",
        "jpeg",
        "png",
    ),
    "video": ("video", "videos", "clip", "clips", "movie", "mp4", "webm", "mkv"),
}
_SECONDARY = ("thumb", "preview", "icon", "mask", "depth", "segmentation", "overlay", "small", "heatmap")
"""Words in the names of columns with derived pictures."""
_BETWEEN = "/"
_JOINED = b"PAR1PAR1"


@dataclass(frozen=True)
class Column:
    """A column of media.

    Attributes:
        name: of the column.
        nested: whether a cell is a list.
        others: names of further columns of media, which are not read.
    """

    name: str
    nested: bool
    others: tuple[str, ...] = ()


def table_items(container: Path, kind: MediaKind, skipped: Skipped) -> Iterator[str]:
    """Names of the items of a Parquet file or a saved data set, in order.

    Raises:
        ContainerError: the table is damaged or concatenated from two, or no column has media.
    """
    if container.is_dir():
        rows, column = _saved(str(container), kind)
        lengths = _saved_lengths(rows, column)
        count = rows.num_rows
    else:
        parquet, found = _parquet(*version_of(container), kind)
        if found is None:
            skipped["part of a puzzle set"] += 1
            return
        column, count = found, parquet.metadata.num_rows
        lengths = _parquet_lengths(parquet, column)
    for other in column.others:
        skipped[f"column {other}"] += count
    if not column.nested:
        yield from map(str, range(count))
        return
    for row, length in enumerate(lengths):
        if not length:
            yield str(row)  # will be a reject that names the row
        yield from (f"{row}{_BETWEEN}{place}" for place in range(length or 0))


def table_cell(container: Path, name: str, kind: MediaKind) -> bytes:
    """The bytes of an item.

    Raises:
        ContainerError: there is no such row, or it has no bytes.
    """
    row, _, place = name.partition(_BETWEEN)
    try:
        number = int(row)
        value = _saved_cell(str(container), kind, number) if container.is_dir() else _cell(container, kind, number)
        if place or isinstance(value, list):
            value = (value or [])[int(place or 0)]
    except (ValueError, IndexError, TypeError) as error:
        empty = isinstance(error, IndexError) and not place
        raise ContainerError(f"row {name} of {container.name} {'is empty' if empty else 'does not exist'}") from error
    data = value.get("bytes") if isinstance(value, dict) else value
    if isinstance(data, bytes):
        return data
    if isinstance(value, dict) and value.get("path"):
        problem = f"names the file {value['path']} but has no bytes; use the folder of the files as source"
        raise ContainerError(f"row {name} of {container.name} {problem}")
    raise ContainerError(f"row {name} of {container.name} is empty")


def version_of(file: Path) -> tuple[str, int, int]:
    """Path, size and time of change: the key of a cached index."""
    about = file.stat()
    return str(file), about.st_size, about.st_mtime_ns


def media_column(schema: Any, kind: MediaKind, batches: Any) -> Column:
    """The column of the media.

    Args:
        schema: of the table.
        batches: returns record batches of the first rows for given names of columns.

    Raises:
        ContainerError: no column can have media; the message lists the columns and their types.
    """
    could = {field.name: nested for field in schema if (nested := _nested(field.type)) is not None}
    if not could:
        columns = ", ".join(f"{field.name}: {field.type}" for field in schema)
        raise ContainerError(f"no column has bytes of media (columns: {columns}); paths in columns are not read")
    if len(could) == 1:
        return Column(*next(iter(could.items())))
    heads = _sampled(list(could), batches)
    formats = {name: [format_of(head) for head in heads[name]] for name in could}
    media = [n for n, each in formats.items() if 2 * sum(f is not None and f.kind == kind for f in each) > len(each)]
    order = list(could)

    def rank(name: str) -> tuple[bool, bool, bool, int]:
        lower = name.lower()
        secondary = any(word in lower for word in _SECONDARY)
        return (name not in media, secondary, lower not in _NAMES[kind], order.index(name))

    best = min(could, key=rank)
    return Column(best, could[best], tuple(name for name in media if name != best))


def _nested(kind: Any) -> bool | None:
    """Whether a type is a list of media; None if it cannot have media."""
    import pyarrow as pa

    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return _nested(kind.storage_type)
    if types.is_dictionary(kind):
        return _nested(kind.value_type)
    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view)
    if any(is_list(kind) for is_list in lists):
        return True if _nested(kind.value_type) is False else None
    if types.is_struct(kind):
        return next((_nested(field.type) for field in kind if field.name == "bytes"), None)
    plain = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    return False if any(is_bytes(kind) for is_bytes in plain) else None


def _sampled(names: list[str], batches: Any) -> dict[str, list[bytes]]:
    """The first bytes of the first cells that are not empty, by column."""
    heads: dict[str, list[bytes]] = {name: [] for name in names}
    for number, batch in enumerate(batches(names)):
        for name in names:
            for value in batch.column(name).to_pylist():
                for one in value if isinstance(value, list) else [value]:
                    data = one.get("bytes") if isinstance(one, dict) else one
                    if isinstance(data, bytes) and data and len(heads[name]) < _SAMPLED_CELLS:
                        heads[name].append(data[:HEAD_BYTES])
        if all(heads.values()) or number + 1 == _SAMPLED_BATCHES:
            break
    return heads


@lru_cache(maxsize=8)
def _parquet(file: str, size: int, _changed: int, kind: MediaKind) -> tuple[Any, Column | None]:
    """An open Parquet file and its media column; None instead of a column for a part of a puzzle set."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Buffered, so that the first cells are read without the whole column.
        parquet = pq.ParquetFile(file, buffer_size=2**16)
        if _OUR_KEY in (parquet.metadata.metadata or {}):
            return parquet, None
        _require_one(file, size, parquet)

        def batches(names: list[str]) -> Any:
            return parquet.iter_batches(_BATCH, columns=names)

        return parquet, media_column(parquet.schema_arrow, kind, batches)
    except pa.ArrowException as error:
        raise ContainerError(f"not a Parquet file, or damaged: {first_line(error)}") from error


def _require_one(file: str, size: int, parquet: Any) -> None:
    """Refuse concatenated Parquet files: the footer of the last would be read with the rows of the first."""
    ends = [0]
    for group in range(parquet.metadata.num_row_groups):
        described = parquet.metadata.row_group(group)
        for number in range(described.num_columns):
            chunk = described.column(number)
            begin = chunk.dictionary_page_offset or chunk.data_page_offset
            ends.append(min(begin, chunk.data_page_offset) + chunk.total_compressed_size)
    footer = size - 8 - parquet.metadata.serialized_size
    # A file before this one would be in the bytes that the footer does not describe.
    spare = footer - max(ends)
    with Path(file).open("rb") as stream:
        if spare > len(_JOINED) and _JOINED in stream.read(spare + len(_JOINED)):
            raise ContainerError("several Parquet files concatenated into one; write their rows into one table")


def _parquet_lengths(parquet: Any, column: Column) -> Iterator[int | None]:
    """Number of items in each row of a list column; reads another leaf than the bytes if there is one."""
    if not column.nested:
        return
    paths = (parquet.schema.column(number).path for number in range(len(parquet.schema.names)))
    leaves = [path for path in paths if path.startswith(f"{column.name}.")]
    others = [path for path in leaves if len(leaves) > 1 and not path.endswith(".bytes")]
    for batch in parquet.iter_batches(1000 if others else _BATCH, columns=others[:1] or [column.name]):
        yield from (None if value is None else len(value) for value in batch.column(0).to_pylist())


def _cell(container: Path, kind: MediaKind, row: int) -> Any:
    parquet, column = _parquet(*version_of(container), kind)
    first = 0
    for group in range(parquet.metadata.num_row_groups):
        rows = parquet.metadata.row_group(group).num_rows
        if column is not None and first <= row < first + rows:
            return _row_group(*version_of(container), kind, group, column.name)[row - first].as_py()
        first += rows
    raise IndexError(row)


_READING = Lock()


@lru_cache(maxsize=1)
def _row_group(file: str, size: int, changed: int, kind: MediaKind, group: int, column: str) -> Any:
    parquet, _ = _parquet(file, size, changed, kind)
    with _READING:  # one reader for several threads
        return parquet.read_row_group(group, columns=[column]).column(0)


@lru_cache(maxsize=4)
def _saved(folder: str, kind: MediaKind) -> tuple[Any, Column]:
    import datasets

    try:
        rows = datasets.load_from_disk(folder).with_format("arrow")
    except Exception as error:
        raise ContainerError(f"the saved data set cannot be opened: {first_line(error)}") from error

    def batches(names: list[str]) -> Iterator[Any]:
        for start in range(0, rows.num_rows, _BATCH):
            yield rows[start : start + _BATCH].select(names)

    return rows, media_column(rows.features.arrow_schema, kind, batches)


def _saved_lengths(rows: Any, column: Column) -> Iterator[int | None]:
    import pyarrow.compute as pc

    for start in range(0, rows.num_rows if column.nested else 0, 1000):
        yield from pc.list_value_length(rows[start : start + 1000].column(column.name)).to_pylist()


def _saved_cell(folder: str, kind: MediaKind, row: int) -> Any:
    rows, column = _saved(folder, kind)
    if not 0 <= row < rows.num_rows:
        raise IndexError(row)
    return rows[row].column(column.name)[0].as_py()
