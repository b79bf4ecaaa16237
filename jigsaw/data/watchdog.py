"""A time limit for calls that nothing can interrupt, such as a decoder that hangs on a damaged file.

In: a function. Out: what it returns or raises, or a `TimeoutError`. The function runs in a thread that is kept for the
next call, since starting one costs more than rendering a small puzzle; a call that does not come back keeps its thread,
which ends with the process. A process per call, as when building, would have to pass every pixel on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread, local
from typing import Any, TypeVar

T = TypeVar("T")


class _Helper:
    """A thread that carries out one call after another, until nobody holds this object."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self._calls: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._results: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        Thread(target=_carry_out, args=(self._calls, self._results), daemon=True).start()

    def __del__(self) -> None:
        self._calls.put(None)

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


_own = local()


def within(seconds: float, make: Callable[[], T]) -> T:
    """What `make` returns or raises.

    Raises:
        TimeoutError: there is no result within so many seconds.
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
