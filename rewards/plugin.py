"""One reward as it was found, made safe to call: what it reads, what can be set, and whether its values can be trusted.

In comes any callable with the name it was found under; out goes a `Plugin`. Two kinds of callables are rewards, told
apart by one rule: *a plain reward has a parameter named `completions`; anything else is a factory*, called once with
the `args` of the recipe, that returns a plain reward. Of a plain reward, keyword-only parameters with a default are
options (the `args` that a recipe may set) and every other named parameter is a column of the rows; `**columns` takes
all of them::

    def brevity(completions, num_pieces, *, limit=200, **columns): ...   # option limit; columns completions, num_pieces
    def judge(*, model="small"): ...; return reward                      # a factory with the option model

Before it is used, a plug-in is called once on a few synthetic completions. That also shows whether it reads text or
message lists, so that from then on it is given what it reads, in training as in scoring.
"""

from __future__ import annotations

import inspect
import math
import traceback
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any, Literal, TypeVar

from jigsaw.rewards.completions import completion_text
from jigsaw.rewards.errors import ALSO_CALLED, RewardError, did_you_mean

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
_REQUIRED = inspect.Parameter.empty
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
CONTRACT = "reward(completions, answer, **columns) -> list[float | None]"


def metric(function: F) -> F:
    """Mark a reward function or factory as a metric: it may be watched, but a recipe may not optimise it.

    >>> @metric
    ... def num_words(completions, **columns):
    ...     return [float(len(text.split())) for text in completions]
    """
    function.watched_only = True  # type: ignore[attr-defined]
    return function


@dataclass(frozen=True)
class Plugin:
    """A reward that was found, bound to its arguments.

    Attributes:
        use: the name under which a recipe asks for it.
        name: a short name for logs.
        kind: `reward`, or `metric` if it may only be watched.
        function: the plain reward, arguments bound.
        needs: columns that it cannot do without.
        reads: columns that it names; it is given those that the rows have.
        takes_all: it is given every other column too (`**columns`).
        options: what `args` may set, with the defaults (`inspect.Parameter.empty` where there is none).
        origin: where it is written, `file.py:12`.
        summary: the first line of its docstring.
        is_async: calling it gives an awaitable.
        form: how it reads completions; None: as they come (it was not called yet, or not without columns of its own).
        bound: parameters that no column may fill: the options of the plain reward.
        file: the whole path of the file that it is written in, or an empty string.
    """

    use: str
    name: str
    kind: Literal["reward", "metric"]
    function: Callable[..., Any]
    needs: tuple[str, ...]
    reads: tuple[str, ...]
    takes_all: bool
    options: Mapping[str, Any]
    origin: str
    summary: str
    is_async: bool
    form: Literal["text", "messages"] | None = None
    bound: tuple[str, ...] = ()
    file: str = ""

    async def values(self, completions: Sequence[Any], columns: Mapping[str, Any]) -> list[float | None]:
        """Call it on a batch and check what it gives back.

        Raises:
            RewardError: a column is missing, or the result is no list of finite numbers or None, one per completion.
            Exception: whatever the plug-in raises.
        """
        self.check_columns(columns)
        named = columns if self.takes_all else self.reads
        # A column that happens to be called like an option must not change the option.
        given = {key: columns[key] for key in named if key in columns and key not in self.bound}
        result = self.function(completions=self._in_form(completions), **given)
        if self.is_async:
            result = await result
        elif inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()  # or Python warns that nobody waited for it
            raise RewardError(f"{self.use} ({self.origin}) is no async function but gave an awaitable; use `async def`")
        return self.checked(result, len(completions))

    def check_columns(self, columns: Mapping[str, Any]) -> None:
        """Refuse rows without a column that the plug-in cannot do without.

        Raises:
            RewardError: naming the column, and the nearest one that the rows have.
        """
        for name in self.needs:
            if name not in columns:
                raise RewardError(
                    f"{self.use} ({self.origin}) needs the column {name}, which the rows do not have; "
                    f"{did_you_mean(ALSO_CALLED.get(name, name), columns)}"
                )

    def _in_form(self, completions: Sequence[Any]) -> list[Any]:
        if self.form == "text":
            return [completion_text(completion) for completion in completions]
        if self.form == "messages":
            return [
                [{"role": "assistant", "content": completion}] if isinstance(completion, str) else completion
                for completion in completions
            ]
        return list(completions)

    def checked(self, result: Any, count: int) -> list[float | None]:
        """The result as floats and Nones.

        Raises:
            RewardError: it is not `count` finite numbers or Nones; says which row is wrong.
        """
        where = f"{self.use} ({self.origin})"
        if isinstance(result, str | bytes | Mapping) or not hasattr(result, "__len__"):
            raise RewardError(f"{where} gave {type(result).__name__} and not a list; the contract is {CONTRACT}")
        if len(result) != count:
            raise RewardError(f"{where} gave {len(result)} values for {count} completions; return one for each")
        values: list[float | None] = []
        for row, value in enumerate(result):
            if value is not None and not isinstance(value, Real):
                raise RewardError(f"{where} gave {type(value).__name__} at position {row}; return a float or None")
            if value is not None and not math.isfinite(value):
                raise RewardError(
                    f"{where} gave {value} at position {row}; return a finite number, or None for no value"
                )
            values.append(None if value is None else float(value))
        return values

    def blame(self, error: Exception) -> str:
        """One line that names the plug-in, the line of its file and what it raised."""
        if isinstance(error, RewardError) and f"{self.use} (" in str(error):
            return str(error)
        where = line_of(error, self.file) or self.origin
        if isinstance(error, RewardError):  # a message for the user; where in our own files it was raised is no help
            ours = Path(self.file).parent == Path(__file__).parent
            return f"{self.use}: {error}" if ours else f"{self.use} ({where}): {error}"
        return f"{self.use} ({where}) raised {type(error).__name__}: {first_line(error)}"


