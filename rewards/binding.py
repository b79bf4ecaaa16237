"""Makes a `Plugin` from a callable: reads its signature, and validates and binds its arguments.

A callable with a parameter named `completions` is a reward. Any other callable is a factory: it is called once with the
`args` of the recipe and returns a reward. Keyword-only parameters of a reward that have a default are its options (the
`args` that a recipe may set). Every other named parameter is a column of the rows; `**columns` takes all columns::

    @reward
    def brevity(completions, num_pieces, *, limit=200, **columns): ...   # option limit; columns completions, num_pieces

    def judge(*, model="small"): ...; return reward                      # a factory with the option model
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from numbers import Real
from typing import Any

from jigsaw.docstrings import docstring_of
from jigsaw.errors import did_you_mean, first_line
from jigsaw.plugins import line_of, origin_of
from jigsaw.rewards.errors import RewardError
from jigsaw.rewards.plugin import CONTRACT, REQUIRED, Plugin


def build(use: str, target: object, args: Mapping[str, Any] | None) -> Plugin:
    """A plug-in from a callable, with its arguments validated and bound; the reward is not called.

    Args:
        use: the name under which the callable was looked up.
        target: the callable.
        args: its options; None does not call a factory, only describes it.

    Raises:
        RewardError: it is neither a reward nor a factory, an argument is unknown or missing, or the factory raised.
    """
    if not callable(target):
        raise RewardError(f"{use} is {type(target).__name__}, not a function; the contract is {CONTRACT}")
    origin, file = origin_of(target)
    where = f"{use} ({origin})"
    signature = _signature(where, target)
    plain = "completions" in signature.parameters
    options = _options(signature)
    function: Callable[..., Any] = target
    if args is not None:
        _check_args(use, where, args, signature, options)
        if plain:
            function = partial(target, **args) if args else target
        else:
            function = _call_factory(use, where, target, args, file)
        if not plain:
            signature = _signature(where, function)
            if "completions" not in signature.parameters:
                raise RewardError(
                    f"{where} has no parameter `completions`, and neither has what it returned; "
                    f"the contract is {CONTRACT}, or a factory that returns such a function"
                )
    bound = _options(signature) if "completions" in signature.parameters else {}
    needs, reads = [], []
    for name, parameter in signature.parameters.items() if "completions" in signature.parameters else ():
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise RewardError(f"{where} takes {name} by position only, but columns are passed by name; remove the `/`")
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) and name not in bound:
            reads.append(name)
            needs += [name] * (parameter.default is REQUIRED)
    return Plugin(
        use=use,
        kind=getattr(target, "kind", getattr(function, "kind", "reward")),
        function=function,
        doc=docstring_of(target),
        needs=tuple(name for name in needs if name != "completions"),
        reads=tuple(name for name in reads if name != "completions"),
        takes_all=any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values()),
        options=options,
        bound=tuple(bound),
        origin=origin,
        file=file,
    )


def _signature(where: str, function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        raise RewardError(f"{where} has no readable signature; the contract is {CONTRACT}") from None


def _options(signature: inspect.Signature) -> dict[str, Any]:
    """What `args` may set: the keyword-only parameters of a reward that have a default, all parameters of a factory."""
    plain = "completions" in signature.parameters
    return {
        name: each.default
        for name, each in signature.parameters.items()
        if (each.kind is each.KEYWORD_ONLY and each.default is not REQUIRED)
        or (not plain and each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD))
    }


def _check_args(
    use: str, where: str, args: Mapping[str, Any], signature: inspect.Signature, options: Mapping[str, Any]
) -> None:
    """Refuse arguments that are columns, unknown, missing, or of another type than their default."""
    plain = "completions" in signature.parameters
    open_ended = not plain and any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values())
    for key, value in args.items():
        parameter = signature.parameters.get(key)
        if plain and parameter and parameter.kind is parameter.POSITIONAL_OR_KEYWORD and key != "completions":
            usual = "" if parameter.default is REQUIRED else f"={parameter.default!r}"
            raise RewardError(
                f"{where} reads {key} as a column of the rows; put `*` before {key}{usual} "
                "in its parameters to make it an option"
            )
        if key not in options and not open_ended:
            raise RewardError(f"{where} has no argument {key!r}; {did_you_mean(key, options)}")
        default = options.get(key)
        for kind, wanted in ((bool, "true or false"), (Real, "a number"), (str, "text")):
            if isinstance(default, kind):
                if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
                    raise RewardError(f"{use}: argument {key} is {value!r}; it must be {wanted}, such as {default!r}")
                break
    for key in options:
        if options[key] is REQUIRED and key not in args:
            raise RewardError(
                f"{where} has no parameter `completions`, so it counts as a factory, and it needs the argument {key}; "
                f"set it under `args`, or follow the contract {CONTRACT}"
            )


def _call_factory(
    use: str, where: str, factory: Callable[..., Any], args: Mapping[str, Any], file: str
) -> Callable[..., Any]:
    """The reward that a factory returns for these arguments."""
    try:
        function: object = factory(**args)
    except RewardError as error:
        raise RewardError(f"{use}: {error}") from None
    except Exception as error:
        place = f"{use} ({line})" if (line := line_of(error, file)) else where
        raise RewardError(f"{place} raised {type(error).__name__} when it was called: {first_line(error)}") from error
    if not callable(function):
        raise RewardError(
            f"{where} has no parameter `completions`, so it counts as a factory, but it returned "
            f"{type(function).__name__} instead of a function; the contract is {CONTRACT}"
        )
    return function
