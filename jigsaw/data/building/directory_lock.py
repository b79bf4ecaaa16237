"""Lock of a build directory: one folder per shard for unfinished files inside the data set, for one build at a time.

In: the folder of the set and the shard. Out: the folder, locked. A second build of the same shard waits until the
first has ended, and then continues from its parts.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from jigsaw.errors import JigsawError

if TYPE_CHECKING:
    from filelock import BaseFileLock

_FOLDER = ".building"
_LOCK = "lock"
REJECTS = "rejects-"
"""Prefix of the files that an interrupted build leaves: the rejects of its finished parts are only in them."""


@contextmanager
def build_directory(target: Path, shard: tuple[int, int]) -> Iterator[Path]:
    """A folder for the intermediate files of a shard. It is removed, unless it has rejects of an unfinished build.

    Raises:
        JigsawError: the folder of the set cannot be written.
    """
    work = target / _FOLDER / f"{shard[0]}-of-{shard[1]}"
    try:
        lock = _locked(work)
    except OSError as error:
        raise JigsawError(f"{target} cannot be written: {error.strerror}; choose another folder") from error
    try:
        yield work
    finally:
        if not any(work.glob(f"{REJECTS}*")):
            shutil.rmtree(work, ignore_errors=True)
            with suppress(OSError):  # not empty: another shard, or the data set itself
                work.parent.rmdir()
                target.rmdir()
        lock.release()


def _locked(work: Path) -> BaseFileLock:
    """Make the folder and lock it, after another build has released it.

    The lock ends with its process. A build that ends removes the folder with the lock, so that a waiting build makes it
    again: `filelock` does not accept the lock of a removed file.
    """
    from filelock import FileLock, Timeout

    lock, waited = FileLock(work / _LOCK), False
    while True:
        with suppress(FileNotFoundError):  # the other build has removed the folder
            work.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=-1 if waited else 0)
            except Timeout:
                waited = True
                sys.stderr.write(f"waiting for another build of {work.parent.parent}\n")
                continue
            except NotImplementedError:
                pass  # a file system without locks
            return lock