def build(use: str, found: object, args: Mapping[str, Any]) -> Plugin:
    """A plug-in out of what was found under a name: signature read, arguments checked and bound; not called yet.

    Raises:
        RewardError: it is no reward and no factory of one, an argument is unknown or missing, or the factory raised.
    """
    if not callable(found):
        raise RewardError(f"{use} is {type(found).__name__}, not a function; the contract is {CONTRACT}")
    origin, file = origin_of(found)
    signature = _signature(use, found, origin)
    options = _options(signature)
    function: Callable[..., Any] = found
    if "completions" in signature.parameters:
        _check_positional(use, origin, args, signature)
        _check_args(use, origin, args, options)
        function = partial(found, **args) if args else found
    else:
        open_ended = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
        _check_args(use, origin, args, options, open_ended=open_ended)
        function = _made_by(use, found, args, origin, file)
        signature = _signature(use, function, origin)
        if "completions" not in signature.parameters:
            raise RewardError(
                f"{use} ({origin}) has no parameter `completions`, and neither has what it returned; "
                f"the contract is {CONTRACT}, or a factory that returns such a function"
            )
    needs, reads, takes_all = _columns(use, signature, origin)
    watched = getattr(found, "watched_only", False) or getattr(function, "watched_only", False)
    name = use.rpartition(":")[2].rpartition(".")[2]
    return Plugin(
        use=use,
        name=name,
        kind="metric" if watched else "reward",
        function=function,
        needs=needs,
        reads=reads,
        takes_all=takes_all,
        options=options,
        origin=origin,
        summary=(inspect.getdoc(found) or "").partition("\n")[0],
        is_async=_is_async(function),
        bound=tuple(_options(signature)),
        file=file,
    )


def _signature(use: str, function: Callable[..., Any], origin: str) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        raise RewardError(f"{use} ({origin}) has no readable signature; the contract is {CONTRACT}") from None


def _options(signature: inspect.Signature) -> dict[str, Any]:
    """What `args` may set: of a plain reward its keyword-only defaults, of a factory every named parameter."""
    plain = "completions" in signature.parameters
    return {
        name: parameter.default
        for name, parameter in signature.parameters.items()
        if (parameter.kind in _NAMED and not plain)
        or (parameter.kind is parameter.KEYWORD_ONLY and parameter.default is not _REQUIRED)
    }


def _columns(use: str, signature: inspect.Signature, origin: str) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """The columns that a plain reward needs, those that it names, and whether it takes all others too."""
    needs, reads, takes_all = [], [], False
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise RewardError(
                f"{use} ({origin}) takes {name} by position only; columns are passed by name, drop the `/`"
            )
        takes_all = takes_all or parameter.kind is parameter.VAR_KEYWORD
        option = parameter.kind is parameter.KEYWORD_ONLY and parameter.default is not _REQUIRED
        if parameter.kind in _NAMED and not option and name != "completions":
            reads.append(name)
            if parameter.default is _REQUIRED:
                needs.append(name)
    return tuple(needs), tuple(reads), takes_all


def _check_positional(use: str, origin: str, args: Mapping[str, Any], signature: inspect.Signature) -> None:
    """Refuse an argument that the reward takes as a column, because no `*` stands before it."""
    for key in args:
        parameter = signature.parameters.get(key)
        if parameter is not None and parameter.kind is parameter.POSITIONAL_OR_KEYWORD and key != "completions":
            default = "" if parameter.default is _REQUIRED else f"={parameter.default!r}"
            raise RewardError(
                f"{use} ({origin}) reads {key} as a column of the rows; put `*` before {key}{default} "
                "in its parameters to make it an option"
            )


