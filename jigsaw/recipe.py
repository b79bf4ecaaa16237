"""A recipe: one YAML file per run, the schema that it must fit, and how it is found, extended and overridden.

In: a recipe's name or path and `a.b=c` overrides. Out: a frozen `Recipe`, every interpolation resolved. Unknown keys
are refused with the nearest known one, also those below `build`, which the task knows. Nothing is touched on disk and
nothing heavy is imported here; fields of TRL's configurations (below `sft` and `grpo`) are checked by
`jigsaw.training`, which knows TRL, and `rewards` and `metrics` by the `rewards` package.

    recipe = load_recipe("quickstart", ["data.photos=/home/me/photos", "seed=1"])
    recipe.data.train[0].build.task   # "image"
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any, Literal, get_args

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from yaml import YAMLError

from jigsaw.errors import JigsawError
from jigsaw.models.tiny import TinyArchitecture, TinySizes

KINDS = {
    "missing": "this key is required",
    "model_type": "a mapping of keys is needed",
    "dict_type": "a mapping of keys is needed",
    "tuple_type": "a list is needed",
    "too_short": "at least one entry is needed",
}
"""Pydantic's complaints in the words of YAML."""

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
"""The recipes that ship with the package, found by name."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ImageLimits(_Section):
    """Pixel limits of one image, as the model's image processor applies them."""

    min_pixels: int | None = Field(None, gt=0)
    max_pixels: int | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> ImageLimits:
        if self.min_pixels is not None and self.max_pixels is not None and self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels {self.min_pixels} is over max_pixels {self.max_pixels}")
        return self


class ModelSection(_Section):
    """Which model is trained: a checkpoint, or a tiny one made from random weights.

    Attributes:
        path: a local checkpoint folder or a hub id.
        tiny: the architecture of a tiny model, instead of `path`.
        sizes: its sizes.
        dtype: of weights and computation.
        image: pixel limits for the processor; those of the checkpoint where not given.
    """

    path: str | None = None
    tiny: TinyArchitecture | None = None
    sizes: TinySizes = TinySizes()
    dtype: Literal["float32", "bfloat16"] = "float32"
    image: ImageLimits = ImageLimits()

    @model_validator(mode="after")
    def _one_origin(self) -> ModelSection:
        if (self.path is None) == (self.tiny is None):
            raise ValueError("give either path or tiny")
        return self


