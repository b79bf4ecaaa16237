"""Finding rewards: by registered name, by `package.module:name`, or by `path/to/file.py:name`.

Registered names are entry points of the group `jigsaw.rewards`; ours stand in setup.cfg, as a stranger's in his.
Whatever is found is read (`jigsaw.rewards.plugin`), bound to its arguments and called once on synthetic completions
before anyone relies on it. Nothing is kept: a file that was edited is read anew.
"""

from __future__ import annotations

import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jigsaw.rewards.errors import RewardError, did_you_mean
from jigsaw.rewards.plugin import Plugin, build, drive, first_line, line_of, origin_of, run_to_end, synthetic_batch

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "jigsaw.rewards"
Reward = Callable[..., Any]
"""`reward(completions, answer, **columns) -> list[float | None]`, or an async function of that form."""


@dataclass(frozen=True)
class RewardInfo:
    """What there is to say about one reward or metric.

    Attributes:
        name: what a recipe writes after `use:`.
        kind: `reward`, or `metric` if it can only be watched; empty if it does not load.
        source: the distribution and the object, or the file and line.
        summary: the first line of its docstring.
        doc: the whole docstring.
        options: what `args` may set, as text: name -> default (`required` where there is none).
        columns: the columns of the rows that it cannot do without.
        error: why it does not load, or None.
    """

    name: str
    kind: Literal["reward", "metric", ""]
    source: str
    summary: str = ""
    doc: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    columns: Sequence[str] = ()
    error: str | None = None


def get_reward(use: str, /, **args: Any) -> Reward:
    """A reward by name, dotted path or file, bound to its arguments and checked by a dry call.

    Args:
        use: a registered name (`visual_jigsaw`), `package.module:name` or `path/to/file.py:name`.
        args: its options; unknown ones are refused.

    Returns:
        `reward(completions, answer, **columns) -> list[float | None]`, async if the plug-in is. It passes on the
        columns that the plug-in names and checks what comes back.

    Raises:
        RewardError: it is not found, is a metric, or does not keep the contract. Names the file and line.

    >>> reward = get_reward("visual_jigsaw", format_weight=0.5)
    >>> reward(["<think>a</think><answer>2, 1, 3</answer>"], [[2, 1, 3]])
    [1.5]
    """
    return as_function(load_plugin(use, args, kind="reward"))


def get_metric(use: str, /, **args: Any) -> Reward:
    """A metric to watch: one that is marked as a metric, or any reward. Otherwise as `get_reward`.

    >>> get_metric("valid")(["<think>a</think><answer>2, 1, 3</answer>"], [[1, 2, 3]])
    [1.0]
    """
    return as_function(load_plugin(use, args, kind="metric"))


def load_plugin(use: str, args: Mapping[str, Any] | None = None, *, kind: Literal["reward", "metric"]) -> Plugin:
    """Find a plug-in, bind its arguments and call it once on synthetic completions.

    Args:
        use: as in `get_reward`.
        args: its options.
        kind: `reward` refuses what is marked as a metric; `metric` takes both.

    Raises:
        RewardError: as `get_reward`.
    """
    plugin = build(use, find(use), dict(args or {}))
    if kind == "reward" and plugin.kind == "metric":
        raise RewardError(f"{use} is a metric, to be watched and not optimised; list it under `metrics:`")
    return run_to_end(_dry_called(plugin)) if plugin.is_async else drive(_dry_called(plugin))


def as_function(plugin: Plugin) -> Reward:
    """A plug-in as the plain or async function that trainers take, with a `__name__`."""

    def reward(completions: Sequence[Any], answer: Any = None, **columns: Any) -> list[float | None]:
        given = columns if answer is None else {"answer": answer, **columns}
        return drive(plugin.values(completions, given))

    async def async_reward(completions: Sequence[Any], answer: Any = None, **columns: Any) -> list[float | None]:
        given = columns if answer is None else {"answer": answer, **columns}
        return await plugin.values(completions, given)

    function: Reward = async_reward if plugin.is_async else reward
    function.__name__ = function.__qualname__ = plugin.name
    function.__doc__ = inspect.getdoc(plugin.function)
    return function


def find(use: str) -> object:
    """The object behind a name, dotted path or `file.py:name`, as it stands.

    Raises:
        RewardError: nothing is there, importing it failed, or two distributions claim the name.
    """
    path, colon, name = use.rpartition(":")
    if colon and path.endswith(".py"):
        return _from_file(Path(path).expanduser(), name)
    if colon:
        return _from_dotted_path(use)
    if use.endswith(".py"):
        raise RewardError(f"{use} is a file; say which function of it, {use}:NAME")
    points = _entry_points()
    found = [point for point in points if point.name == use]
    owners = {(_owner(point), point.value) for point in found}
    if not found:
        names = {point.name for point in points}
        raise RewardError(
            f"no reward is called {use!r}; {did_you_mean(use, names)} "
            "(one of your own: package.module:name or file.py:name)"
        )
    if len(owners) > 1:
        claims = " and ".join(sorted(f"{owner} ({value})" for owner, value in owners))
        raise RewardError(f"{use!r} is registered by {claims}; use the dotted path of the one that you mean")
    return _imported(use, found[0].load)


