"""Descriptions of rewards and metrics for `jigsaw rewards`, which lists, shows and checks them.

In: a name, dotted path or file. Out: a `RewardInfo`. Only `check_reward` calls a reward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from jigsaw import plugins
from jigsaw.errors import first_line
from jigsaw.rewards.binding import build
from jigsaw.rewards.errors import RewardError
from jigsaw.rewards.plugin import REQUIRED
from jigsaw.rewards.registry import KIND, find, load_plugin


@dataclass(frozen=True)
class RewardInfo:
    """A description of one reward or metric.

    Attributes:
        name: what a recipe writes after `use:`.
        kind: `reward`, or `metric` if it can only be logged; empty if it does not load.
        source: the distribution and the object, or the file and line.
        summary: the first line of its docstring.
        doc: the docstring.
        options: what `args` may set, as text: name -> default (`required` where there is none).
        columns: the columns that it requires.
        error: the reason why it does not load, or None.
    """

    name: str
    kind: Literal["reward", "metric", ""]
    source: str
    summary: str = ""
    doc: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    columns: Sequence[str] = ()
    error: str | None = None


def list_rewards() -> list[RewardInfo]:
    """All registered rewards and metrics by name, without calling them; `error` is set where one does not load."""
    points = {(point.name, point.value, plugins.owner(point)) for point in plugins.registered(KIND.group)}
    return [_info(name, f"{owner}: {value}") for name, value, owner in sorted(points)]


def describe_reward(use: str) -> RewardInfo:
    """One reward or metric by name, dotted path or file, without calling it; `error` is set if it does not load."""
    return _info(use, None)


def check_reward(use: str, args: Mapping[str, Any] | None = None) -> RewardInfo:
    """Load a reward or metric as a recipe would: signature, arguments, and a dry call on synthetic completions.

    Returns:
        Its description. If puzzles lack a column of `columns`, the dry call was left out.

    Raises:
        RewardError: it is not found, or breaks the contract.
    """
    load_plugin(use, args, kind="metric")
    return describe_reward(use)


def _info(use: str, source: str | None) -> RewardInfo:
    try:
        plugin = build(use, find(use), None)
    except RewardError as error:
        return RewardInfo(use, "", source or use, error=first_line(error))
    options = {key: "required" if value is REQUIRED else repr(value) for key, value in plugin.options.items()}
    summary = plugin.doc.partition("\n")[0]
    return RewardInfo(use, plugin.kind, source or plugin.origin, summary, plugin.doc, options, plugin.needs)
