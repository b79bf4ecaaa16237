"""Loads a recipe: finds its YAML file, merges it over the recipe it extends, applies overrides and validates it.

In: a recipe's name or path and `a.b=c` overrides. Out: a frozen `Recipe` in which every interpolation is resolved. A
recipe that extends another (`defaults:`) merges its mappings into the other's, replaces lists, and changes a single
value, also one in a list, by a key with dots (`data.train.0.build.grid: 2x2`). An unknown key is refused, and the
error suggests the nearest known one; keys below `build` are checked by the task and keys below `extra` against TRL.
Nothing is written to disk and nothing heavy is imported here. The `rewards` package checks `rewards` and `metrics`.

    recipe = load_recipe("quickstart", ["data.photos=/home/me/photos", "seed=1"])
    recipe.data.train[0].build.task   # "image"
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from textwrap import shorten
from typing import Any, cast, get_args

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError
from yaml import YAMLError

from jigsaw.config.data import BuildSection
from jigsaw.config.fresh import FreshFolders
from jigsaw.config.scalars import Written, refuse_changed, require_moderate, written_scalars
from jigsaw.config.schema import Recipe
from jigsaw.config.tiny import changed, tiny_preset
from jigsaw.config.trl_fields import StageName, check_stage
from jigsaw.errors import JigsawError, did_you_mean, first_line

__all__ = ["Recipe", "find_recipe", "load_recipe", "recipe_names"]

KINDS = {
    "missing": "this key is required",
    "model_type": "a mapping of keys is needed",
    "dict_type": "a mapping of keys is needed",
    "tuple_type": "a list is needed",
    "too_short": "at least one entry is needed",
}
"""Messages for pydantic's error types, in the terms of YAML."""

SECRET = re.compile(r"\$\{oc\.env:\s*\w*(?:token|secret|passw|api_?key|credential)\w*[^}]*\}", re.IGNORECASE)
"""An interpolation of an environment variable whose name suggests a secret."""

EITHER = (
    ("model.path", "model.tiny"),
    ("grpo.tokens_per_micro_batch", "grpo.per_device_train_batch_size"),
)
"""Pairs of mutually exclusive keys: setting one in a recipe or override replaces the other one of the base recipe."""

RECIPES = Path(__file__).parent.parent / "recipes"
"""The folder of the recipes that ship with the package."""


def recipe_names() -> list[str]:
    """Names of the recipes that ship with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def find_recipe(name: str) -> Path:
    """The file of a recipe, from its path or from the name of a shipped recipe.

    Raises:
        JigsawError: there is no such file or name.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not path.is_file():
            raise JigsawError(f"{name}: no such recipe file")
        return path
    shipped = RECIPES / f"{name}.yaml"
    if shipped.is_file():
        return shipped
    raise JigsawError(f"{name!r} is neither a recipe file nor a shipped recipe; {did_you_mean(name, recipe_names())}")


def load_recipe(
    name: str,
    overrides: Sequence[str] = (),
    *,
    resume: bool = False,
    tiny: bool = False,
    fresh: FreshFolders | None = None,
) -> Recipe:
    """Find, extend, override, resolve and validate a recipe.

    Args:
        name: a path, or the name of a shipped recipe.
        overrides: `key.sub=value` each, with YAML values; an item of a list is written `data.train.0.weight=2`.
        resume: `${fresh:...}` resolves to the latest run instead of a new folder.
        tiny: load the recipe's tiny preset (`jigsaw.config.tiny`); the overrides are applied to it.
        fresh: resolves `${fresh:...}`; if None, it is resolved according to `resume` and no folder is created.

    Raises:
        JigsawError: one line with the file or the override to blame, the key and the remedy.
    """
    path = find_recipe(name)
    fresh = fresh or FreshFolders(resume=resume)
    try:
        return _load(path, overrides, tiny, fresh)
    except JigsawError as error:
        message = str(error).removeprefix(f"{path}: ")
        if message.startswith("override "):
            raise
        trial = FreshFolders(resume=resume)
        trial.folders |= fresh.folders
        others = [[*overrides[:index], *overrides[index + 1 :]] for index in range(len(overrides))]
        culprits = [
            repr(shorten(override, 100, placeholder=" ..."))
            for override, rest in zip(overrides, others, strict=True)
            if _complaint(path, rest, tiny, trial) != str(error)
        ]
        if not culprits:
            raise
        raise JigsawError(f"override {' and '.join(culprits)}: {message}") from error


def _complaint(path: Path, overrides: Sequence[str], tiny: bool, fresh: FreshFolders) -> str | None:
    """The message with which a recipe is refused, or None for a valid one."""
    try:
        _load(path, overrides, tiny, fresh)
    except JigsawError as error:
        return str(error)
    return None


