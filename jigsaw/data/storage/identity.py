"""Hashes that make a set the same on every machine: puzzle ids, random streams, parts, splits, fingerprints.

In: names, configurations, file contents. Out: hashes that depend on nothing else: the numbers of workers, shards and
parts, the machine and interruptions cannot change a row.
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
"""Largest file in bytes whose whole content is hashed; of larger ones the size and sampled blocks are."""

_BLOCK = 2**20
_NUM_BLOCKS = 16
_HEX_DIGITS = 32


def digest_of(kind: str, *values: object) -> str:
    """A hash of 32 hexadecimal digits of some values; the kind keeps hashes of different uses apart."""
    text = "\x1f".join([kind, *map(str, values)])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:_HEX_DIGITS]


def puzzle_id(task: str, config: str, fingerprint: str, seed: int, index: int) -> str:
    """The id of puzzle number `index` of a source, equal for copies of a file; `config` is canonical JSON."""
    return digest_of("puzzle", task, config, fingerprint, seed, index)


def puzzle_rng(identity: str) -> Random:
    """The random generator that plans the puzzle with that id. Neighbouring seeds and indices give unrelated ones."""
    return Random(int(identity, 16))


def part_of(path: str, parts: int) -> int:
    """The part, 0 to `parts` - 1, of the source with that relative path."""
    return int(digest_of("part", path), 16) % parts


def sample_rank(path: str) -> str:
    """A pseudo-random rank of a source; `limit` takes the sources with the lowest ranks."""
    return digest_of("sample", path)


def split_of(fingerprint: str, heldout: float) -> Split:
    """The split of a source by its content, so that copies are in the same one; `heldout` is the fraction held out."""
    return "heldout" if int(digest_of("split", fingerprint), 16) < heldout * 16**_HEX_DIGITS else "train"


def fingerprint_of(files: Iterable[Path | bytes]) -> str:
    """Hash of the content of a source's files, in order.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for file in files:
        digest.update(_content_digest(file))
    return digest.hexdigest()[:_HEX_DIGITS]


def _content_digest(file: Path | bytes) -> bytes:
    if isinstance(file, bytes):
        return hashlib.sha256(file).digest()
    about = file.stat()
    return _file_digest(file, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=1000)
def _file_digest(file: Path, _size: int, _changed: int) -> bytes:
    """Hash of a file; a file with another size or time of change is read again."""
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
    """Clear the cache of fingerprints, so that files are read again."""
    _file_digest.cache_clear()
