"""Tables of recipes, tasks and rewards, as `jigsaw recipes`, `jigsaw tasks` and `jigsaw rewards` print them.

In: descriptions from `jigsaw.tasks`, `jigsaw.rewards` and `jigsaw.launch.estimate_text`. Out: `rich` tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from jigsaw.rewards import RewardInfo


def recipes_table(recipes: Sequence[Mapping[str, str]]) -> Table:
    """One line per recipe."""
    table = _table("recipe", "what it trains", "smallest machine", "hours, computed")
    for recipe in recipes:
        table.add_row(recipe["name"], escape(recipe["description"]), recipe["machine"], recipe["hours"])
    return table


def tasks_table(tasks: Sequence[Mapping[str, Any]]) -> Table:
    """One line per task."""
    table = _table("task", "reads", "what it asks")
    for task in tasks:
        table.add_row(task["name"], task["source_kind"], escape(task["doc"]))
    return table


def task_table(task: Mapping[str, Any]) -> Table:
    """One line per configuration key of a task."""
    table = _table("key", "type", "default", "meaning", title=f"{task['name']}: {task['doc']}")
    for key in task["config"]:
        table.add_row(key["key"], escape(key["type"]), escape(written(key["default"])), escape(key["doc"]))
    return table


def rewards_table(rewards: Sequence[RewardInfo]) -> Table:
    """One line per reward or metric; if one cannot be loaded, its line has the reason."""
    table = _table("name", "kind", "source", "what it scores")
    for info in rewards:
        package = info.source.partition(": ")[0]  # `jigsaw rewards NAME` shows the place in it
        table.add_row(info.name, info.kind, escape(package), escape(info.error or info.summary))
    return table


def reward_table(info: RewardInfo) -> Table:
    """One line per property of a reward."""
    table = _table("", "", title=f"{info.name}: {info.summary}")
    table.add_row("kind", info.kind)
    table.add_row("source", escape(info.source))
    options = ", ".join(f"{key}={written(value)}" for key, value in dict(info.options).items())
    table.add_row("options", escape(options or "none"))
    table.add_row("columns", escape(", ".join(info.columns) or "none"))
    return table


def written(value: Any) -> str:
    """A value as it is written in a recipe or in `KEY=VALUE`.

    >>> written(None), written(True), written(0.2), written("3x3")
    ('null', 'true', '0.2', '3x3')
    """
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _table(*columns: str, title: str | None = None) -> Table:
    table = Table(title=None if title is None else escape(title), title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