class BuildSection(BaseModel):
    """A puzzle set that is built before the run, or found built. Keys beyond these configure the task.

    Attributes:
        task: name of the task, or a plug-in.
        source: folder of photos, or `samples` for the photos that come with the `samples` extra.
        split: which side of the train/held-out split of the source is used; None takes all of it.
        heldout: share of the sources that is held out, unless the folder has `train/` and `heldout/` of its own.
        per_source: puzzles from each source.
        limit: puzzles in all.
        seed: of geometry and order.
        materialize: keep rendered media in the data set; for small pieces and many epochs.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    task: str
    source: str
    split: Literal["train", "heldout"] | None = None
    heldout: float = Field(0.2, gt=0, lt=1)
    per_source: int = Field(1, ge=1)
    limit: int | None = Field(None, ge=1)
    seed: int = 0
    materialize: bool = False

    @property
    def config(self) -> dict[str, Any]:
        """The keys that configure the task."""
        return dict(self.model_extra or {})


class DataEntry(_Section):
    """One puzzle set of a mixture: an existing one by `path`, or one that is built first.

    Attributes:
        path: folder of a built puzzle set.
        build: how to build it.
        weight: its share of the training rows, relative to the other entries.
        limit: rows used, from the first.
    """

    path: str | None = None
    build: BuildSection | None = None
    weight: float = Field(1.0, gt=0)
    limit: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _one_origin(self) -> DataEntry:
        if (self.path is None) == (self.build is None):
            raise ValueError("give either path or build")
        return self


class DataSection(_Section):
    """What is trained on and what is held out.

    Attributes:
        photos: a folder of photos, or `samples`; recipes refer to it as `${data.photos}`.
        folder: where puzzle sets and samples are built, and found again by the next run.
        train: the mixture that the supervised stage and GRPO train on.
        eval: held-out puzzles, of which the run reports.
    """

    photos: str = "samples"
    folder: str = "data"
    train: tuple[DataEntry, ...] = Field(min_length=1)
    eval: tuple[DataEntry, ...] = ()


class EvaluationSection(_Section):
    """When held-out puzzles are looked at.

    Attributes:
        every: GRPO steps between looks at a part of the held-out set; 0 for none.
        puzzles: how many are looked at then, spread over the set; the end looks at all.
        batch_size: prompts that are generated together.
        max_new_tokens: completion limit; that of GRPO where not given.
    """

    every: int = Field(50, ge=0)
    puzzles: int = Field(64, ge=1)
    batch_size: int = Field(64, ge=1)
    max_new_tokens: int | None = Field(None, ge=1)


class RolloutSection(_Section):
    """Who generates completions."""

    engine: Literal["transformers"] = "transformers"


class Recipe(_Section):
    """A whole run, resolved.

    Attributes:
        rewards: `{use, weight, args, gate, only, on_error}` each; checked by the `rewards` package.
        metrics: names of metrics that are logged, not optimised.
        sft: fields of TRL's SFTConfig for a supervised stage on the answers before GRPO; None for none.
        grpo: fields of TRL's GRPOConfig, and `prompts_per_step` (prompts, not completions); None for none.
        output: the run folder.
        seed: of sampling, order and every other draw of training.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    description: str = ""
    seed: int = 0
    model: ModelSection
    data: DataSection
    rewards: tuple[dict[str, Any], ...] = ({"use": "visual_jigsaw"},)
    metrics: tuple[str, ...] = ("exact", "place_accuracy", "valid", "format")
    sft: dict[str, Any] | None = None
    grpo: dict[str, Any] | None = None
    evaluation: EvaluationSection = EvaluationSection()
    rollout: RolloutSection = RolloutSection()
    output: str

    @model_validator(mode="after")
    def _some_training(self) -> Recipe:
        if self.sft is None and self.grpo is None:
            raise ValueError("give sft, grpo or both: there is nothing to train")
        return self


def recipe_names() -> list[str]:
    """Names of the recipes that ship with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def find_recipe(name: str) -> Path:
    """The file of a recipe given by path, or by name among those that ship.

    Raises:
        JigsawError: no such file or name.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not path.is_file():
            raise JigsawError(f"{name}: no such recipe file")
        return path
    shipped = RECIPES / f"{name}.yaml"
    if shipped.is_file():
        return shipped
    raise JigsawError(f"{name!r} is neither a recipe file nor a shipped recipe{_did_you_mean(name, recipe_names())}")


def load_recipe(name: str, overrides: Sequence[str] = (), *, resume: bool = False) -> Recipe:
    """Find, extend, override, resolve and validate a recipe.

    Args:
        name: a path, or the name of a shipped recipe.
        overrides: `key.sub=value` each, YAML values; list items as `data.train.0.weight=2`.
        resume: `${fresh:...}` names the latest existing folder, not a new one.

    Raises:
        JigsawError: one line with file, key and remedy.
    """
    path = find_recipe(name)
    _register_fresh(resume)
    try:
        config = _read_with_defaults(path, seen=())
        for override in overrides:
            _override(config, override)
        content = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise JigsawError(f"{path}: {_located(error)}") from error
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        raise JigsawError(f"{path}: {_explain(error)}") from error
    _check_tasks(path, recipe)
    return recipe


def _check_tasks(path: Path, recipe: Recipe) -> None:
    """Refuse a puzzle set that could not be built: a wrong key must not show after the sets before it are built."""
    from tasks import TaskError, get_task

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
                raise JigsawError(f"{path}: {key}: {_first_line(error)}") from error


