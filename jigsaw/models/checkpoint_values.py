"""Numbers in the JSON files of a checkpoint, held to what can be before a library reads them.

In: the content of `config.json` or of a processor's file. Out: nothing, or a refusal that names file and key. A wrong
number would otherwise end in an error deep inside of a library, in a process that takes all memory (a layer too many
by a factor of a billion), or, worst of all, in pictures that the model sees in another way than it has learned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jigsaw.errors import JigsawError
from jigsaw.text import named

_Test = Callable[[Any], bool]


def _whole(most: int) -> tuple[str, _Test]:
    return f"a whole number from 1 to {most:,}", lambda value: type(value) is int and 1 <= value <= most


def _sides(most: int) -> tuple[str, _Test]:
    """One number, or two in a list: height and width."""
    wanted, holds = _whole(most)

    def both(value: Any) -> bool:
        return holds(value) or (isinstance(value, list) and len(value) == 2 and all(map(holds, value)))

    return wanted, both


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def _is_mean(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_is_number, value))


def _is_deviation(value: Any) -> bool:
    return _is_mean(value) and all(part > 0 for part in value)


_SIZES = {
    **dict.fromkeys(("num_hidden_layers", "depth"), _whole(1000)),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "num_heads"), _whole(10_000)),
    **dict.fromkeys(("hidden_size", "embed_dim", "out_hidden_size", "head_dim"), _whole(1_000_000)),
    **dict.fromkeys(("intermediate_size", "vocab_size", "max_position_embeddings"), _whole(100_000_000)),
    **dict.fromkeys(("in_channels", "in_chans"), _whole(64)),
    **dict.fromkeys(("patch_size", "spatial_patch_size", "temporal_patch_size"), _sides(256)),
    "image_size": _sides(100_000),
    **dict.fromkeys(("merge_size", "spatial_merge_size"), _whole(64)),
}
_PICTURES = {
    **dict.fromkeys(("min_pixels", "max_pixels", "shortest_edge", "longest_edge"), _whole(10**9)),
    "image_mean": ("a list of 3 numbers", _is_mean),
    "image_std": ("a list of 3 numbers above 0", _is_deviation),
    "rescale_factor": ("a number above 0", lambda value: _is_number(value) and value > 0),
    **dict.fromkeys(
        ("do_resize", "do_rescale", "do_normalize", "do_convert_rgb"),
        ("true or false", lambda value: isinstance(value, bool)),
    ),
}
_KNOWN: Mapping[str, tuple[str, _Test]] = _SIZES | _PICTURES
"""Key, at any depth -> what its value must be, in words and as a test; null is the library's default."""


def require_values(file: Path, content: Mapping[str, Any]) -> None:
    """Refuse a file in which a number cannot be.

    Args:
        file: for the message.
        content: of the file.

    Raises:
        JigsawError: naming file and key.
    """
    for place, key, value in _values(content, ""):
        if value is None or key not in _KNOWN:
            continue
        wanted, holds = _KNOWN[key]
        if not holds(value):
            raise JigsawError(f"{file}: {place} is {named(value)}, not {wanted}; copy the file of the base model")


def _values(content: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str, Any]]:
    for key, value in content.items():
        place = f"{prefix}{key}"
        yield place, key, value
        if isinstance(value, Mapping):
            yield from _values(value, f"{place}.")
