"""Hashes that make a data set the same everywhere: puzzle ids, random streams, parts, splits, fingerprints.

In: names, configurations, file contents. Out: numbers that depend on nothing else, so that worker counts, shards,
parts, machines and crashes cannot change a row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Literal

Split = Literal["train", "heldout"]

WHOLE_FILE_LIMIT = 64 * 2**20
"""Files up to this many bytes are fingerprinted whole, larger ones by size and sampled blocks."""

_BLOCK = 2**20
_NUM_BLOCKS = 16
_HEX_DIGITS = 32


def digest_of(kind: str, *values: object) -> str:
    """32 hexadecimal digits that depend on the values alone; kinds never share one by chance of their texts."""
    text = "\x1f".join([kind, *map(str, values)])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:_HEX_DIGITS]


def puzzle_id(task: str, config: str, fingerprint: str, seed: int, index: int) -> str:
    """The id of the puzzle with that `index` of a source; copies of a file get the same ids.

    Args:
        task: the task's name.
        config: the task's configuration as canonical JSON.
        fingerprint: of the source.
    """
    return digest_of("puzzle", task, config, fingerprint, seed, index)


def puzzle_rng(identity: str) -> Random:
    """The random stream that plans the puzzle of that id. Neighbouring seeds and indices give unrelated streams."""
    return Random(int(identity, 16))


def part_of(path: str, parts: int) -> int:
    """The part, 0 to `parts` - 1, to which the source of that relative path belongs."""
    return int(digest_of("part", path), 16) % parts


def sample_rank(path: str) -> str:
    """Sorting sources by this rank puts them in an order unrelated to their names; `limit` takes the first of it."""
    return digest_of("sample", path)


def split_of(fingerprint: str, heldout: float) -> Split:
    """The split of a source, by its content: copies of a file never straddle.

    Args:
        heldout: fraction of all contents that is held out.
    """
    return "heldout" if int(digest_of("split", fingerprint), 16) < heldout * 16**_HEX_DIGITS else "train"


def fingerprint_of(files: Iterable[Path | bytes]) -> str:
    """Hash of the content of a source's files, in order.

    Raises:
        OSError: a file cannot be read.
    """
    whole = hashlib.sha256()
    for file in files:
        whole.update(_content_digest(file))
    return whole.hexdigest()[:_HEX_DIGITS]


def _content_digest(file: Path | bytes) -> bytes:
    if isinstance(file, bytes):
        return hashlib.sha256(file).digest()
    about = file.stat()
    return _file_digest(file, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=1000)
def _file_digest(file: Path, _size: int, _changed: int) -> bytes:
    """Hash of a file as it is: of another size or time of change it is read again."""
    with file.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        if size <= WHOLE_FILE_LIMIT:
            return hashlib.file_digest(stream, "sha256").digest()
        sampled = hashlib.sha256(str(size).encode())
        for number in range(_NUM_BLOCKS):
            stream.seek(number * (size - _BLOCK) // (_NUM_BLOCKS - 1))
            sampled.update(stream.read(_BLOCK))
        return sampled.digest()


def forget_fingerprints() -> None:
    """Read every file again when it is next asked for, as a fresh process would."""
    _file_digest.cache_clear()