def list_rewards() -> list[RewardInfo]:
    """Every registered reward and metric, by name; those that do not load carry the error. None of them is called."""
    points = {(point.name, point.value, _owner(point)) for point in _entry_points()}
    return [_info(name, f"{owner}: {value}") for name, value, owner in sorted(points)]


def describe_reward(use: str) -> RewardInfo:
    """One reward or metric by name, dotted path or file, without calling it; `error` says why it does not load."""
    return _info(use, None)


def check_reward(use: str, args: Mapping[str, Any] | None = None) -> RewardInfo:
    """Load a reward or metric as a recipe would: signature, arguments, and a dry call on synthetic completions.

    Returns:
        What it is. `columns` lists what it cannot do without; if puzzles have no such column it could not be called.

    Raises:
        RewardError: what is wrong, where, and what to do.
    """
    load_plugin(use, args, kind="metric")
    return describe_reward(use)


def _info(use: str, source: str | None) -> RewardInfo:
    try:
        found = find(use)
        # Required options have no value yet, so a factory is described by its signature alone.
        plugin = build(use, found, {}) if "completions" in inspect.signature(found).parameters else None  # type: ignore[arg-type]
        if plugin is None:
            parameters = inspect.signature(found).parameters.values()  # type: ignore[arg-type]
            options = {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD}
            kind: Literal["reward", "metric"] = "metric" if getattr(found, "watched_only", False) else "reward"
        else:
            options, kind = dict(plugin.options), plugin.kind
    except (RewardError, TypeError, ValueError) as error:
        return RewardInfo(use, "", source or use, error=first_line(error))
    doc = inspect.getdoc(found) or ""
    return RewardInfo(
        name=use,
        kind=kind,
        source=source or origin_of(found)[0],
        summary=doc.partition("\n")[0],
        doc=doc,
        options={
            key: "required" if value is inspect.Parameter.empty else repr(value) for key, value in options.items()
        },
        columns=plugin.needs if plugin else (),
    )


def _entry_points() -> list[EntryPoint]:
    """What is registered, by anyone. Imported here: the metadata reader takes longer than all of rewards/."""
    from importlib.metadata import entry_points

    return list(entry_points(group=GROUP))


def _owner(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"


def _from_dotted_path(use: str) -> object:
    module, _, name = use.rpartition(":")
    found = _imported(use, lambda: importlib.import_module(module))
    try:
        return pkgutil.resolve_name(use)
    except AttributeError:
        raise RewardError(f"{module} has no {name!r}; {did_you_mean(name, _functions(found))}") from None
    except ValueError:
        raise RewardError(f"{use!r} is no dotted path; write package.module:name") from None


def _from_file(path: Path, name: str) -> object:
    if not path.is_file():
        raise RewardError(f"there is no file {path}; give the path from here ({Path.cwd()}) or a whole one")
    from hashlib import sha256  # loads OpenSSL, which nothing else here needs

    full = path.resolve()
    module_name = f"jigsaw_plugin_{full.stem}_{sha256(str(full).encode()).hexdigest()[:8]}"

    def load() -> object:
        spec = importlib.util.spec_from_file_location(module_name, full)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} cannot be imported")
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module  # dataclasses and pickle look their module up by name
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[module_name]
            raise
        return module

    module = _imported(f"{path}:{name}", load, str(full))
    try:
        return getattr(module, name)
    except AttributeError:
        raise RewardError(f"{path} has no {name!r}; {did_you_mean(name, _functions(module))}") from None


def _imported(use: str, load: Callable[[], object], file: str = "") -> object:
    """What `load` imports; anything that goes wrong in it becomes one line, a `sys.exit` at import too."""
    try:
        return load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        where = line_of(error, file) or use
        remedy = (
            "install the package that has it, or give file.py:name"
            if isinstance(error, ModuleNotFoundError)
            else "mend it, then try `jigsaw rewards check`"
        )
        raise RewardError(
            f"reward {use}: importing failed at {where} with {type(error).__name__}: {first_line(error)}; {remedy}"
        ) from error


def _functions(module: object) -> list[str]:
    return [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]


async def _dry_called(plugin: Plugin) -> Plugin:
    """The plug-in with the form of completions that it reads: text if it can, else message lists.

    Raises:
        RewardError: it can read neither, or its result is no list of numbers.
    """
    completions, columns = synthetic_batch()
    if any(name not in columns for name in plugin.needs):
        return plugin  # it reads columns of a data set of its own, which cannot be made up
    failures: list[str] = []
    for form in ("text", "messages"):
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
        f"{failures[0]}, in a dry call on text completions{on_lists}; mend it, then try `jigsaw rewards check`"
    )
