"""Members of tar files: an index by name, up to the end of the file.

In: the path of a tar. Out: the position of the bytes of each regular member, and the members that cannot be used.
Concatenated archives are read one after the other, which `tarfile` does not do; other data after the end of an archive
is an error. Names are UTF-8 in every locale.
"""

from __future__ import annotations

import os
import posixpath
import tarfile
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO

BLOCK = 512
_STEP = 2**20


class ContainerError(OSError):
    """A container cannot be read."""


@dataclass(frozen=True)
class TarIndex:
    """The members of a tar.

    Attributes:
        members: name -> offset and length of the bytes. Of members with the same name the last counts, as in `tar -x`.
        unusable: name and detail of members that cannot be read: earlier ones of a name, dangling links, sparse ones.
    """

    members: dict[str, tuple[int, int]]
    unusable: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class FilesInTar:
    """The members of a tar as `jigsaw.data.sources.depth_pairs.Files`: path, size and time of change of the tar."""

    file: str
    size: int
    changed: int

    def index(self) -> TarIndex:
        """All members. Raises ContainerError for a damaged tar."""
        return _index(self.file, self.size, self.changed)

    def paths(self) -> list[str]:
        """Names of the members, in order. Raises ContainerError for a damaged tar."""
        return list(self.index().members)

    def names(self, folder: str) -> list[str]:
        """Names of the members in a folder."""
        return _folders(self)[folder]

    def version(self, folder: str) -> int:
        """Always 0: a changed tar is another `FilesInTar`."""
        return 0

    def has(self, path: str) -> bool:
        """Whether there is a member of that path."""
        return path in self.index().members

    def read(self, name: str, length: int | None = None) -> bytes:
        """The bytes of a member, or the first `length` of them. Raises ContainerError if there is none."""
        members = self.index().members
        if name not in members:
            why = next((detail for other, detail in self.index().unusable if other == name), f"no member {name}")
            raise ContainerError(f"{Path(self.file).name}: {why}")
        offset, size = members[name]
        wanted = size if length is None else min(size, length)
        with Path(self.file).open("rb") as stream:
            stream.seek(offset)
            data = stream.read(wanted)
        if len(data) < wanted:
            raise ContainerError(f"{Path(self.file).name} ends inside {name}")
        return data


def files_in_tar(container: Path) -> FilesInTar:
    """The members of a tar. Raises OSError if it cannot be read."""
    about = container.stat()
    return FilesInTar(str(container), about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=8)
def _folders(tar: FilesInTar) -> defaultdict[str, list[str]]:
    """Folder -> names of the members in it."""
    folders: defaultdict[str, list[str]] = defaultdict(list)
    for path in map(PurePosixPath, tar.paths()):
        folders[str(path.parent)].append(path.name)
    return folders


@lru_cache(maxsize=8)
def _index(file: str, size: int, _changed: int) -> TarIndex:
    index = _Indexing()
    with Path(file).open("rb") as stream:
        start = 0
        while True:
            try:
                end = index.add_archive(stream, start)
            except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
                where = f"after byte {start}, where another archive should begin" if start else "at its beginning"
                raise ContainerError(f"the tar is damaged {where}: {error}") from error
            following = _next_block(stream, end, size)
            if following is None:
                return index.finished()
            if following == end:
                raise ContainerError(f"the tar is damaged at byte {end}, after {index.count} members")
            start = following


def _next_block(stream: BinaryIO, at: int, size: int) -> int | None:
    """Offset of the first block from `at` on that has other bytes than zeros; None at the end of the file."""
    stream.seek(at)
    while chunk := stream.read(_STEP):
        if stripped := chunk.lstrip(b"\0"):
            return at + (len(chunk) - len(stripped)) // BLOCK * BLOCK
        at += len(chunk)
    return None if at >= size else at


class _Indexing:
    def __init__(self) -> None:
        self.count = 0
        self._members: dict[str, tuple[int, int]] = {}
        self._unusable: list[tuple[str, str]] = []
        self._links: list[tuple[str, str]] = []

    def add_archive(self, stream: BinaryIO, start: int) -> int:
        """Index the archive that begins at `start`; returns the offset of its end, before the blocks of zeros."""
        stream.seek(start)
        with tarfile.open(fileobj=stream, mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
            while (member := archive.next()) is not None:
                self._add(member)
                archive.members.clear()  # type: ignore[attr-defined]  # tarfile would keep all of them in memory
            return int(archive.offset)

    def _add(self, member: tarfile.TarInfo) -> None:
        name = member.name.removeprefix("./")
        self.count += 1
        if member.issparse():
            self._unusable.append((name, "a sparse member is not read; pack it again without --sparse"))
        elif member.isreg():
            if name in self._members:
                self._unusable.append((name, "another member of this name comes later in the tar; rename one of them"))
            self._members[name] = (member.offset_data, member.size)
        elif member.islnk() or member.issym():
            folder = "" if member.islnk() else posixpath.dirname(name)
            self._links.append((name, posixpath.normpath(posixpath.join(folder, member.linkname))))

    def finished(self) -> TarIndex:
        for name, target in self._links:
            if target in self._members:
                self._members.setdefault(name, self._members[target])
            else:
                self._unusable.append((name, f"a link to {os.path.basename(target)}, which is not in the tar"))  # noqa: PTH119 - of a member
        return TarIndex(self._members, tuple(self._unusable))
