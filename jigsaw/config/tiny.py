"""The tiny preset of a recipe: the same run with a tiny model and few steps, for a machine without a GPU and for tests.

In: an unresolved recipe. Out: a recipe with the same stages, tasks, rewards and losses, but with a tiny model from
random weights, the sample media, one process and a few steps. `recipes/presets/tiny.yaml` has the sizes, and each task
has the settings that make its puzzles small (`SMALL`). All other settings of a task (grid, clips, points, answer style)
stay, so that the preset runs the same code. Conversations become those about the sample photos, the architecture
follows from the model's name, and the pre-Buffer of a NEO has as many layers as the vision tower of the other models.
A source or a held-out share that refers to another one (`${data.photos}`, `${data.train.0.build.source}`) still does,
so that an override of the training source also applies to the held-out set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from jigsaw.errors import JigsawError
from jigsaw.tasks import TaskError, find_task

TINY = Path(__file__).parent.parent / "recipes" / "presets" / "tiny.yaml"

PHOTOS = "${data.photos}"
REFERENCE = re.compile(r"\$\{data\.(photos|(train|eval)\.\d+\.build\.(source|heldout))\}")
"""A source that refers to `data.photos` or to the source of another set, or a held-out share that refers to another."""


def changed(config: DictConfig, changes: Mapping[str, Any]) -> DictConfig:
    """A recipe with changes: mappings merge, lists are replaced, a key with dots changes one value, also in a list.

    Args:
        config: an unresolved recipe.
        changes: unresolved changes, as plain values.

    Raises:
        OmegaConfBaseException, LookupError, TypeError, ValueError: the recipe has no such key.
    """
    undotted = {key: value for key, value in changes.items() if "." not in key}
    merged = OmegaConf.merge(config, OmegaConf.create(undotted))
    assert isinstance(merged, DictConfig)  # a merge of two mappings
    for key, value in changes.items():
        if "." in key:
            OmegaConf.update(merged, key, value, merge=True, force_add=True)
    return merged


def tiny_preset(config: DictConfig) -> DictConfig:
    """The tiny preset of a recipe.

    Raises:
        JigsawError: the recipe does not build one of its puzzle sets, or names an unknown task.
        OmegaConfBaseException: the recipe's model or one of its sets cannot be resolved.
    """
    tiny: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(TINY), resolve=False)  # type: ignore[assignment]
    builds = tiny.pop("builds")
    architectures = tiny.pop("architectures")
    changes = tiny.pop("everywhere")
    path = str(config.get("model", {}).get("path") or "")
    model = changes["model"]
    model["tiny"] = config.get("model", {}).get("tiny") or next(
        name for pattern, name in architectures.items() if fnmatchcase(path.lower(), pattern)
    )
    if config.get("model", {}).get("pre_buffer") is not None:
        model["pre_buffer"] = model["sizes"]["vision_layers"]
    for stage, section in tiny.items():
        if config.get(stage) is not None:
            changes[stage] = section
    for side in ("train", "eval"):
        for number, entry in enumerate(config.get("data", {}).get(side) or ()):
            key = f"data.{side}.{number}"
            build = entry.get("build")
            if entry.get("conversations") is not None:
                changes |= {f"{key}.conversations": "samples", f"{key}.images": None}
                continue
            if build is None:
                raise JigsawError(
                    f"{key}: the tiny preset builds puzzles from samples, which it cannot do for a set given by path"
                )
            try:
                task = find_task(str(build.get("task")))
            except TaskError as error:
                raise JigsawError(f"{key}.build: {error}") from error
            small = {**builds.get(task.source_kind, builds["other"]), **task.SMALL}
            written: dict[str, Any] = OmegaConf.to_container(build, resolve=False)  # type: ignore[assignment]
            if written.get("source") == PHOTOS:
                changes["data.photos"] = small["source"]
            if "heldout" not in written:
                small.pop("heldout", None)
            for setting in ("source", "heldout"):
                if REFERENCE.fullmatch(str(written.get(setting))):
                    small.pop(setting, None)
            changes[f"{key}.build"] = small
    return changed(config, changes)