def _load(path: Path, overrides: Sequence[str], tiny: bool, fresh: FreshFolders) -> Recipe:
    """`load_recipe` of a file; its errors begin with the file, those of an override's form with the override."""
    _register_fresh(fresh)
    written: dict[str, Written] = {}
    try:
        config = _read_with_defaults(path, seen=(), written=written)
        if tiny:
            config = tiny_preset(config)
        before = _alternatives(config)
        for override in overrides:
            _override(config, override, written)
        _keep_one(config, before)
        _refuse_unused_photos(path, config, overrides)
        if secret := SECRET.search(OmegaConf.to_yaml(config, resolve=False)):
            raise JigsawError(
                f"{path}: {secret[0]} would be written into recipe.yaml and the report; leave it out: libraries read "
                "such variables from the environment themselves"
            )
        content = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise JigsawError(f"{path}: {_located(error)}") from error
    _check_stages(path, content)
    try:
        refuse_changed(content, written, Recipe)
    except JigsawError as error:
        raise JigsawError(f"{path}: {error}") from error
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        raise JigsawError(f"{path}: {_explain(error)}") from error
    _check_tasks(path, recipe)
    return recipe


def read_recipe(path: Path) -> DictConfig:
    """A recipe merged over those that it extends; neither resolved nor validated.

    Raises:
        JigsawError: as in `load_recipe`.
    """
    return _read_with_defaults(path, seen=(), written={})


def _refuse_unused_photos(path: Path, config: DictConfig, overrides: Sequence[str]) -> None:
    """Refuse `data.photos=DIR` if no set of the recipe refers to it: the run would train on other photos."""
    given = next((one for one in overrides if one.startswith("data.photos=")), None)
    if given is not None and "${data.photos}" not in OmegaConf.to_yaml(config, resolve=False):
        raise JigsawError(
            f"{path}: no puzzle set of this recipe refers to data.photos; give a set its folder "
            "with data.train.0.build.source=DIR, and the held-out one with data.eval.0.build.source=DIR"
        )


def _check_stages(path: Path, content: Any) -> None:
    """Refuse unknown keys of `sft` and `grpo`; the error says if a key is a field of TRL's configuration."""
    stages: tuple[StageName, ...] = ("sft", "grpo")
    for stage in stages:
        if isinstance(section := content.get(stage), Mapping):
            try:
                check_stage(stage, section)
            except JigsawError as error:
                raise JigsawError(f"{path}: {error}") from error


def _check_tasks(path: Path, recipe: Recipe) -> None:
    """Refuse a wrong key of a puzzle set now, not when the sets before it have already been built."""
    from jigsaw.tasks import TaskError, get_task

    for name, entries in (("train", recipe.data.train), ("eval", recipe.data.eval)):
        for number, build in enumerate(entry.build for entry in entries):
            if build is None:
                continue
            key = f"data.{name}.{number}.build"
            try:
                get_task(build.task, **build.config)
            except TaskError as error:
                for given in build.config:
                    if own := get_close_matches(given, BuildSection.model_fields, n=1, cutoff=0.8):
                        raise JigsawError(f"{path}: unknown key {key}.{given}: did you mean {own[0]}?") from error
                raise JigsawError(f"{path}: {key}: {first_line(error)}") from error


def _read_with_defaults(path: Path, seen: tuple[Path, ...], written: dict[str, Written]) -> DictConfig:
    """A recipe merged recursively over the one that its `defaults:` names; adds its plain scalars to `written`."""
    if path.resolve() in seen:
        raise JigsawError(f"{path}: defaults: the recipes extend each other in a circle")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise JigsawError(f"{path}: cannot be read ({error.strerror or first_line(error)})") from error
    except UnicodeDecodeError as error:
        raise JigsawError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    if not text.strip():
        raise JigsawError(f"{path}: the recipe is empty")
    try:
        require_moderate(text)
        config = OmegaConf.load(StringIO(text))
    except JigsawError as error:
        raise JigsawError(f"{path}: {error}") from error
    except OSError as error:  # OmegaConf raises it for YAML that is a single value
        raise JigsawError(f"{path}: a recipe is a mapping of keys, this is a single value") from error
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise JigsawError(f"{path}: invalid YAML, {where}{getattr(error, 'problem', first_line(error))}") from error
    if not isinstance(config, DictConfig):
        raise JigsawError(f"{path}: a recipe is a mapping of keys, this is a list")
    own = written_scalars(text)
    parent = config.pop("defaults", None)
    if parent is None:
        written |= own
        return config
    if not isinstance(parent, str):
        raise JigsawError(f"{path}: defaults: give the file or name of one recipe, not {parent!r}")
    sibling = path.parent / parent
    try:
        parent_path = sibling if sibling.is_file() else find_recipe(parent)
    except JigsawError as error:
        raise JigsawError(f"{path}: defaults: {error}") from error
    extended = _read_with_defaults(parent_path, (*seen, path.resolve()), written)
    written |= own
    try:
        result = changed(extended, cast(dict[str, Any], OmegaConf.to_container(config, resolve=False)))
        _keep_one(result, _alternatives(extended))
        return result
    except (OmegaConfBaseException, AttributeError, TypeError, LookupError, ValueError) as error:
        raise JigsawError(f"{path}: {parent} has no such key: {first_line(error)}") from error


