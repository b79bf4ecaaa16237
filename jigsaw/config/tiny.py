"""The tiny preset of a recipe: the same run with a tiny model and few steps, for a machine without a GPU and for tests.

In: a recipe as it is written. Out: one with the same stages, tasks, rewards and losses, but a tiny model from random
weights, the sample media, one process and a few steps; `recipes/presets/tiny.yaml` says how small. What the recipe says
of a task (grid, clips, points, answer style) stays, so that the preset runs what its recipe would run. Conversations
become those about the sample photos, a model's architecture is told by its name, and a NEO's pre-Buffer is one layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from jigsaw.errors import JigsawError

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
        JigsawError: a puzzle set that is not built by the recipe, or one of a task that has no samples.
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
            if build.get("task") not in builds:
                known = ", ".join(builds)
                raise JigsawError(f"{key}.build: there are samples for {known}, none for {build.get('task')!r}")
            changes[f"{key}.build"] = builds[build.task]
    return changed(config, changes)
