"""The tiny preset of a recipe: the same run with a tiny model and few steps, for a machine without a GPU and for tests.

In: a recipe as it is written. Out: one with the same stages, tasks, rewards and losses, but a tiny model from random
weights, the sample media, one process and a few steps; `recipes/presets/tiny.yaml` says how small, and each task what
makes its puzzles small (`SMALL`). What else the recipe says of a task (grid, clips, points, answer style) stays, so
that the preset runs what its recipe would run. Conversations become those about the sample photos, a model's
architecture follows from its name, and a NEO's pre-Buffer has as many layers as the vision tower of the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from jigsaw.errors import JigsawError
from jigsaw.tasks import TaskError, find_task

TINY = Path(__file__).parent.parent / "recipes" / "presets" / "tiny.yaml"


def changed(config: DictConfig, changes: Mapping[str, Any]) -> DictConfig:
    """A recipe with changes: mappings merge, lists are replaced, a key with dots changes one place, also in a list.

    Args:
        config: a recipe, not resolved.
        changes: likewise, as plain values.

    Raises:
        OmegaConfBaseException, LookupError, TypeError, ValueError: the recipe has no such place.
    """
    whole = {key: value for key, value in changes.items() if "." not in key}
    merged = OmegaConf.merge(config, OmegaConf.create(whole))
    assert isinstance(merged, DictConfig)  # a merge of two mappings
    for key, value in changes.items():
        if "." in key:
            OmegaConf.update(merged, key, value, merge=True, force_add=True)
    return merged


def tiny_preset(config: DictConfig) -> DictConfig:
    """The tiny preset of a recipe.

    Raises:
        JigsawError: a puzzle set that is not built by the recipe, or by a task that is not known.
        OmegaConfBaseException: the recipe's model or a set of it cannot be resolved.
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
                    f"{key}: the tiny preset builds puzzles from samples; there are none for a set given by path"
                )
            try:
                task = find_task(str(build.get("task")))
            except TaskError as error:
                raise JigsawError(f"{key}.build: {error}") from error
            changes[f"{key}.build"] = {**builds.get(task.source_kind, builds["other"]), **task.SMALL}
    return changed(config, changes)
