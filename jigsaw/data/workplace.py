"""Where a build keeps its unfinished files: one folder per shard inside the data set, for one build at a time.

In: the data set's folder and the shard. Out: the folder, locked. A second build of the same shard waits until the
first is done or dead, and then finds what that one finished.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jigsaw.errors import JigsawError

_FOLDER = ".building"
_LOCK = "lock"
REJECTS = "rejects-"
"""Files that begin so outlive a build that was broken off: its finished parts do not hold their rejects."""


@contextmanager
def workplace(target: Path, shard: tuple[int, int]) -> Iterator[Path]:
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
        os.close(lock)


def _locked(work: Path) -> int:
    """Make the folder and lock it, after waiting for a build that holds it; returns the open lock file.

    The lock ends with its process. Whoever is done removes the folder, lock and all, so one that has waited may hold
    the lock of a folder that is gone, and tries again.
    """
    waited = False
    while True:
        with suppress(FileNotFoundError):  # another build removed the folder between two of these lines
            work.mkdir(parents=True, exist_ok=True)
            lock = os.open(work / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
            try:
                waited = _wait_for(lock, work.parent.parent, tell=not waited) or waited
                if os.path.samestat(os.fstat(lock), (work / _LOCK).stat()):
                    return lock
            except BaseException:
                os.close(lock)
                raise
            os.close(lock)


def _wait_for(lock: int, target: Path, *, tell: bool) -> bool:
    """Lock an open file; returns whether somebody else had to finish first."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if tell:
            sys.stderr.write(f"waiting for the build that is at work in {target}\n")
        fcntl.flock(lock, fcntl.LOCK_EX)
        return True
    except OSError:
        pass  # a disk that knows no locks
    return False
