"""A time limit for calls that nothing can interrupt, such as a decoder that hangs on a damaged file.

In: a function. Out: what it returns or raises, or a `TimeoutError`. The function runs in a thread that is kept for the
next call, since starting one costs more than rendering a small puzzle; a call that does not come back keeps its thread,
which ends with the process. A process per call, as when building, would have to pass every pixel on.

Idle threads are ended before the interpreter is: one that woke while it is taken down would be killed by force, in a
process with C++ libraries now and then with all of it ("terminate called without an active exception").
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
    """A thread that carries out one call after another, until nobody holds this object."""

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
        """Have the thread end, and see to it that it has, unless it hangs in a call."""
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
    """What `make` returns or raises.

    Raises:
        TimeoutError: there is no result within that time.
    """
    helper, _own.helper = getattr(_own, "helper", None), None
    if helper is None or helper.process != os.getpid():  # a fork takes no threads along
        helper = _Helper()
    try:
        result = helper.call(make, seconds)
    except Empty:
        raise TimeoutError(f"no result within {seconds:g} s; `jigsaw check` finds all such rows") from None
    except Exception:
        _own.helper = helper
        raise
    _own.helper = helper  # not after an interruption: a result that comes late would be taken for the next call's
    return result
