"""A time limit for calls that cannot be interrupted, such as a decoder that hangs on a damaged file.

In: a function. Out: its result or error, or a `TimeoutError`. The function runs in a thread that is reused by the next
call, since starting one takes longer than rendering a small puzzle. The thread of a call that does not return ends with
the process. A process, as in a build, would have to send all pixels back.

Idle threads are ended before the interpreter shuts down. A thread that wakes up during the shutdown is killed, which
sometimes aborts a process with C++ libraries ("terminate called without an active exception").
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread, local
from typing import Any, TypeVar
from weakref import WeakSet

T = TypeVar("T")


_helpers: WeakSet[_Helper] = WeakSet()


class _Helper:
    """A thread that runs one call after the other, until this object is deleted."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self._calls: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._results: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self._thread = Thread(target=_carry_out, args=(self._calls, self._results), daemon=True)
        self._thread.start()
        _helpers.add(self)

    def __del__(self) -> None:
        self._calls.put(None)

    def end(self) -> None:
        """End the thread and wait for it, unless it hangs in a call."""
        self._calls.put(None)
        self._thread.join(1.0)

    def call(self, make: Callable[[], T], seconds: float) -> T:
        self._calls.put(make)
        result, error = self._results.get(timeout=seconds)
        if error is not None:
            raise error
        made: T = result
        return made


def _carry_out(calls: SimpleQueue[Any], results: SimpleQueue[Any]) -> None:
    while (make := calls.get()) is not None:
        try:
            results.put((make(), None))
        except BaseException as error:
            results.put((None, error))


@atexit.register
def _end_all() -> None:
    for helper in list(_helpers):
        helper.end()


_own = local()


def within(seconds: float, make: Callable[[], T]) -> T:
    """The result of `make`, or the error that it raises.

    Raises:
        TimeoutError: there is no result within that time.
    """
    helper, _own.helper = getattr(_own, "helper", None), None
    if helper is None or helper.process != os.getpid():  # a forked process does not have the threads of its parent
        helper = _Helper()
    try:
        result = helper.call(make, seconds)
    except Empty:
        raise TimeoutError(f"no result within {seconds:g} s; `jigsaw check` lists all such rows") from None
    except Exception:
        _own.helper = helper
        raise
    _own.helper = helper  # not after an interruption, whose late result would be that of the next call
    return result
