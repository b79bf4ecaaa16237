"""Finding rewards: by registered name, by `package.module:name`, or by `path/to/file.py:name`.

Registered names are entry points of the group `jigsaw.rewards`; the built-in ones are in setup.cfg. A reward is bound
to its arguments (`jigsaw.rewards.binding`) and called once on synthetic completions before it is returned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, get_args

from jigsaw import plugins
from jigsaw.rewards.binding import build
from jigsaw.rewards.errors import RewardError
from jigsaw.rewards.plugin import Form, Kind, Plugin
from jigsaw.rewards.synthetic import synthetic_batch
from jigsaw.rewards.waiting import as_function, drive, run_to_end

KIND = plugins.Kind(
    what="reward", error=RewardError, is_one=callable, group="jigsaw.rewards", check="jigsaw rewards check"
)
Reward = Callable[..., Any]
"""`reward(completions, answer, **columns) -> list[float | None]`, or an async function of that form."""


def get_reward(use: str, /, **args: Any) -> Reward:
    """A reward by name, dotted path or file, bound to its arguments and validated by a dry call.

    Args:
        use: a registered name (`visual_jigsaw`), `package.module:name` or `path/to/file.py:name`.
        args: its options; an unknown one is an error.

    Returns:
        `reward(completions, answer, **columns) -> list[float | None]`, async if the plug-in is. It passes the columns
        that the plug-in names, and validates the result.

    Raises:
        RewardError: it is not found, is a metric, or breaks the contract. Names the file and line.

    >>> reward = get_reward("visual_jigsaw", format_weight=0.5)
    >>> reward(["<think>a</think><answer>2, 1, 3</answer>"], [[2, 1, 3]])
    [1.5]
    """
    return _as_function(load_plugin(use, args, kind="reward"))


def get_metric(use: str, /, **args: Any) -> Reward:
    """A metric by name, dotted path or file: a function marked as a metric, or any reward. Otherwise as `get_reward`.

    >>> get_metric("valid")(["<think>a</think><answer>2, 1, 3</answer>"], [[1, 2, 3]])
    [1.0]
    """
    return _as_function(load_plugin(use, args, kind="metric"))


def load_plugin(use: str, args: Mapping[str, Any] | None = None, *, kind: Kind) -> Plugin:
    """Find a plug-in, bind its arguments and call it once on synthetic completions.

    Args:
        use: as in `get_reward`.
        args: its options.
        kind: `reward` refuses a function that is marked as a metric; `metric` accepts both.

    Raises:
        RewardError: as `get_reward`.
    """
    plugin = build(use, find(use), dict(args or {}))
    if kind == "reward" and plugin.kind == "metric":
        raise RewardError(f"{use} is a metric, which is logged and not optimised; list it under `metrics:`")
    return run_to_end(_dry_called(plugin)) if plugin.is_async else drive(_dry_called(plugin))


def find(use: str) -> object:
    """The object of a name, dotted path or `file.py:name`; raises `RewardError` with the reason if there is none."""
    return plugins.find(use, KIND)


def _as_function(plugin: Plugin) -> Reward:
    function = as_function(plugin.values, plugin.name, is_async=plugin.is_async)
    function.__doc__ = plugin.doc
    return function


async def _dry_called(plugin: Plugin) -> Plugin:
    """The plug-in with the form of completions that it accepts: text if possible, else message lists.

    Raises:
        RewardError: it accepts neither, or its result is not a list of numbers.
    """
    completions, columns = synthetic_batch()
    if any(name not in columns for name in plugin.needs):
        return plugin  # it needs columns of a custom data set, for which there are no synthetic values
    failures: list[str] = []
    forms: tuple[Form, ...] = get_args(Form)
    for form in forms:
        candidate = replace(plugin, form=form)
        try:
            await candidate.values(completions, columns)
        except RewardError as error:
            raise RewardError(candidate.blame(error)) from None
        except Exception as error:
            failures.append(candidate.blame(error))
        else:
            return candidate
    on_lists = "" if failures[0] == failures[1] else f" (and on message lists: {failures[1]})"
    raise RewardError(
        f"{failures[0]}, in a dry call on text completions{on_lists}; correct it, then try `jigsaw rewards check`"
    )
