"""`jigsaw recipes init`: writes a recipe that extends another one and lists the keys that are changed most often."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from jigsaw.config.loading import find_recipe, load_recipe, read_recipe
from jigsaw.errors import JigsawError
from jigsaw.files import write_atomically

FIRST = {
    "seed": None,
    "model": ("path", "tiny", "dtype", "lora"),
    "data": None,
    "rewards": None,
    "grpo": ("max_steps", "prompts_per_step", "num_generations", "max_completion_length", "learning_rate"),
    "distributed": ("gpus", "zero"),
    "rollout": ("engine",),
}
"""The keys that are changed most often: section -> keys, or None for all keys of the section."""


def write_starter(file: Path, extends: str) -> None:
    """Write a recipe that extends another one.

    Args:
        file: the file to write; the run gets its name.
        extends: the recipe to extend, a file or the name of a shipped recipe.

    Raises:
        JigsawError: the file exists or does not end in .yaml; the other recipe does not exist or is not valid.
    """
    if file.suffix not in (".yaml", ".yml"):
        raise JigsawError(f"{file}: the name of a recipe file ends in .yaml")
    if file.exists():
        raise JigsawError(f"{file} exists already; choose another name")
    if not file.parent.is_dir():
        raise JigsawError(f"{file.parent}: no such folder")
    load_recipe(extends)
    path = find_recipe(extends)
    base = extends if path.stem == extends else str(path.resolve())
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem)
    lines = [
        f"# Keys that are not set here are those of {extends}; `jigsaw recipes show {extends}` prints it.",
        "# docs/reference/recipe.md describes all keys.",
        f"defaults: {base}",
        f"name: {name}",
        f"description: {extends}, changed",
        "",
        f"# The keys that are changed most often, with their values in {extends}. A list replaces the complete list.",
    ]
    shown = OmegaConf.to_yaml(OmegaConf.create(_first(OmegaConf.to_container(read_recipe(path), resolve=False))))
    write_atomically(file, "\n".join([*lines, *(f"# {line}" for line in shown.splitlines())]) + "\n")


def _first(content: Any) -> dict[str, Any]:
    """The keys of `FIRST` that a recipe sets, with their values."""
    shown: dict[str, Any] = {}
    for section, keys in FIRST.items():
        own = content.get(section)
        if keys is not None and isinstance(own, dict):
            own = {key: own[key] for key in keys if key in own}
        if own not in (None, {}):
            shown[section] = own
    return shown
