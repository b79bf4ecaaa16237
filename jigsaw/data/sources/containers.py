"""Items inside other files: members of tar files, rows of Parquet files and of saved `datasets`.

In: a container's path. Out: the names of its items in order, and the bytes of one item by name. Each process keeps the
index of the containers it used last, and one row group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from jigsaw.data.sources.paths import is_file, is_hidden, printable
from jigsaw.data.sources.recognition import MediaKind, Problem, Skipped, recognise
from jigsaw.data.sources.tables import table_cell, table_items
from jigsaw.data.sources.tars import ContainerError, files_in_tar
from jigsaw.tasks.media.formats import HEAD_BYTES

TAR = (".tar",)
COMPRESSED_TAR = (".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".tar.zst")
PARQUET = (".parquet",)
CONTAINERS = (*TAR, *COMPRESSED_TAR, *PARQUET)
SAVED_DATASET = "state.json"
"""The file by which a folder written by `Dataset.save_to_disk` is known."""


def is_saved_dataset(folder: Path) -> bool:
    """Whether a folder was written by `datasets.Dataset.save_to_disk`."""
    return is_file(folder / SAVED_DATASET) and is_file(folder / "dataset_info.json")


def container_items(container: Path, kind: MediaKind, skipped: Skipped) -> Iterator[str | Problem]:
    """Names of the items of a container: members of a tar, or row numbers. Problems have such a name as path.

    Args:
        kind: the items that are wanted.
        skipped: counts what is passed over.

    Raises:
        ContainerError: it is damaged, compressed, or has no column of media.
    """
    name = container.name.lower()
    if name.endswith(COMPRESSED_TAR):
        raise ContainerError("a compressed tar cannot be read at random; unpack it to .tar first")
    if not name.endswith(TAR):
        yield from table_items(container, kind, skipped)
        return
    tar = files_in_tar(container)
    for member in tar.paths():
        if is_hidden(member):
            skipped["hidden"] += 1
        elif (found := recognise(member, kind, partial(tar.read, member, HEAD_BYTES), skipped)) is not None:
            yield found
    for member, detail in tar.index().unusable:
        # A link or a member with holes has no bytes to be looked at: its name decides.
        if recognise(member, kind, bytes, skipped) is not None:
            yield Problem(member, "unreadable", detail)


def read_item(container: Path, name: str, kind: MediaKind) -> bytes:
    """The bytes of an item.

    Raises:
        OSError: the container or the item cannot be read.
    """
    if container.name.lower().endswith(TAR):
        return files_in_tar(container).read(name)
    return table_cell(container, name, kind)


def problems_inside(container: str, found: str | Problem) -> str | Problem:
    """The path of an item, or its problem, with that of the container before it."""
    if isinstance(found, Problem):
        return replace(found, path=f"{container}::{printable(found.path)}")
    if printable(found) != found:
        return Problem(f"{container}::{printable(found)}", "bad_name", "the name is not UTF-8")
    return f"{container}::{found}"
