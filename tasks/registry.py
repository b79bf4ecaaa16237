"""Lookup of tasks by name, with their configuration and description.

In: a registered name (entry point group `jigsaw.tasks`), `package.module:Name` or `path/to/file.py:Name`, and
`KEY=VALUE` options as strings or typed values. Out: a `Task` with a validated configuration. An error is one line with
the nearest correct name.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from jigsaw import plugins
from jigsaw.docstrings import docstring_of
from jigsaw.errors import did_you_mean
from jigsaw.tasks.contract import Task, TaskError


def _is_task(candidate: object) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, Task) and candidate is not Task


KIND = plugins.Kind(what="task", error=TaskError, is_one=_is_task, group="jigsaw.tasks", check="jigsaw tasks check")
_loaded: dict[str, type[Task]] = {}
"""Tasks of modules and files that this process has loaded, by their names."""


def task_names() -> list[str]:
    """The registered names, sorted."""
    return sorted({entry.name for entry in plugins.registered(KIND.group)})


def get_task(name_or_spec: str, /, **config: Any) -> Task:
    """The task of that name with that configuration.

    Args:
        name_or_spec: a registered name, `package.module:Name` or `path/to/file.py:Name`.
        config: fields of the task's `Config`; strings are converted to the field's type, `null` to None.

    Raises:
        TaskError: there is no such task or key, or the task refuses a value.

    >>> get_task("image", grid="2x2").config.grid
    '2x2'
    >>> get_task("image", gird="2x2")
    Traceback (most recent call last):
    jigsaw.tasks.contract.TaskError: task image has no key 'gird'; did you mean grid?
    """
    task_class = find_task(name_or_spec)
    return task_class(make_config(task_class, config))


def find_task(name_or_spec: str) -> type[Task]:
    """The task class of a name or spec.

    Raises:
        TaskError: there is none, or it is not a subclass of `Task`.
    """
    task_class = plugins.find(name_or_spec, KIND)
    if not (isinstance(task_class, type) and issubclass(task_class, Task)):
        raise TaskError(f"{name_or_spec} is not a subclass of jigsaw.tasks.Task")
    if ":" in name_or_spec:
        _loaded[task_class.name] = task_class
    return task_class


def task_named(name: str) -> Task:
    """The task of a row's `task` column, with its default configuration: a registered one, or one that was loaded.

    The default configuration suffices, because rendering depends only on the puzzle. A data set cannot cause code to
    run: a plug-in of a module or file is available by its name only after `find_task` has loaded it.

    Raises:
        TaskError: there is no task of that name.
    """
    return _default_task(_loaded.get(name) or find_task(name))


@cache
def _default_task(task_class: type[Task]) -> Task:
    return task_class()


def absolute_spec(name_or_spec: str) -> str:
    """The same spec, valid in any working directory: a file's path becomes absolute.

    >>> absolute_spec("image")
    'image'
    """
    place, colon, attribute = name_or_spec.rpartition(":")
    return f"{Path(place).expanduser().resolve()}{colon}{attribute}" if place.endswith(".py") else name_or_spec


def make_config(task_class: type[Task], values: Mapping[str, Any]) -> Any:
    """A task's configuration from options.

    Raises:
        TaskError: a key is unknown, or a value is not valid.
    """
    name = task_class.name
    hints = get_type_hints(task_class.Config)
    keys = [field.name for field in dataclasses.fields(task_class.Config)]
    for key in values:
        if key not in keys:
            nearest = did_you_mean(key, keys, f"its keys: {', '.join(keys)}")
            raise TaskError(f"task {name} has no key {key!r}; {nearest}")
    typed = {
        key: None if value == "null" and type(None) in get_args(hints[key]) else value for key, value in values.items()
    }
    try:
        return _adapter(task_class.Config).validate_python(typed)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        written = repr(values.get(key))
        where = f"{key}={written if len(written) <= 60 else written[:57] + '...'}: " if key else ""
        raise TaskError(f"task {name}: {where}{message}") from error


def config_values(task: Task) -> dict[str, Any]:
    """The configuration as JSON values, including defaults."""
    values: dict[str, Any] = _adapter(task.Config).dump_python(task.config, mode="json")
    return values


@cache
def _adapter(config: type) -> TypeAdapter[Any]:
    """Pydantic's adapter of a configuration class; cached, because creating one takes longer than planning a puzzle."""
    return TypeAdapter(config)


def canonical_config(task: Task) -> str:
    """The configuration as JSON text, equal for equal configurations; ids are hashed over it."""
    values = config_values(task)
    defaults = config_values(type(task)()) if task.LATER_KEYS else {}
    kept = {key: value for key, value in values.items() if key not in task.LATER_KEYS or value != defaults[key]}
    return json.dumps(kept, sort_keys=True, separators=(",", ":"))


def describe_task(name_or_spec: str) -> dict[str, Any]:
    """A description of a task and its options, for `jigsaw tasks NAME`.

    Returns:
        `name`, `doc` (one line), `source_kind`, `reasons`, and `config`: `key`, `type`, `default` and `doc` of each
        key.
    """
    task_class = find_task(name_or_spec)
    schema = _adapter(task_class.Config).json_schema()
    defaults = config_values(task_class())
    config = [
        {"key": key, "type": _type_words(field), "default": defaults[key], "doc": field.get("description", "")}
        for key, field in schema.get("properties", {}).items()
    ]
    return {
        "name": task_class.name,
        "doc": docstring_of(task_class).partition("\n")[0],
        "source_kind": task_class.source_kind,
        "reasons": dict(task_class.REASONS),
        "config": config,
    }


def _type_words(field: Mapping[str, Any]) -> str:
    """The type of a JSON schema in a word or two."""
    if "enum" in field:
        return " | ".join(str(choice) for choice in field["enum"])
    if "anyOf" in field:
        return " | ".join(_type_words(choice) for choice in field["anyOf"])
    return str(field.get("type", "any"))
