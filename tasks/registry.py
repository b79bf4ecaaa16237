"""Tasks by name: finding a task class, making its configuration, telling what it takes.

In: a registered name (entry point group `jigsaw.tasks`), `package.module:Name` or `path/to/file.py:Name`, and
`KEY=VALUE` options as strings or typed values. Out: a `Task` with a checked configuration. What is wrong is said in one
line, with the nearest right word.
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


def _is_task(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, Task) and found is not Task


KIND = plugins.Kind(what="task", error=TaskError, is_one=_is_task, group="jigsaw.tasks", check="jigsaw tasks check")
_loaded: dict[str, type[Task]] = {}
"""Tasks of modules and files by their names, as this process has loaded them."""


def task_names() -> list[str]:
    """The registered names, sorted."""
    return sorted({entry.name for entry in plugins.registered(KIND.group)})


def get_task(name_or_spec: str, /, **config: Any) -> Task:
    """The task of that name with that configuration.

    Args:
        name_or_spec: a registered name, `package.module:Name` or `path/to/file.py:Name`.
        config: fields of the task's `Config`; strings are converted to the field's type, `null` to None.

    Raises:
        TaskError: no such task or key, or a value that the task refuses.

    >>> get_task("image", grid="2x2").config.grid
    '2x2'
    >>> get_task("image", gird="2x2")
    Traceback (most recent call last):
    jigsaw.tasks.contract.TaskError: task image has no key 'gird'; did you mean grid?
    """
    task_class = find_task(name_or_spec)
    return task_class(make_config(task_class, config))


def find_task(name_or_spec: str) -> type[Task]:
    """The class behind a name or spec.

    Raises:
        TaskError: nothing is found there, or it is no `Task` subclass.
    """
    found = plugins.find(name_or_spec, KIND)
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise TaskError(f"{name_or_spec} is no subclass of tasks.Task")
    if ":" in name_or_spec:
        _loaded[found.name] = found
    return found


def task_named(name: str) -> Task:
    """The task of a row's `task` column, with its default configuration: registered, or loaded here by its spec.

    What it says about a puzzle depends on the puzzle alone. Code that only a data set names is not run: a plug-in of a
    module or file is known by its name once `find_task` has loaded it.

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
        TaskError: an unknown key, or a value that cannot be.
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
    """The whole configuration as JSON values, defaults included."""
    values: dict[str, Any] = _adapter(task.Config).dump_python(task.config, mode="json")
    return values


@cache
def _adapter(config: type) -> TypeAdapter[Any]:
    """Pydantic's reader of a configuration: slower to make than a puzzle."""
    return TypeAdapter(config)


def canonical_config(task: Task) -> str:
    """The configuration as one JSON text, the same for equal configurations: what ids are hashed over."""
    values = config_values(task)
    defaults = config_values(type(task)()) if task.LATER_KEYS else {}
    kept = {key: value for key, value in values.items() if key not in task.LATER_KEYS or value != defaults[key]}
    return json.dumps(kept, sort_keys=True, separators=(",", ":"))


def describe_task(name_or_spec: str) -> dict[str, Any]:
    """What a task is and takes, for `jigsaw tasks NAME`.

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
    """A JSON schema's type in a word or two, as a person would write it."""
    if "enum" in field:
        return " | ".join(str(choice) for choice in field["enum"])
    if "anyOf" in field:
        return " | ".join(_type_words(choice) for choice in field["anyOf"])
    return str(field.get("type", "any"))