def _check_args(
    use: str, origin: str, args: Mapping[str, Any], options: Mapping[str, Any], *, open_ended: bool = False
) -> None:
    """Refuse arguments that are unknown, missing, or of another kind than their default."""
    for key, value in args.items():
        if key not in options and not open_ended:
            raise RewardError(f"{use} ({origin}) has no argument {key!r}; {did_you_mean(key, options)}")
        default = options.get(key)
        kind = next((kind for kind in (bool, Real, str) if isinstance(default, kind)), None)
        wrong = kind is not None and (not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool))
        if wrong:
            wanted = {bool: "true or false", Real: "a number", str: "text"}[kind]  # type: ignore[index]
            raise RewardError(f"{use}: argument {key} is {value!r}; it must be {wanted}, such as {default!r}")
    for key, default in options.items():
        if default is _REQUIRED and key not in args:
            raise RewardError(
                f"{use} ({origin}) has no parameter `completions`, so it counts as a factory, and one that needs the "
                f"argument {key}; give it under `args`, or keep to the contract {CONTRACT}"
            )


def _made_by(
    use: str, factory: Callable[..., Any], args: Mapping[str, Any], origin: str, file: str
) -> Callable[..., Any]:
    """What a factory returns for these arguments."""
    try:
        made = factory(**args)
    except RewardError as error:
        raise RewardError(f"{use}: {error}") from None
    except Exception as error:
        where = line_of(error, file) or origin
        raise RewardError(f"{use} ({where}) raised {type(error).__name__} when made: {first_line(error)}") from error
    if not callable(made):
        raise RewardError(
            f"{use} ({origin}) has no parameter `completions`, so it counts as a factory, but it returned "
            f"{type(made).__name__} and not a function; the contract is {CONTRACT}"
        )
    return made  # type: ignore[no-any-return]


def _is_async(function: Callable[..., Any]) -> bool:
    inner = function.func if isinstance(function, partial) else function
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(getattr(inner, "__call__", None))  # noqa: B004


def origin_of(found: object) -> tuple[str, str]:
    """Where a function is written: `file.py:12` relative to the current directory if it lies below, and the file."""
    inner: Any = found.func if isinstance(found, partial) else found
    try:
        file = inspect.getsourcefile(inner) or ""
        line = inspect.getsourcelines(inner)[1]
    except (OSError, TypeError):
        try:
            file = inspect.getsourcefile(type(inner)) or ""
            line = inspect.getsourcelines(type(inner))[1]
        except (OSError, TypeError):
            return getattr(inner, "__module__", None) or "no source", ""
    return f"{short(file)}:{line}", file


def short(file: str) -> str:
    """A path relative to the current directory, if it lies below."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def line_of(error: BaseException, file: str) -> str:
    """The last line of `file` that an exception passed through, `file.py:12`, or an empty string."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if isinstance(error, SyntaxError) and error.filename:
        return f"{short(error.filename)}:{error.lineno}"
    return f"{short(file)}:{frames[-1].lineno}" if frames else ""


def first_line(error: BaseException) -> str:
    """The first line of an exception's message."""
    return (str(error).strip() or "no message").splitlines()[0]


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


def synthetic_batch() -> tuple[list[str], dict[str, Any]]:
    """Completions and columns for a dry call: a right order, a wrong one, a broken answer and an empty text."""
    completions = [
        "<think>The sky is on top.</think><answer>2, 3, 1</answer>",
        "<think>The sky is on top.</think><answer>1, 2, 3</answer>",
        "<think>The sky is on top.</think><answer>1, 1, 9</answer>",
        "",
    ]
    return completions, synthetic_columns(completions, [[2, 3, 1]] * len(completions))


def synthetic_columns(
    completions: Sequence[str], answers: Sequence[Sequence[int]], answer_style: str = "think"
) -> dict[str, Any]:
    """Every column that a row of puzzles and a trainer have, made up for these completions and answers."""
    count = len(completions)
    prompt = [{"role": "user", "content": [{"type": "text", "text": "Put the tiles in order."}]}]
    return {
        "answer": list(answers),
        "num_pieces": [len(answer) for answer in answers],
        "answer_style": [answer_style] * count,
        "classes": [None] * count,
        "task": ["image"] * count,
        "id": [f"synthetic-{row}" for row in range(count)],
        "source": [{"path": "photo.jpg", "fingerprint": "0" * 16}] * count,
        "geometry": ['{"grid": [1, 3], "shown": [2, 0, 1]}'] * count,
        "prompts": [prompt] * count,
        "completion_ids": [[1] * len(text.split()) for text in completions],
        "think_prefilled": [False] * count,
        "trainer_state": SimpleNamespace(global_step=0, max_steps=1, epoch=0.0, is_world_process_zero=True),
        "log_extra": lambda column, values: None,
        "log_metric": lambda name, value: None,
    }
