"""Lock of a run folder: at most one process writes to it at a time, also on a file system that machines share.

In: a run folder. Out: a lock for the duration of a block, or an error that names the process that holds it.

Two files implement it. `.lock` is locked by `filelock`, which is exact between processes of one machine and ends with
its process. `.lock.json` says which process holds the lock, and its time of modification is renewed every ten seconds.
It decides where the file system does not pass locks on to other machines: a holder on another machine that has not
renewed the file for a minute is considered dead.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

from jigsaw.errors import JigsawError
from jigsaw.files import write_atomically

if TYPE_CHECKING:
    from filelock import FileLock

LOCK = ".lock"
HOLDER = ".lock.json"

RENEWED_EVERY = 10.0
"""Seconds between renewals of the holder's file."""

DEAD_AFTER = 60.0
"""Seconds without a renewal after which a holder on another machine is considered dead."""

SECONDS_TO_END = 15.0
"""How long to wait for children of a killed process, which inherit its lock when they are forked."""


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock.

    Attributes:
        process: process id.
        host: name of its machine.
        machine: boot id of its machine's kernel; the host name on systems without one.
        since: when it took the lock, ISO 8601 with the time zone.
    """

    process: int
    host: str
    machine: str
    since: str

    @classmethod
    def this_process(cls) -> Holder:
        """This process, with the present time."""
        return cls(
            os.getpid(), socket.gethostname(), _machine(), datetime.now().astimezone().isoformat(timespec="seconds")
        )

    def __str__(self) -> str:
        since = datetime.fromisoformat(self.since).astimezone()
        today = since.date() == datetime.now().astimezone().date()
        return f"process {self.process} on {self.host} since {since:{'%H:%M' if today else '%Y-%m-%d %H:%M'}}"

    @property
    def local(self) -> bool:
        """Whether it is a process of this machine."""
        return self.machine == _machine()

    @property
    def gone(self) -> bool:
        """Whether the process has ended. Containers do not see each other's processes."""
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return False


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which must exist, for the duration of the block.

    Raises:
        JigsawError: another process holds the lock; the message names it.
        OSError: the folder cannot be written.
    """
    lock = _acquire(folder)
    ended = Event()
    try:
        write_atomically(folder / HOLDER, json.dumps(asdict(Holder.this_process())) + "\n")
        Thread(target=_renew, args=(folder / HOLDER, ended), daemon=True).start()
        try:
            yield
        finally:
            ended.set()
            (folder / HOLDER).unlink(missing_ok=True)
    finally:
        lock.release()


def read_holder(folder: Path) -> Holder | None:
    """The process that holds the lock of a folder, or held it when it was killed; None if the lock was released."""
    try:
        return Holder(**json.loads((folder / HOLDER).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _acquire(folder: Path) -> FileLock:
    """Lock the folder, once it is certain that no other process uses it.

    In two cases `filelock` cannot decide, and the holder's file is watched for a while: it grants a lock that a process
    of another machine holds, if the file system does not share locks; and it refuses a lock whose process was killed,
    if a child inherited it or a file server waits for a machine that went down.
    """
    from filelock import FileLock, Timeout

    lock, printed = FileLock(folder / LOCK), False
    began, renewed = time.monotonic(), _modified(folder / HOLDER)
    while True:
        with suppress(Timeout):
            if not lock.is_locked:
                lock.acquire(timeout=0)
        holder, waited = read_holder(folder), time.monotonic() - began
        if lock.is_locked and (holder is None or holder.local or max(waited, _silence(folder)) > DEAD_AFTER):
            return lock
        patience = 0.0
        if holder is not None and holder.local and holder.gone:
            patience = SECONDS_TO_END
        elif holder is not None and not holder.local and _modified(folder / HOLDER) == renewed:
            patience = 2 * DEAD_AFTER
        if waited >= patience:
            lock.release()
            raise _in_use(folder, holder)
        if not printed and waited > 1:
            printed = True
            sys.stderr.write(f"{folder} was in use by {holder}; waiting to see whether that process still runs\n")
        time.sleep(min(0.5, RENEWED_EVERY))


def _silence(folder: Path) -> float:
    """Seconds since the holder renewed its file, by the clock of the file system, which the other machine shares."""
    os.utime(folder / LOCK)
    return _modified(folder / LOCK) - _modified(folder / HOLDER)


def _in_use(folder: Path, holder: Holder | None) -> JigsawError:
    by = "another process" if holder is None else str(holder)
    return JigsawError(f"{folder} is in use by {by}. Stop it first, or choose output=FOLDER")


def _renew(file: Path, ended: Event) -> None:
    while not ended.wait(RENEWED_EVERY):
        with suppress(OSError):
            os.utime(file)


def _modified(file: Path) -> float:
    """Time of modification. The file is opened because NFS then asks its server; `stat` may use a cache."""
    try:
        with file.open("rb") as opened:
            return os.fstat(opened.fileno()).st_mtime
    except FileNotFoundError:
        return 0.0


def _machine() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()
