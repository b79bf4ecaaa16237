"""A recipe of one's own, to start from: it extends another one and shows the keys that people change first."""

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
"""Keys that people change first; of a section those named, or all that the recipe says."""


def write_starter(file: Path, extends: str) -> None:
    """Write a recipe that extends another one.

    Args:
        file: to be written; its name is that of the run.
        extends: name of a recipe that ships, or a file.

    Raises:
        JigsawError: the file exists or is called otherwise than a recipe; the other recipe is not there or not valid.
    """
    if file.suffix not in (".yaml", ".yml"):
        raise JigsawError(f"{file}: a recipe's file ends in .yaml")
    if file.exists():
        raise JigsawError(f"{file} exists already; give another name")
    if not file.parent.is_dir():
        raise JigsawError(f"{file.parent}: no such folder")
    load_recipe(extends)
    path = find_recipe(extends)
    base = extends if path.stem == extends else str(path.resolve())
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem)
    lines = [
        f"# Everything that is not said here is taken from {extends}: `jigsaw recipes show {extends}` prints it.",
        "# All keys and what they mean: docs/reference/recipe.md.",
        f"defaults: {base}",
        f"name: {name}",
        f"description: {extends}, changed",
        "",
        f"# What people change first, with its value in {extends}. Lists are replaced as a whole.",
    ]
    shown = OmegaConf.to_yaml(OmegaConf.create(_first(OmegaConf.to_container(read_recipe(path), resolve=False))))
    write_atomically(file, "\n".join([*lines, *(f"# {line}" for line in shown.splitlines())]) + "\n")


def _first(content: Any) -> dict[str, Any]:
    """Those of `FIRST` that a recipe says."""
    found: dict[str, Any] = {}
    for section, keys in FIRST.items():
        own = content.get(section)
        if keys is not None and isinstance(own, dict):
            own = {key: own[key] for key in keys if key in own}
        if own not in (None, {}):
            found[section] = own
    return found
