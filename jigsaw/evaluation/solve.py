"""Ask a model to solve puzzles: rows of a puzzle set in, the rows' small columns with the completions out, in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jigsaw.evaluation.difficulty import contrast
from jigsaw.evaluation.engines import Engine, Generation, TransformersEngine

LARGE = ("prompt", "images", "videos")
"""Columns that are not kept with a completion."""

Row = dict[str, Any]


def solve(
    model: Any,
    processor: Any,
    rows: Sequence[Mapping[str, Any]],
    *,
    batch_size: int = 64,
    max_new_tokens: int = 1024,
) -> list[Row]:
    """Greedy completions of puzzle rows by a model that is already open.

    Args:
        model: on its device; its mode (training or evaluation) is left as found.
        processor: of the same checkpoint.
        rows: indexable rows with `prompt` and media, as `load_puzzles` gives them.
        batch_size: rows that are generated together.
        max_new_tokens: completion limit.

    Returns:
        Per row its columns less prompt and media, `contrast`, and `completion`: the text, special tokens left out.
    """
    engine = TransformersEngine(model, processor, Generation(max_new_tokens=max_new_tokens))
    solved: list[Row] = []
    for start in range(0, len(rows), batch_size):
        batch = [rows[i] for i in range(start, min(start + batch_size, len(rows)))]
        solved += [row for found in complete(engine, batch) for row in found]
    return solved


def complete(engine: Engine, batch: Sequence[Mapping[str, Any]]) -> list[list[Row]]:
    """The completions of a batch: per row a list with one entry per sample, each without the row's pixels."""
    found = []
    for row, texts in zip(batch, engine(batch), strict=True):
        kept = {key: value for key, value in row.items() if key not in LARGE} | {"contrast": contrast(row)}
        found.append([kept | {"sample": number, "completion": text} for number, text in enumerate(texts)])
    return found
