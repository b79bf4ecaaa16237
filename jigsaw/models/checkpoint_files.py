"""The files of a checkpoint, checked without opening the model: what it is, what is missing, how large it is.

In: a local folder or a hub id. Out: facts, or a refusal in one line. Only JSON is read here, so that a dry run needs
neither torch nor transformers.
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
"""Where a checkpoint says how its images are prepared, in one of the two."""

NO_PROCESSOR = ("neo_chat",)
"""Architectures whose checkpoints need none of these files."""

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "tokenizer.model", "tokenizer_config.json")
"""A checkpoint has at least one of them."""

VIDEO_FILE = "video_preprocessor_config.json"
JSON_FILES = (*PROCESSOR_FILES, VIDEO_FILE, "generation_config.json", "tokenizer_config.json")
"""Files of a checkpoint that must be JSON objects where they are there, beside config.json."""

AGAIN = "fetch the checkpoint again, or copy the file of the base model"

WEIGHT_FILES = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)
"""A checkpoint has one of them."""

BYTES_PER_PARAMETER = 2
"""Of the checkpoints on the hub, which are kept in bfloat16."""


def is_local(path: str) -> bool:
    """Whether a path is meant as a folder of this machine; anything else is an id on the hub."""
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
        JigsawError: it is missing or no JSON object.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise JigsawError(f"{folder}: no checkpoint, config.json is missing")
    content = read_object(file, AGAIN)
    require_values(file, content)
    return content


def require_files(folder: Path) -> None:
    """Refuse a checkpoint that a run could not open: configuration, processor, tokenizer, weights.

    Raises:
        JigsawError: the first that is missing, with what to do.
    """
    architecture = architecture_of(folder)
    if architecture not in NO_PROCESSOR and not _has(folder, PROCESSOR_FILES):
        raise JigsawError(
            f"{folder}: no image processor is there ({' or '.join(PROCESSOR_FILES)}); copy the base model's"
        )
    require_json(folder)
    if not _has(folder, TOKENIZER_FILES):
        raise JigsawError(f"{folder}: no tokenizer is there (tokenizer.json); copy the base model's")
    if not _has(folder, WEIGHT_FILES):
        raise JigsawError(f"{folder}: no weights are there (model.safetensors); fetch the checkpoint again")
    require_weights(folder)


def require_json(folder: Path) -> None:
    """Refuse a checkpoint one of whose JSON files is none, or holds a number that cannot be.

    Raises:
        JigsawError: naming the file, and the key.
    """
    for name in JSON_FILES:
        file = folder / name
        if file.is_file():
            content = read_object(file, AGAIN)
            if name in (*PROCESSOR_FILES, VIDEO_FILE):
                require_values(file, content)


def require_weights(folder: Path) -> None:
    """Refuse a checkpoint whose index names files that are missing, or that lie outside of its folder.

    Raises:
        JigsawError: naming the index or the file.
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
    """The files of weights that an index names.

    Raises:
        JigsawError: it is no index, or a name leads out of its folder.
    """
    listed = read_object(index, AGAIN).get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
        raise JigsawError(f"{index}: weight_map is no object of file names; {AGAIN}")
    for name in listed.values():
        if not name or "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts:
            raise JigsawError(f"{index}: the name {name!r} leads out of the checkpoint's folder; {AGAIN}")
    return set(listed.values())


def _has(folder: Path, names: tuple[str, ...]) -> bool:
    return any((folder / name).is_file() for name in names)


def cached(hub_id: str) -> Path | None:
    """The folder where the hub's cache keeps a checkpoint; None where it is not there."""
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
    """How large a model is.

    Attributes:
        parameters: their number.
        exact: whether it was counted; else it is what the model's name says, which leaves the vision tower out.
    """

    parameters: int
    exact: bool

    def __str__(self) -> str:
        gigabytes = self.parameters * BYTES_PER_PARAMETER / 1e9
        return f"{'about' if self.exact else 'at least'} {gigabytes:.0f} GB"


def size_of(path: str) -> Size | None:
    """The size of a checkpoint, from its files or else from its name (`...-7B-...`); None where neither says it."""
    folder = Path(path) if is_local(path) else cached(path)
    if folder is not None and (counted := _counted(folder)):
        return Size(counted, exact=True)
    named = re.search(r"(?<![A-Za-z0-9.])(\d+(?:[._]\d+)?)b(?![A-Za-z0-9])", path.rpartition("/")[2], re.IGNORECASE)
    return None if named is None else Size(int(float(named[1].replace("_", ".")) * 1e9), exact=False)


def _counted(folder: Path) -> int | None:
    """Parameters by the headers of the safetensors files; None where one is not there."""
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
            return None  # damaged: the reader of the weights says how
    return total or None