def _read_with_defaults(path: Path, seen: tuple[Path, ...]) -> DictConfig:
    """A recipe merged over the one that its `defaults:` names, and so on."""
    if path.resolve() in seen:
        raise JigsawError(f"{path}: defaults: the recipes name each other in a circle")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise JigsawError(f"{path}: cannot be read ({error.strerror or _first_line(error)})") from error
    except UnicodeDecodeError as error:
        raise JigsawError(f"{path}: is no UTF-8 text (byte {error.start}); save it as UTF-8") from error
    if not text.strip():
        raise JigsawError(f"{path}: the recipe is empty")
    try:
        config = OmegaConf.load(StringIO(text))
    except OSError as error:  # OmegaConf's word for YAML that is a single value
        raise JigsawError(f"{path}: a recipe is a mapping of keys, this is a single value") from error
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise JigsawError(f"{path}: no valid YAML, {where}{getattr(error, 'problem', _first_line(error))}") from error
    if not isinstance(config, DictConfig):
        raise JigsawError(f"{path}: a recipe is a mapping of keys, this is a list")
    parent = config.pop("defaults", None)
    if parent is None:
        return config
    if not isinstance(parent, str):
        raise JigsawError(f"{path}: defaults: one recipe is extended, a file or a name; not {parent!r}")
    beside = path.parent / parent
    try:
        parent_path = beside if beside.is_file() else find_recipe(parent)
    except JigsawError as error:
        raise JigsawError(f"{path}: defaults: {error}") from error
    merged = OmegaConf.merge(_read_with_defaults(parent_path, (*seen, path.resolve())), config)
    assert isinstance(merged, DictConfig)  # a merge of two mappings
    return merged


def _override(config: DictConfig, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise JigsawError(f"override {override!r} is not of the form key=value, such as model.dtype=bfloat16")
    try:
        # Interpolations stay as they are written: they are of the recipe, not of the override.
        OmegaConf.update(config, key, _plain(text), merge=True, force_add=True)
    except YAMLError as error:
        quoted = f"""{key}='"{text}"'"""
        raise JigsawError(f"override {override!r}: the value is no valid YAML; for a text write {quoted}") from error
    except (OmegaConfBaseException, AttributeError, TypeError, LookupError, ValueError) as error:
        told = isinstance(error, OmegaConfBaseException) and not isinstance(error, LookupError)
        why = _first_line(error) if told else f"the recipe has no place {key}"
        raise JigsawError(f"override {override!r}: {why}") from error


def _plain(text: str) -> Any:
    """The YAML value of a text; what is no number, list or the like is the text itself, a ` #` in it included."""
    value = OmegaConf.to_container(OmegaConf.create(f"value: {text}"), resolve=False)["value"]  # type: ignore[call-overload,index]
    return text if isinstance(value, str) and not text.startswith(("'", '"')) else value


def _register_fresh(resume: bool) -> None:
    """`${fresh:runs/x}`: `runs/x`, or the first of `runs/x-2`, `runs/x-3`, ... that does not exist yet."""

    def fresh(stem: str) -> str:
        candidate, latest, number = stem, stem, 2
        while Path(candidate).exists():
            latest, candidate, number = candidate, f"{stem}-{number}", number + 1
        return latest if resume else candidate

    # OmegaConf 2.4 deprecates the only name that 2.3 has; with 2.4 as the least version, call register_resolver.
    register = getattr(OmegaConf, "register_resolver", None) or OmegaConf.register_new_resolver
    register("fresh", fresh, replace=True)


def _explain(error: ValidationError) -> str:
    """The first complaint of a validation, with its key and, for an unknown key, the nearest known one."""
    # A misspelt key is also a missing one: the misspelling says more.
    first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"]) or "recipe"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        known = sorted(_section_at(first["loc"][:-1]).model_fields)
        return f"unknown key {key}{_did_you_mean(str(first['loc'][-1]), known)}{more}"
    message = KINDS.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    given = "" if first["type"] in ("missing", "value_error") else f", not {first['input']!r}"
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


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f": did you mean {close[0]}?" if close else f": known are {', '.join(known)}"


def _located(error: OmegaConfBaseException) -> str:
    """OmegaConf's complaint with the key that it is about."""
    key = error.full_key
    return f"{key}: {_first_line(error)}" if key else _first_line(error)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else error.__class__.__name__
