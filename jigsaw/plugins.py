"""Finds plug-ins: third-party tasks, rewards and functions, by entry point, in a module or in a file.

In: the spec in a recipe or command: an entry point, `package.module:name` or `path/to/file.py:name`. Out: the object. A
file is run once, and again after it was edited.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from jigsaw.errors import did_you_mean, first_line

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of plug-in.

    Attributes:
        what: name of the kind in messages.
        error: the exception to raise.
        is_one: whether an object of a module is of this kind, for "did you mean".
        group: the entry point group; empty if none can be registered.
        check: a command that checks one, for messages; may be empty.
    """

    what: str
    error: type[Exception]
    is_one: Callable[[object], bool]
    group: str = ""
    check: str = ""


def load(file: str | Path) -> ModuleType:
    """The module in a Python file, under a unique module name, so that files of the same name do not collide.

    Raises:
        FileNotFoundError: there is no such file.
        Exception: whatever the module raises when it is run.
    """
    from hashlib import sha256  # loads OpenSSL, which nothing else here needs

    path = Path(file).expanduser().resolve(strict=True)
    name = f"jigsaw_plugin_{path.stem}_{sha256(str(path).encode()).hexdigest()[:12]}"
    content = sha256(path.read_bytes()).hexdigest()
    loaded = sys.modules.get(name)
    if loaded is not None and vars(loaded)["__content__"] == content:
        return loaded
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    vars(module)["__content__"] = content
    sys.modules[name] = module  # dataclasses and pickle look up their module by name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def find(use: str, kind: Kind) -> object:
    """The object that an entry point, `package.module:name` or `file.py:name` names.

    Raises:
        Exception: `kind.error`: there is no such object, its import failed, or two distributions register the name.
    """
    place, colon, name = use.rpartition(":")
    if not colon:
        return _registered(use, kind)
    file = Path(place).expanduser()
    if not place.endswith(".py"):
        if not all(part.isidentifier() for part in place.split(".")):
            raise kind.error(f"{use!r} is not a dotted path; write package.module:name")
        plugin = module = _imported(use, kind, lambda: importlib.import_module(place))
    elif file.is_file():
        plugin = module = _imported(use, kind, lambda: load(file), file)
    else:
        raise kind.error(f"there is no file {place}; give an absolute path, or one relative to {Path.cwd()}")
    try:
        for part in name.split("."):
            plugin = getattr(plugin, part)
    except AttributeError:
        own = [key for key, value in vars(module).items() if kind.is_one(value) and not key.startswith("_")]
        nearest = did_you_mean(name, own, "" if own else f"it has no {kind.what}")
        raise kind.error(f"{place} has no {name!r}; {nearest}") from None
    return plugin


def _registered(use: str, kind: Kind) -> object:
    if use.endswith(".py"):
        raise kind.error(f"{use} is a file; name the {kind.what} in it: {use}:NAME")
    if not kind.group:
        raise kind.error(f"{use!r} is not of the form package.module:name or path/to/file.py:name")
    points = registered(kind.group)
    matching = [point for point in points if point.name == use]
    if not matching:
        nearest = did_you_mean(use, {point.name for point in points})
        own = "one of your own: package.module:name or file.py:name"
        raise kind.error(f"no {kind.what} is called {use!r}; {nearest} ({own})")
    owners = {(owner(point), point.value) for point in matching} if len(matching) > 1 else set()
    if len(owners) > 1:
        names = " and ".join(sorted(f"{owner} ({value})" for owner, value in owners))
        raise kind.error(f"{use!r} is registered by {names}; use the dotted path of the one that you mean")
    return _imported(use, kind, matching[0].load)


def _imported(use: str, kind: Kind, load: Callable[[], object], file: Path | None = None) -> object:
    """The result of `load`; any error in it, even a `sys.exit` at import, is reported in one line."""
    try:
        return load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        where = line_of(error, str(file.resolve()) if file else "") or use
        remedy = f"; correct it, then try `{kind.check}`" if kind.check else ""
        if isinstance(error, ModuleNotFoundError):
            remedy = f"; {_how_to_import(error.name or '', file)}"
        what = f"{type(error).__name__}: {first_line(error)}"
        raise kind.error(f"{kind.what} {use}: importing failed at {where} with {what}{remedy}") from error


def _how_to_import(module: str, file: Path | None) -> str:
    """What to do about a missing module; a file's folder is not on the import path."""
    top = module.partition(".")[0]
    if file is not None and top:
        folder = file.resolve().parent
        if (folder / f"{top}.py").is_file() or (folder / top).is_dir():
            return f"{top} is in the same folder, which is not on the import path; set PYTHONPATH={folder}"
    return "install the package, or give file.py:name" if file is None else "install the package that has it"


def registered(group: str) -> tuple[EntryPoint, ...]:
    """The entry points of a group, of all installed distributions.

    A row's task is looked up for each puzzle, and reading the metadata of all distributions takes 10 ms. So they are
    only read again if `sys.path` or one of its folders has changed, as it does when something is installed.
    """
    return _entry_points(group, tuple((folder, _changed(folder)) for folder in sys.path))


@lru_cache(maxsize=8)
def _entry_points(group: str, path: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:
    from importlib.metadata import entry_points  # slower to import than all of rewards/

    return tuple(entry_points(group=group))


def _changed(folder: str) -> int:
    """The time of modification of a folder in nanoseconds; 0 if it does not exist."""
    try:
        return Path(folder).stat().st_mtime_ns
    except OSError:
        return 0


def owner(point: EntryPoint) -> str:
    """The distribution that registered an entry point, with its version."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"


def line_of(error: BaseException, file: str) -> str:
    """The last line of `file` that an exception passed through, `file.py:12`, or an empty string."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{short(error.filename)}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{short(file)}:{lines[-1]}" if lines else ""


def origin_of(found: object) -> tuple[str, str]:
    """The place of a function's source: `file.py:12`, relative to the current directory if possible, and the file."""
    inner: Any = found.func if isinstance(found, partial) else found
    for code in (inner, type(inner)):
        try:
            file = inspect.getsourcefile(code) or ""
            return f"{short(file)}:{inspect.getsourcelines(code)[1]}", file
        except (OSError, TypeError):
            continue
    return getattr(inner, "__module__", None) or "no source", ""


def short(file: str) -> str:
    """A path relative to the current directory, if the file is below it."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
