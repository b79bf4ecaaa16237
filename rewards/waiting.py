"""Running coroutines of rewards: to their end, inside or outside of a running event loop."""

from __future__ import annotations

from collections.abc import Coroutine
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


def run_to_end(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, waited for; also inside a running event loop, where it gets a thread of its own."""
    import asyncio  # slower to import than all of rewards/

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    outcome: list[Any] = []

    def target() -> None:
        try:
            outcome.extend((asyncio.run(coroutine), None))
        except BaseException as error:  # carried over to the caller's thread
            outcome.extend((None, error))

    thread = Thread(target=target, name="async-reward")
    thread.start()
    thread.join()
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]  # type: ignore[no-any-return]


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing: without an event loop, which costs more than most rewards."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    coroutine.close()
    raise RuntimeError("only coroutines that wait for nothing can be driven; others need `run_to_end`")
