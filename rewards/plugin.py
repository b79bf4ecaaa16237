"""A reward function that is called safely: it is passed the columns that it names, and its result is validated.

In: a batch of completions with its columns. Out: a float or None per row. `jigsaw.rewards.binding` makes a `Plugin` out
of a function and its arguments. `@reward` and `@metric` mark a function; an unmarked function counts as a reward.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, Literal, TypeVar

from jigsaw.errors import first_line
from jigsaw.plugins import line_of
from jigsaw.rewards.completions import completion_text
from jigsaw.rewards.errors import RewardError, nearest_column

F = TypeVar("F", bound=Callable[..., Any])
Kind = Literal["reward", "metric"]
Form = Literal["text", "messages"]
REQUIRED = inspect.Parameter.empty
CONTRACT = "reward(completions, answer, **columns) -> list[float | None]"


def reward(function: F) -> F:
    """Mark a function as a reward: a recipe may optimise it, or only log it.

    >>> @reward
    ... def brevity(completions, *, limit=200, **columns):
    ...     return [1 - len(text.split()) / limit for text in completions]
    """
    function.kind = "reward"  # type: ignore[attr-defined]
    return function


def metric(function: F) -> F:
    """Mark a function as a metric: a recipe may log it, but not optimise it.

    >>> @metric
    ... def num_words(completions, **columns):
    ...     return [float(len(text.split())) for text in completions]
    """
    function.kind = "metric"  # type: ignore[attr-defined]
    return function


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """A reward or metric, bound to its arguments.

    Attributes:
        use: the name that a recipe gives for it.
        kind: `reward`, or `metric` if it may only be logged.
        function: the reward with its arguments bound, or a factory that was not called.
        doc: the docstring.
        needs: columns that it requires.
        reads: columns that it names; it is passed those that the rows have.
        takes_all: whether it is passed all other columns too (`**columns`).
        options: what `args` may set, with the defaults (`REQUIRED` where there is none).
        bound: parameters that no column may fill: the options of the reward.
        origin: where it is defined, `file.py:12`.
        file: the full path of that file, or an empty string.
        form: how it takes completions; None: unchanged, because it has not been called yet or needs custom columns.
    """

    use: str
    kind: Kind
    function: Callable[..., Any]
    doc: str
    needs: tuple[str, ...]
    reads: tuple[str, ...]
    takes_all: bool
    options: Mapping[str, Any]
    bound: tuple[str, ...]
    origin: str
    file: str
    form: Form | None = None

    @property
    def name(self) -> str:
        """A short name for logs."""
        return self.use.rpartition(":")[2].rpartition(".")[2]

    @property
    def is_async(self) -> bool:
        """Whether calling it returns an awaitable."""
        inner = self.function.func if isinstance(self.function, partial) else self.function
        return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(getattr(inner, "__call__", None))  # noqa: B004

    async def values(self, completions: Sequence[Any], columns: Mapping[str, Any]) -> list[float | None]:
        """Call it on a batch and validate the result.

        Raises:
            RewardError: a column is missing, or the result is not a list of one finite number or None per completion.
            Exception: whatever the plug-in raises.
        """
        self.check_columns(columns)
        named = columns if self.takes_all else self.reads
        # A column that happens to be called like an option must not change the option.
        passed = {key: columns[key] for key in named if key in columns and key not in self.bound}
        result = self.function(completions=self._in_form(completions), **passed)
        if self.is_async:
            result = await result
        elif inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()  # otherwise Python warns that it was never awaited
            raise RewardError(f"{self.use} ({self.origin}) is not async but returned an awaitable; use `async def`")
        return self._checked(result, len(completions))

    def check_columns(self, columns: Mapping[str, Any]) -> None:
        """Refuse rows without a column that the plug-in requires.

        Raises:
            RewardError: names the column, and the nearest one that the rows have.
        """
        for name in self.needs:
            if name not in columns:
                nearest = nearest_column(name, columns)
                raise RewardError(
                    f"{self.use} ({self.origin}) needs the column {name}, which the rows do not have; {nearest}"
                )

    def _in_form(self, completions: Sequence[Any]) -> list[Any]:
        if self.form == "text":
            return [completion_text(each) for each in completions]
        if self.form == "messages":
            return [[{"role": "assistant", "content": each}] if isinstance(each, str) else each for each in completions]
        return list(completions)

    def _checked(self, result: Any, count: int) -> list[float | None]:
        """The result as floats and Nones.

        Raises:
            RewardError: it is not `count` finite numbers or Nones; names the wrong row.
        """
        where = f"{self.use} ({self.origin}) returned"
        if isinstance(result, str | bytes | Mapping) or not hasattr(result, "__len__"):
            raise RewardError(f"{where} {type(result).__name__} instead of a list; the contract is {CONTRACT}")
        if len(result) != count:
            raise RewardError(f"{where} {len(result)} values for {count} completions; return one for each")
        for row, value in enumerate(result):
            if value is not None and not isinstance(value, Real):
                raise RewardError(f"{where} {type(value).__name__} at position {row}; return a float or None")
            if value is not None and not math.isfinite(value):
                raise RewardError(f"{where} {value} at position {row}; return a finite number, or None for no value")
        return [None if value is None else float(value) for value in result]

    def blame(self, error: Exception) -> str:
        """One line with the plug-in, the line in its file and the error."""
        where = line_of(error, self.file) or self.origin
        if not isinstance(error, RewardError):
            return f"{self.use} ({where}) raised {type(error).__name__}: {first_line(error)}"
        if f"{self.use} (" in str(error):
            return str(error)
        # The message is for the user: a line in a built-in file does not help.
        return (
            f"{self.use}: {error}"
            if Path(self.file).parent == Path(__file__).parent
            else f"{self.use} ({where}): {error}"
        )
