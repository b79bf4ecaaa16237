"""Runs the coroutines of async rewards to completion, and makes the functions that trainers call."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


def run_to_end(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine; inside a running event loop it runs in a separate thread."""
    import asyncio  # slower to import than all of rewards/

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    outcome: list[Any] = []

    def target() -> None:
        try:
            outcome.extend((asyncio.run(coroutine), None))
        except BaseException as error:  # raised again in the caller's thread
            outcome.extend((None, error))

    thread = Thread(target=target, name="async-reward")
    thread.start()
    thread.join()
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]  # type: ignore[no-any-return]


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never awaits, without an event loop, which is slower than most rewards."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    coroutine.close()
    raise RuntimeError("drive() takes only coroutines that never await; use `run_to_end` for others")


def as_function(
    values: Callable[[Sequence[Any], Mapping[str, Any]], Coroutine[Any, Any, T]], name: str, *, is_async: bool
) -> Callable[..., Any]:
    """The plain or async function, `reward(completions, answer, **columns)`, that a trainer calls.

    Args:
        values: scores a batch of completions with its columns; awaits nothing unless `is_async`.
        name: its `__name__`, under which trainers log it.
        is_async: whether the function is a coroutine function.
    """

    async def async_reward(completions: Sequence[Any], answer: Any = None, **columns: Any) -> T:
        return await values(completions, columns if answer is None else {"answer": answer, **columns})

    def reward(completions: Sequence[Any], answer: Any = None, **columns: Any) -> T:
        return drive(async_reward(completions, answer, **columns))

    function: Callable[..., Any] = async_reward if is_async else reward
    function.__name__ = function.__qualname__ = name
    return function
