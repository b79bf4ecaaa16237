"""Lock of a build directory: one folder per shard for unfinished files inside the data set, for one build at a time.

In: the data set's folder and the shard. Out: the folder, locked. A second build of the same shard waits until the
first is done or dead, and then finds what that one finished.
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
"""Files that begin so outlive a build that was broken off: its finished parts do not hold their rejects."""


@contextmanager
def build_directory(target: Path, shard: tuple[int, int]) -> Iterator[Path]:
    """A folder for one shard's intermediate files. It stays only while it holds the rejects of an unfinished build.

    Raises:
        JigsawError: the data set's folder cannot be written.
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
    """Make the folder and lock it, after waiting for a build that holds it.

    The lock ends with its process. Whoever is done removes the folder, lock and all, so that one who has waited makes
    it again; `filelock` does not accept the lock of a file that is gone.
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
                sys.stderr.write(f"waiting for the build that is at work in {work.parent.parent}\n")
                continue
            except NotImplementedError:
                pass  # a file system without locks
            return lock
