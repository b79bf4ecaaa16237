"""Checks the files of a checkpoint without opening the model: architecture, missing files, size.

In: a local folder or a hub id. Out: the result, or an error of one line. Only JSON and headers are read, so that a dry
run needs neither torch nor transformers.
"""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jigsaw.errors import JigsawError
from jigsaw.models.checkpoint_values import require_values
from jigsaw.models.families import require_supported
from jigsaw.text import read_object

PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
"""Files with the settings of the image processor, of which a checkpoint has one."""

NO_PROCESSOR = ("neo_chat",)
"""Architectures whose checkpoints need none of these files."""

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "tokenizer.model", "tokenizer_config.json")
"""A checkpoint has at least one of them."""

VIDEO_FILE = "video_preprocessor_config.json"
JSON_FILES = (*PROCESSOR_FILES, VIDEO_FILE, "generation_config.json", "tokenizer_config.json")
"""Files that must be JSON objects if they exist, in addition to config.json."""

AGAIN = "fetch the checkpoint again, or copy the file of the base model"

WEIGHT_FILES = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)
"""A checkpoint has one of them."""

BYTES_PER_PARAMETER = 2
"""Bytes per parameter of checkpoints on the hub, which are in bfloat16."""


def is_local(path: str) -> bool:
    """Whether a path names a folder of this machine; otherwise it is a hub id."""
    looks_local = path.startswith((".", "/", "~")) or path.count("/") != 1
    return Path(path).is_dir() or looks_local or Path(path).parent.is_dir()


def architecture_of(folder: Path) -> str:
    """The architecture of a checkpoint, a key of `jigsaw.models.families.MODEL_TYPES`.

    Raises:
        JigsawError: there is no readable configuration, or the architecture is not supported.
    """
    return require_supported(read_config(folder), str(folder))


def read_config(folder: Path) -> dict[str, Any]:
    """The content of config.json.

    Raises:
        JigsawError: the file is missing or is not a JSON object.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise JigsawError(f"{folder}: not a checkpoint, config.json is missing")
    content = read_object(file, AGAIN)
    require_values(file, content)
    return content


def require_files(folder: Path) -> None:
    """Check that a checkpoint has configuration, processor, tokenizer and weights.

    Raises:
        JigsawError: one is missing; the message has the remedy.
    """
    architecture = architecture_of(folder)
    if architecture not in NO_PROCESSOR and not _has(folder, PROCESSOR_FILES):
        raise JigsawError(
            f"{folder}: the image processor is missing ({' or '.join(PROCESSOR_FILES)}); copy the base model's"
        )
    require_json(folder)
    if not _has(folder, TOKENIZER_FILES):
        raise JigsawError(f"{folder}: the tokenizer is missing (tokenizer.json); copy the base model's")
    if not _has(folder, WEIGHT_FILES):
        raise JigsawError(f"{folder}: the weights are missing (model.safetensors); download the checkpoint again")
    require_weights(folder)


def require_json(folder: Path) -> None:
    """Check that the JSON files of a checkpoint are valid and their numbers possible.

    Raises:
        JigsawError: a file or a number is wrong; the message names file and key.
    """
    for name in JSON_FILES:
        file = folder / name
        if file.is_file():
            content = read_object(file, AGAIN)
            if name in (*PROCESSOR_FILES, VIDEO_FILE):
                require_values(file, content)


def require_weights(folder: Path) -> None:
    """Check that the files in the index of a checkpoint exist and are in its folder.

    Raises:
        JigsawError: a file is missing or outside the folder; the message names the index or the file.
    """
    for name in WEIGHT_FILES:
        if name.endswith(".index.json") and (folder / name).is_file():
            listed = _listed_weights(folder / name)
            if gone := sorted(file for file in listed if not (folder / file).is_file()):
                raise JigsawError(
                    f"{folder}: {len(gone)} of {len(listed)} files of weights are missing, the first is {gone[0]}; "
                    f"{AGAIN}"
                )


def _listed_weights(index: Path) -> set[str]:
    """The weight files in an index.

    Raises:
        JigsawError: the file is not an index, or a name leads out of its folder.
    """
    listed = read_object(index, AGAIN).get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
        raise JigsawError(f"{index}: weight_map is not an object of file names; {AGAIN}")
    for name in listed.values():
        if not name or "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts:
            raise JigsawError(f"{index}: the name {name!r} leads out of the checkpoint's folder; {AGAIN}")
    return set(listed.values())


def _has(folder: Path, names: tuple[str, ...]) -> bool:
    return any((folder / name).is_file() for name in names)


def cached(hub_id: str) -> Path | None:
    """The folder of a checkpoint in the hub's cache; None if it is not cached."""
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    entry = cache / f"models--{hub_id.replace('/', '--')}"
    reference = entry / "refs" / "main"
    if not reference.is_file():
        return None
    folder = entry / "snapshots" / reference.read_text(encoding="utf-8").strip()
    return folder if (folder / "config.json").is_file() else None


@dataclass(frozen=True)
class Size:
    """The size of a model.

    Attributes:
        parameters: number of parameters.
        exact: whether they were counted; otherwise the number is from the model's name, without the vision tower.
    """

    parameters: int
    exact: bool

    def __str__(self) -> str:
        gigabytes = self.parameters * BYTES_PER_PARAMETER / 1e9
        return f"{'about' if self.exact else 'at least'} {gigabytes:.0f} GB"


def size_of(path: str) -> Size | None:
    """The size of a checkpoint, from its files or from its name (`...-7B-...`); None if neither has it."""
    folder = Path(path) if is_local(path) else cached(path)
    if folder is not None and (counted := _counted(folder)):
        return Size(counted, exact=True)
    named = re.search(r"(?<![A-Za-z0-9.])(\d+(?:[._]\d+)?)b(?![A-Za-z0-9])", path.rpartition("/")[2], re.IGNORECASE)
    return None if named is None else Size(int(float(named[1].replace("_", ".")) * 1e9), exact=False)


def _counted(folder: Path) -> int | None:
    """The number of parameters, from the headers of the safetensors files; None if a file is missing."""
    index = folder / "model.safetensors.index.json"
    names = _listed_weights(index) if index.is_file() else {"model.safetensors"}
    total = 0
    for name in names:
        try:
            with (folder / name).open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length)) if length < 100_000_000 else {}
            shapes = [tensor["shape"] for key, tensor in header.items() if key != "__metadata__"]
            total += sum(math.prod(map(int, shape)) for shape in shapes)
        except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
            return None  # damaged: an error is reported when the weights are read
    return total or None
