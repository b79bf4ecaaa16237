"""Ask a model to solve puzzles: rows of a puzzle set in, the rows' small columns with the completions out, in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jigsaw.evaluation.completions import Completions
from jigsaw.evaluation.difficulty import contrast
from jigsaw.evaluation.generation import Answers, Ask, Generation, with_model

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
    ask = with_model(model, processor, Generation(max_new_tokens=max_new_tokens))
    return [row for found in complete_all(ask, rows, batch_size=batch_size) for row in found]


def complete_all(ask: Ask, rows: Sequence[Mapping[str, Any]], *, batch_size: int) -> list[list[Row]]:
    """The completions of rows, of which one batch at a time is in memory with its media; see `complete`."""
    found = []
    for start in range(0, len(rows), batch_size):
        found += complete(ask, [rows[i] for i in range(start, min(start + batch_size, len(rows)))])
    return found


def complete(ask: Ask, batch: Sequence[Mapping[str, Any]]) -> list[list[Row]]:
    """The completions of a batch: per row a list with one entry per sample, each without the row's pixels."""
    found = []
    for row, texts in zip(batch, ask(batch), strict=True):
        kept = {key: value for key, value in row.items() if key not in LARGE} | {"contrast": contrast(row)}
        found.append([kept | {"sample": number, "completion": text} for number, text in enumerate(texts)])
    return found


def complete_left(
    open_engine: Callable[[], Ask],
    ids: Sequence[str],
    row: Callable[[int], Mapping[str, Any]],
    kept: Completions,
    *,
    batch_size: int,
    on_batch: Callable[[int], object] = lambda _: None,
) -> list[list[Row]]:
    """The completions of puzzles, asking for those alone that are not kept yet, and keeping each batch.

    Args:
        open_engine: called where something is left to ask; the engine behind it is closed at the end.
        ids: of the puzzles.
        row: gives the puzzle of a place in `ids`, with its media.
        kept: what was answered before, and where answers go.
        batch_size: puzzles that are asked together.
        on_batch: called with the number of puzzles that were kept at first, then with that of each batch.
    """
    left = [number for number, identity in enumerate(ids) if identity not in kept]
    on_batch(len(ids) - len(left))
    if left:
        ask = open_engine()
        try:
            for start in range(0, len(left), batch_size):
                batch = [row(number) for number in left[start : start + batch_size]]
                kept.add(complete(ask, batch))
                on_batch(len(batch))
        finally:
            if isinstance(ask, Answers):
                ask.close()
    return [kept[identity] for identity in ids]
