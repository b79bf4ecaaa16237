"""Items inside other files: members of tar files, rows of Parquet files and of saved `datasets`.

In: a container's path. Out: the names of its items in order, and the bytes of one item by name. Each process keeps the
index of the containers it used last, and one row group.
"""

from __future__ import annotations

import os
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

TAR = (".tar",)
COMPRESSED_TAR = (".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".tar.zst")
PARQUET = (".parquet",)
SAVED_DATASET = "state.json"
"""The file by which a folder written by `Dataset.save_to_disk` is known."""

_OUR_KEY = b"jigsaw"


class ContainerError(OSError):
    """A container cannot be read; the message says why."""


def is_saved_dataset(folder: Path) -> bool:
    """Whether a folder was written by `datasets.Dataset.save_to_disk`."""
    return is_file(folder / SAVED_DATASET) and is_file(folder / "dataset_info.json")


def is_file(path: Path) -> bool:
    """Whether there is a file; False, where `Path.is_file` raises, in a folder that may not be entered."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """The same of a folder."""
    return os.path.isdir(path)  # noqa: PTH112


def item_names(container: Path, suffixes: tuple[str, ...]) -> Iterator[str]:
    """Names of the items of a container: members with these suffixes, or row numbers.

    Raises:
        ContainerError: it is damaged, compressed, or has no column of media.
    """
    name = container.name.lower()
    if name.endswith(COMPRESSED_TAR):
        raise ContainerError("a compressed tar cannot be read at random; unpack it to .tar first")
    if name.endswith(TAR):
        yield from (member for member in _tar_index(*_version(container)) if member.lower().endswith(suffixes))
    elif container.is_dir():
        yield from map(str, range(_saved_column(str(container))[0].num_rows))
    else:
        parquet, column = _parquet(*_version(container))
        if column is not None:
            yield from map(str, range(parquet.metadata.num_rows))


def read_item(container: Path, name: str) -> bytes:
    """The bytes of an item.

    Raises:
        OSError: the container or the item cannot be read.
    """
    if container.name.lower().endswith(TAR):
        return _tar_member(container, name)
    try:
        row = int(name)
        cell = _saved_cell(str(container), row) if container.is_dir() else _parquet_cell(container, row)
    except (ValueError, IndexError) as error:
        raise ContainerError(f"{container.name} has no row {name}") from error
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(data, bytes):
        raise ContainerError(f"row {name} of {container.name} holds no bytes")
    return data


def _version(file: Path) -> tuple[str, int, int]:
    """Path, size and time of change: an index is kept for just this file."""
    about = file.stat()
    return str(file), about.st_size, about.st_mtime_ns


@lru_cache(maxsize=8)
def _tar_index(file: str, _size: int, _changed: int) -> dict[str, tuple[int, int]]:
    """Member name -> offset and length of its bytes."""
    try:
        with tarfile.open(file, "r:") as archive:
            members = (member for member in archive if member.isreg())
            return {member.name.removeprefix("./"): (member.offset_data, member.size) for member in members}
    except (tarfile.TarError, EOFError) as error:
        raise ContainerError(f"the tar is damaged: {error}") from error


@dataclass(frozen=True)
class FilesInTar:
    """The members of a tar as `jigsaw.data.pairs.Files`: path, size and time of change of the tar."""

    file: str
    size: int
    changed: int

    def paths(self) -> list[str]:
        """All members. Raises ContainerError on a damaged tar."""
        return list(_tar_index(self.file, self.size, self.changed))

    def names(self, folder: str) -> list[str]:
        """Names of the members in a folder."""
        return _tar_folders(self)[folder]

    def version(self, folder: str) -> int:
        """Always the same: a changed tar is another one."""
        return 0

    def has(self, path: str) -> bool:
        """Whether there is a member of that path."""
        return path in _tar_index(self.file, self.size, self.changed)


def files_in_tar(container: Path) -> FilesInTar:
    """The members of a tar as it is now. Raises OSError if it cannot be read."""
    return FilesInTar(*_version(container))


@lru_cache(maxsize=8)
def _tar_folders(tar: FilesInTar) -> defaultdict[str, list[str]]:
    """Folder -> names of the members in it."""
    folders: defaultdict[str, list[str]] = defaultdict(list)
    for path in map(PurePosixPath, tar.paths()):
        folders[str(path.parent)].append(path.name)
    return folders


def _tar_member(container: Path, name: str) -> bytes:
    index = _tar_index(*_version(container))
    if name not in index:
        raise ContainerError(f"{container.name} has no member {name}")
    offset, length = index[name]
    with container.open("rb") as stream:
        stream.seek(offset)
        data = stream.read(length)
    if len(data) < length:
        raise ContainerError(f"{container.name} ends inside {name}")
    return data


@lru_cache(maxsize=8)
def _parquet(file: str, _size: int, _changed: int) -> tuple[Any, str | None]:
    """An open Parquet file and its media column; None for the column of a puzzle set of ours."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(file)
    except (OSError, pa.ArrowException) as error:
        raise ContainerError(f"no Parquet file: {error}".splitlines()[0]) from error
    if _OUR_KEY in (parquet.metadata.metadata or {}):
        return parquet, None
    return parquet, _media_column(parquet.schema_arrow)


def _media_column(schema: Any) -> str:
    """The first column that can hold media: a struct with `bytes`, as `datasets` writes it, or plain bytes."""
    import pyarrow as pa

    for field in schema:
        if pa.types.is_struct(field.type) and any(inner.name == "bytes" for inner in field.type):
            return str(field.name)
    for field in schema:
        if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
            return str(field.name)
    raise ContainerError(f"no column holds media (columns: {', '.join(schema.names)})")


def _parquet_cell(container: Path, row: int) -> Any:
    parquet, column = _parquet(*_version(container))
    first = 0
    for group in range(parquet.metadata.num_row_groups):
        rows = parquet.metadata.row_group(group).num_rows
        if first <= row < first + rows:
            return _row_group(*_version(container), group, str(column))[row - first].as_py()
        first += rows
    raise IndexError(row)


@lru_cache(maxsize=1)
def _row_group(file: str, size: int, changed: int, group: int, column: str) -> Any:
    parquet, _ = _parquet(file, size, changed)
    return parquet.read_row_group(group, columns=[column]).column(0)


@lru_cache(maxsize=4)
def _saved_column(folder: str) -> tuple[Any, str]:
    import datasets

    try:
        rows = datasets.load_from_disk(folder)
    except Exception as error:
        raise ContainerError(f"the saved data set cannot be opened: {error}".splitlines()[0]) from error
    return rows.with_format("arrow"), _media_column(rows.features.arrow_schema)


def _saved_cell(folder: str, row: int) -> Any:
    rows, column = _saved_column(folder)
    if not 0 <= row < rows.num_rows:
        raise IndexError(row)
    return rows[row].column(column)[0].as_py()
