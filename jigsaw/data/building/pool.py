"""A pool of worker processes: results in order, a time limit for each item, bounded memory.

In: a `Job` and an iterable of items. Out: one result per item, in the order of the items for any number of workers. If
an item takes too long, its worker is killed, the result is a `Refusal` (`timeout`), and a new worker continues. If a
worker dies, its item is tried once more, since the system may have killed it for the memory of others; after a second
death the refusal is `crashed`. The pools of `multiprocessing` have no time limit per item, and theirs and pebble's
import the caller's main module again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from jigsaw.data.building.planning import Job, Refusal
from jigsaw.environment import require_working_directory
from jigsaw.errors import JigsawError

START_LIMIT = 300.0
"""Seconds that a worker may take to import its packages."""

LEAVE_LIMIT = 2.0
"""Seconds that an idle worker may take to exit."""

AHEAD = 4
"""Results per worker that may wait for an earlier one."""


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    deadline: float
    ticket: int | None = None
    ready: bool = False

    def dismiss(self) -> None:
        """Let an idle worker exit by itself, so that coverage tools can save; a busy one is left to `kill`."""
        if self.ready and self.ticket is None:
            self.connection.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.connection.close()


class Pool:
    """`count` workers for one job; a context manager that ends them.

    Args:
        job: what to do with each item.
        count: number of worker processes.
        time_limit: seconds for one item.

    Raises:
        JigsawError: the count is below 1.
    """

    def __init__(self, job: Job, count: int, time_limit: float) -> None:
        if count < 1:
            raise JigsawError(f"workers must be at least 1, not {count}")
        self._job = job
        self._count = count
        self._time_limit = time_limit
        self._workers: list[_Worker] = []
        self._retried: set[int] = set()
        """Items whose worker has died once."""
        self._again: list[int] = []
        """Those of them that wait for another worker."""

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.dismiss()
        for worker in self._workers:
            if worker.connection.closed:
                with suppress(subprocess.TimeoutExpired):
                    worker.process.wait(LEAVE_LIMIT)
            worker.kill()
        self._workers.clear()

    def run(self, items: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Process all items; yields each item and its result (or `Refusal`), in the order of the items.

        Raises:
            JigsawError: workers cannot be started.
        """
        queue = enumerate(items)
        waiting: dict[int, Any] = {}
        finished: dict[int, Any] = {}
        next_out = 0
        exhausted = False
        self._retried.clear()
        self._again.clear()
        while True:
            for worker in self._idle_workers():
                if self._again:
                    ticket = self._again.pop(0)
                    self._hand_over(worker, ticket, waiting[ticket])
                    continue
                if exhausted or len(waiting) >= AHEAD * self._count:
                    break
                ticket, item = next(queue, (-1, None))
                exhausted = ticket < 0
                if not exhausted:
                    waiting[ticket] = item
                    self._hand_over(worker, ticket, item)
            while next_out in finished:
                yield waiting.pop(next_out), finished.pop(next_out)
                next_out += 1
            if exhausted and not waiting:
                return
            room = len(waiting) < AHEAD * self._count and not exhausted
            if (room or self._again) and any(self._idle_workers()):
                continue
            finished |= self._collect()

    def _idle_workers(self) -> list[_Worker]:
        while len(self._workers) < self._count:
            self._workers.append(self._start())
        return [worker for worker in self._workers if worker.ready and worker.ticket is None]

    def _start(self) -> _Worker:
        require_working_directory()
        ours, theirs = Pipe()
        # By default decoders print to standard error and start one thread per core, in each worker.
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENCV_FFMPEG_LOGLEVEL": "-8"}
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "jigsaw.data.building.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        theirs.close()
        ours.send((self._job, [str(Path(entry).resolve()) for entry in sys.path]))
        return _Worker(process, ours, deadline=time.monotonic() + START_LIMIT)

    def _hand_over(self, worker: _Worker, ticket: int, item: Any) -> None:
        worker.ticket = ticket
        worker.deadline = time.monotonic() + self._time_limit
        with suppress(OSError):  # a worker that died while idle: `_collect` sees the end of the pipe
            worker.connection.send(item)

    def _collect(self) -> dict[int, Any]:
        """Wait for results, ended workers or deadlines."""
        now = time.monotonic()
        busy = [worker for worker in self._workers if worker.ticket is not None or not worker.ready]
        patience = min((worker.deadline for worker in busy), default=now) - now
        answered: list[Any] = wait([worker.connection for worker in busy], timeout=max(0.0, patience))
        results: dict[int, Any] = {}
        now = time.monotonic()
        for worker in busy:
            ticket = worker.ticket
            if worker.connection in answered:
                result = self._receive(worker)
            elif now >= worker.deadline:
                result = self._retire(worker, Refusal(None, "timeout", f"no result within {self._time_limit:g} s"))
            else:
                continue
            if ticket is None:
                continue
            died = isinstance(result, Refusal) and result.reason == "crashed"
            if died and ticket not in self._retried:
                self._retried.add(ticket)
                self._again.append(ticket)
            else:
                results[ticket] = result
        return results

    def _receive(self, worker: _Worker) -> Any:
        try:
            kind, content = worker.connection.recv()
        except (EOFError, OSError):
            status = worker.process.wait()
            return self._retire(worker, Refusal(None, "crashed", f"the worker ended with status {status}"))
        if kind == "broken":
            raise JigsawError(f"a worker cannot load task {self._job.build.spec}: {content.strip().splitlines()[-1]}")
        worker.ticket = None
        worker.ready = True
        return content

    def _retire(self, worker: _Worker, refusal: Refusal) -> Refusal:
        worker.kill()
        self._workers.remove(worker)
        if not worker.ready:
            raise JigsawError(
                f"worker processes cannot be started ({refusal.detail}); try `{sys.executable} -c 'import jigsaw'`"
            )
        return refusal
