"""Tasks by name: finding a task class, making its configuration, telling what it takes.

In: a registered name (entry point group `jigsaw.tasks`), `package.module:Name` or `path/to/file.py:Name`, and
`KEY=VALUE` options as strings or typed values. Out: a `Task` with a checked configuration. What is wrong is said in one
line, with the nearest right word.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib.util
import json
import pkgutil
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from jigsaw.errors import first_line, raised_in
from jigsaw.tasks.contract import Task, TaskError

GROUP = "jigsaw.tasks"
_loaded: dict[str, type[Task]] = {}
"""Tasks of modules and files by their names, as this process has loaded them."""


def task_names() -> list[str]:
    """The registered names, sorted."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


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
    jigsaw.tasks.contract.TaskError: task image has no key 'gird'; did you mean 'grid'?
    """
    task_class = find_task(name_or_spec)
    return task_class(make_config(task_class, config))


def find_task(name_or_spec: str) -> type[Task]:
    """The class behind a name or spec.

    Raises:
        TaskError: nothing is found there, or it is no `Task` subclass.
    """
    if ":" in name_or_spec:
        found = _load_spec(name_or_spec)
    else:
        entries = {entry.name: entry for entry in entry_points(group=GROUP)}
        if name_or_spec not in entries:
            known = ", ".join(sorted(entries)) or "none is installed"
            raise TaskError(f"no task {name_or_spec!r}{_did_you_mean(name_or_spec, entries)} (tasks: {known})")
        try:
            found = entries[name_or_spec].load()
        except Exception as error:
            raise TaskError(f"task {name_or_spec!r} cannot be imported: {type(error).__name__}: {error}") from error
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


def _load_spec(spec: str) -> Any:
    place, _, attribute = spec.rpartition(":")
    try:
        if not place.endswith(".py"):
            return pkgutil.resolve_name(spec)
        return getattr(module_from(Path(place).expanduser()), attribute)
    except FileNotFoundError as error:
        raise TaskError(f"task file {place} does not exist") from error
    except AttributeError as error:
        raise TaskError(f"{place} has no {attribute!r}{_nearest_class(place, attribute)}") from error
    except Exception as error:
        where = raised_in(error, Path(place).expanduser().resolve()) if place.endswith(".py") else ""
        told = f"{where}: " if where else ""
        raise TaskError(f"task {spec} cannot be loaded: {told}{type(error).__name__}: {first_line(error)}") from error


def _nearest_class(place: str, attribute: str) -> str:
    """The end of a message about a class that a file or module does not have: the nearest task in it."""
    try:
        module = module_from(Path(place).expanduser()) if place.endswith(".py") else importlib.import_module(place)
    except Exception:
        return ""
    classes = [name for name, found in vars(module).items() if isinstance(found, type) and issubclass(found, Task)]
    own = [name for name in classes if vars(module)[name] is not Task]
    return _did_you_mean(attribute, own) or (f"; its tasks: {', '.join(own)}" if own else "; it has no task")


def module_from(path: Path) -> Any:
    """The module in a file, loaded once under a name of its own so that two files of one name do not collide.

    Raises:
        FileNotFoundError: there is no such file. What the module raises goes through.
    """
    path = path.resolve(strict=True)
    name = f"jigsaw_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while it is executed
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


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
            guess = _did_you_mean(key, keys)
            raise TaskError(f"task {name} has no key {key!r}{guess or '; its keys: ' + ', '.join(keys)}")
    typed = {
        key: None if value == "null" and type(None) in get_args(hints[key]) else value for key, value in values.items()
    }
    try:
        return _adapter(task_class.Config).validate_python(typed)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        where = f"{key}={values.get(key)!r}: " if key else ""
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
        "doc": (task_class.__doc__ or "").strip().split("\n", 1)[0],
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


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