def _alternatives(config: DictConfig) -> dict[str, Any]:
    """The values of the keys of `EITHER`, unresolved."""
    plain: Any = OmegaConf.to_container(config, resolve=False)
    sections = {key: plain.get(key.partition(".")[0]) for pair in EITHER for key in pair}
    return {key: own.get(key.partition(".")[2]) for key, own in sections.items() if isinstance(own, dict)}


def _keep_one(config: DictConfig, before: Mapping[str, Any]) -> None:
    """Where a key of `EITHER` has been set over a recipe with the other key of its pair, reset the other one."""
    now = _alternatives(config)
    for pair in EITHER:
        for given, other in (pair, pair[::-1]):
            is_new = now.get(given) is not None and before.get(given) is None
            if is_new and now.get(other) == before.get(other) is not None:
                OmegaConf.update(config, other, None)


def _override(config: DictConfig, override: str, written: dict[str, Written]) -> None:
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise JigsawError(f"override {override!r} is not of the form key=value, such as model.dtype=bfloat16")
    try:
        # Interpolations are not resolved here: they refer to the recipe, not to the override.
        require_moderate(text)
        OmegaConf.update(config, key, _plain(text), merge=True, force_add=True)
        written |= written_scalars(text, key)
    except JigsawError as error:
        raise JigsawError(f"override {key}: {error}") from error
    except YAMLError as error:
        remedy = f"""for a text write {key}='"{text}"'""" if text.isprintable() else "it has control characters"
        raise JigsawError(f"override {override!r}: the value is invalid YAML; {remedy}") from error
    except (OmegaConfBaseException, AttributeError, TypeError, LookupError, ValueError) as error:
        explains = isinstance(error, OmegaConfBaseException) and not isinstance(error, LookupError)
        why = first_line(error) if explains else f"the recipe has no key {key}{_entries_of(config, key)}"
        raise JigsawError(f"override {override!r}: {why}") from error


def _entries_of(config: DictConfig, key: str) -> str:
    """The number of entries of the list in which a key is not found; empty if there is none."""
    parts = key.split(".")
    for depth in range(1, len(parts)):
        section = ".".join(parts[:depth])
        try:
            entries = OmegaConf.select(config, section)
        except (OmegaConfBaseException, LookupError, TypeError, ValueError):
            return ""
        if isinstance(entries, ListConfig) and parts[depth] not in map(str, range(len(entries))):
            last = f" to {len(entries) - 1}" if len(entries) > 1 else ""
            count = "1 entry (index 0)" if len(entries) == 1 else f"{len(entries)} entries (index 0{last})"
            return f"; {section} has {count if entries else 'no entries'}"
    return ""


def _plain(text: str) -> Any:
    """The YAML value of a text. A value that YAML reads as a string is the text itself, including a ` #` in it."""
    value = OmegaConf.to_container(OmegaConf.create(f"value: {text}"), resolve=False)["value"]  # type: ignore[call-overload,index]
    return text if isinstance(value, str) and not text.startswith(("'", '"')) else value


def _register_fresh(fresh: FreshFolders) -> None:
    # OmegaConf 2.4 deprecates the only name that 2.3 has. Call register_resolver once 2.4 is the minimum version.
    register = getattr(OmegaConf, "register_resolver", None) or OmegaConf.register_new_resolver
    register("fresh", fresh.resolve, replace=True)


def _explain(error: ValidationError) -> str:
    """The first error of a validation, with its key and, for an unknown key, the nearest known one."""
    # A misspelt key also causes a "missing" error; the misspelling explains more.
    first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"]) or "recipe"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        known = sorted(_section_at(first["loc"][:-1]).model_fields)
        return f"unknown key {key}; {did_you_mean(str(first['loc'][-1]), known)}{more}"
    message = KINDS.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    given = "" if first["type"] in ("missing", "value_error") else f", not {first['input']!r}"
    if first["type"] == "string_type" and isinstance(first["input"], bool | int | float):
        given += " (for a text put it in quotes)"
    return f"{key}: {message[0].lower() + message[1:]}{given}{more}"


def _section_at(loc: Sequence[int | str]) -> type[BaseModel]:
    """The schema of the section at a validation location."""
    section: type[BaseModel] = Recipe
    for part in loc:
        if isinstance(part, int):
            continue
        field = section.model_fields.get(part)
        found = [] if field is None else _models_in(field.annotation)
        if found:
            section = found[0]
    return section


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]


def _located(error: OmegaConfBaseException) -> str:
    """OmegaConf's message, with the key that it is about."""
    key = repr(error.full_key or "")[1:-1]  # a key may have line feeds
    return f"{key}: {first_line(error)}" if key else first_line(error)
