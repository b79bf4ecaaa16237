"""Checks that the numbers in the JSON files of a checkpoint are in a possible range, before a library reads them.

In: the content of `config.json` or of a processor's file. Out: nothing, or an error that names file and key. Otherwise
a wrong number would cause an obscure error in a library, use up all memory (a billion layers) or, worst of all, change
the pictures that the model sees without any error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jigsaw.errors import JigsawError
from jigsaw.text import named

_Test = Callable[[Any], bool]


def _integer(most: int) -> tuple[str, _Test]:
    return f"a whole number from 1 to {most:,}", lambda value: type(value) is int and 1 <= value <= most


def _sides(most: int) -> tuple[str, _Test]:
    """One number, or a list of two: height and width."""
    description, test = _integer(most)

    def both(value: Any) -> bool:
        return test(value) or (isinstance(value, list) and len(value) == 2 and all(map(test, value)))

    return description, both


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def _is_mean(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_is_number, value))


def _is_deviation(value: Any) -> bool:
    return _is_mean(value) and all(part > 0 for part in value)


_SIZES = {
    **dict.fromkeys(("num_hidden_layers", "depth"), _integer(1000)),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "num_heads"), _integer(10_000)),
    **dict.fromkeys(("hidden_size", "embed_dim", "out_hidden_size", "head_dim"), _integer(1_000_000)),
    **dict.fromkeys(("intermediate_size", "vocab_size", "max_position_embeddings"), _integer(100_000_000)),
    **dict.fromkeys(("in_channels", "in_chans"), _integer(64)),
    **dict.fromkeys(("patch_size", "spatial_patch_size", "temporal_patch_size"), _sides(256)),
    "image_size": _sides(100_000),
    **dict.fromkeys(("merge_size", "spatial_merge_size"), _integer(64)),
}
_PICTURES = {
    **dict.fromkeys(("min_pixels", "max_pixels", "shortest_edge", "longest_edge"), _integer(10**9)),
    "image_mean": ("a list of 3 numbers", _is_mean),
    "image_std": ("a list of 3 numbers above 0", _is_deviation),
    "rescale_factor": ("a number above 0", lambda value: _is_number(value) and value > 0),
    **dict.fromkeys(
        ("do_resize", "do_rescale", "do_normalize", "do_convert_rgb"),
        ("true or false", lambda value: isinstance(value, bool)),
    ),
}
_KNOWN: Mapping[str, tuple[str, _Test]] = _SIZES | _PICTURES
"""Key, at any depth -> description and test of its value; null is the library's default."""


def require_values(file: Path, content: Mapping[str, Any]) -> None:
    """Check the values of a file.

    Args:
        file: the file, for the message.
        content: its content.

    Raises:
        JigsawError: a value is not possible; the message names file and key.
    """
    for place, key, value in _values(content, ""):
        if value is None or key not in _KNOWN:
            continue
        description, test = _KNOWN[key]
        if not test(value):
            raise JigsawError(f"{file}: {place} is {named(value)}, not {description}; copy the file of the base model")


def _values(content: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str, Any]]:
    for key, value in content.items():
        place = f"{prefix}{key}"
        yield place, key, value
        if isinstance(value, Mapping):
            yield from _values(value, f"{place}.")
