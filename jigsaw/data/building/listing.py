"""The listing of a build: all its sources in a file, so that memory use does not depend on their number.

In: an iterator of paths and problems. Out: a file of JSON lines (`[path]`, or `[path, reason, detail]` for a problem),
its length and hash, a sample of it, and one file per part.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from jigsaw.data.sources import scan, source_root
from jigsaw.data.sources.recognition import Problem
from jigsaw.data.storage.identity import part_of, sample_rank
from jigsaw.tasks import SourceKind

_BUFFERED_LINES = 20_000

Line = list[str]


@dataclass(frozen=True)
class Listing:
    """A written listing: the file, the number of sources and the hash of their names and sizes."""

    file: Path
    count: int
    digest: str


def source_digest(source: Path, kind: SourceKind, pairs: str = "auto") -> str:
    """Hash of the names and sizes of all sources of a folder, list, tar or table; it changes when they do.

    Args:
        pairs: for RGB-D, how depth maps are found.

    Raises:
        JigsawError: the source cannot be read.
    """
    root = str(source_root(source))
    names = hashlib.sha256()
    for entry in scan(source, kind, pairs):
        names.update(_digested(root, entry if isinstance(entry, str) else entry.path))
    return names.hexdigest()[:32]


def write_listing(entries: Iterable[str | Problem], root: Path, file: Path) -> Listing:
    """Write a listing of relative paths and problems to a file; `root` is the folder of the sources."""
    names = hashlib.sha256()
    count = 0
    with file.open("w", encoding="utf-8") as lines:
        for entry in entries:
            line = [entry] if isinstance(entry, str) else [entry.path, entry.reason, entry.detail]
            names.update(_digested(str(root), line[0]))
            lines.write(json.dumps(line) + "\n")
            count += 1
    return Listing(file, count, names.hexdigest()[:32])


def _digested(root: str, path: str) -> bytes:
    """Name and sizes of a source: of the file, or of the container or pair that `::` joins; -1 if it is missing."""
    sizes = []
    for file in (path, *path.split("::")[:2]) if "::" in path else (path,):
        with suppress(OSError, ValueError):
            sizes.append(os.stat(f"{root}/{file}").st_size)  # noqa: PTH116 - millions of paths: no `Path` objects
    return f"{json.dumps(path)} {' '.join(map(str, sizes or [-1]))}\n".encode()


def read_lines(file: Path) -> Iterator[Line]:
    """The lines of a listing or of a part of it; none if the file does not exist."""
    if file.exists():
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)


def sample(listing: Listing, limit: int, selected: Callable[[str], bool] | None) -> Listing:
    """A sample of `limit` sources, in the order of the listing and the same on every machine.

    Args:
        selected: if it is not None, only sources for which it is true are sampled. It may read the source.
    """
    paths = (line[0] for line in read_lines(listing.file))
    if selected is None:
        names = set(heapq.nsmallest(limit, paths, key=sample_rank))
    else:
        names = set(islice(filter(selected, sorted(paths, key=sample_rank)), limit))
    lines = [json.dumps(line) + "\n" for line in read_lines(listing.file) if line[0] in names]
    file = listing.file.with_suffix(".sample")
    file.write_text("".join(lines), encoding="utf-8")
    return Listing(file, listing.count, listing.digest)


def assign_parts(listing: Listing, parts: int, wanted: Iterable[int], folder: Path) -> dict[int, Path]:
    """Write the lines of each wanted part to a file; returns the files, which do not exist for parts without lines."""
    files = {part: folder / f"part-{part:05d}" for part in wanted}
    for file in files.values():
        file.unlink(missing_ok=True)
    held: dict[int, list[str]] = {}
    for number, line in enumerate(read_lines(listing.file)):
        part = part_of(line[0], parts)
        if part in files:
            held.setdefault(part, []).append(json.dumps(line) + "\n")
        if number % _BUFFERED_LINES == 0:
            _flush(held, files)
    _flush(held, files)
    return files


def _flush(held: dict[int, list[str]], files: dict[int, Path]) -> None:
    for part, lines in held.items():
        with files[part].open("a", encoding="utf-8") as out:
            out.writelines(lines)
    held.clear()
