"""Items in containers: members of tar files, rows of Parquet files and of saved `datasets`.

In: the path of a container. Out: the names of its items in order, and the bytes of an item by its name. Each process
caches the index of the last containers, and one row group.
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
"""The file by which a folder of `Dataset.save_to_disk` is recognised."""


def is_saved_dataset(folder: Path) -> bool:
    """Whether a folder was written by `datasets.Dataset.save_to_disk`."""
    return is_file(folder / SAVED_DATASET) and is_file(folder / "dataset_info.json")


def container_items(container: Path, kind: MediaKind, skipped: Skipped) -> Iterator[str | Problem]:
    """Names of the items of a container: members of a tar, or row numbers. Problems have such a name as path.

    Raises:
        ContainerError: the container is damaged, compressed, or has no column of media.
    """
    name = container.name.lower()
    if name.endswith(COMPRESSED_TAR):
        raise ContainerError("members of a compressed tar cannot be read one by one; unpack it to .tar")
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
        # A link or a sparse member has no bytes to recognise it by; its name decides.
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
    """The path of an item or of its problem, with the path of the container before it."""
    if isinstance(found, Problem):
        return replace(found, path=f"{container}::{printable(found.path)}")
    if printable(found) != found:
        return Problem(f"{container}::{printable(found)}", "bad_name", "the name is not UTF-8")
    return f"{container}::{found}"
