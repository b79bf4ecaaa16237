"""Shortcuts for answers that are an order.

In: puzzles of one kind (task, number of pieces, grid). Out: an order per puzzle. A shortcut matches borders
(`edge_matching`), or uses a few features of each piece with a prior that is fitted on other sources (`rank_prior`).
None of them understands the picture, so a model can reach their scores without understanding it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from jigsaw.audit.edge_matching import match_edges
from jigsaw.audit.features import Pixels, block_phase, blue, detail, light, ring, side_light, size, top_light
from jigsaw.audit.rank_prior import commonest, fitted_orders, ranks
from jigsaw.audit.shortcut import Shortcut
from jigsaw.tasks import Pieces
from jigsaw.tasks.media.likeness import mean_differences, signatures

Orders = list[list[int]]

Columns = list[list[int]]
"""One list of symbols per feature, with one symbol per piece."""


@dataclass(frozen=True)
class OrderSample:
    """One puzzle for the shortcuts.

    Attributes:
        answer: the right order.
        source: what it was made from.
        pieces: the pieces by shown index.
        stored: bytes of each piece's file in a materialised set, else empty.
    """

    answer: list[int]
    source: str
    pieces: Pieces
    stored: Sequence[int] = ()


Solve = Callable[[Sequence[OrderSample]], Orders | None]


def _constant(samples: Sequence[OrderSample]) -> Orders:
    return commonest([sample.answer for sample in samples], [sample.source for sample in samples])


def _edges(samples: Sequence[OrderSample]) -> Orders | None:
    if not all(len({piece.shape for piece in sample.pieces.frames}) == 1 for sample in samples):
        return None
    return [match_edges(sample.pieces.frames, sample.pieces.grid) for sample in samples]


def _fitted(symbols: Callable[[OrderSample], Columns]) -> Solve:
    """A shortcut by a fitted prior. It does not apply if a column of a puzzle is empty."""

    def solve(samples: Sequence[OrderSample]) -> Orders | None:
        tables = [symbols(sample) for sample in samples]
        if not all(column for columns in tables for column in columns):
            return None
        answers, sources = [sample.answer for sample in samples], [sample.source for sample in samples]
        return fitted_orders([np.array(columns).T for columns in tables], answers, sources)

    return solve


def _of_pieces(*features: Callable[[Pixels], float]) -> Solve:
    """A shortcut by the ranks of the pieces in each feature."""
    return _fitted(lambda one: [ranks([round(value(each), 6) for each in one.pieces.frames]) for value in features])


@_fitted
def _blocks(sample: OrderSample) -> Columns:
    return [[block_phase(piece, axis) for piece in sample.pieces.frames] for axis in (0, 1)]


@_fitted
def _position(sample: OrderSample) -> Columns:
    xs, ys = [x for x, _ in sample.pieces.points], [y for _, y in sample.pieces.points]
    middle = max(xs, default=0) + min(xs, default=0)
    return [ranks(ys), ranks([abs(2 * x - middle) for x in xs])]


@_fitted
def _light_at_points(sample: OrderSample) -> Columns:
    pieces = sample.pieces
    rings = [] if pieces.picture is None else [ring(pieces.picture, point, pieces.radius) for point in pieces.points]
    return [ranks([float(one.mean()) for one in rings]), ranks([float(one[:, 2].mean()) for one in rings])]


def _nearness(samples: Sequence[OrderSample]) -> Orders | None:
    """Pieces sorted by similarity to the first picture, on places sorted by distance from it."""
    orders = []
    for sample in samples:
        pieces = sample.pieces
        if pieces.picture is None or len(pieces.reach) != len(pieces.frames) or not pieces.frames:
            return None
        frames = [Image.fromarray(frame) for frame in (pieces.picture, *(piece[0] for piece in pieces.frames))]
        small = np.concatenate([signatures(frame, [(0, 0, *frame.size)]) for frame in frames])
        likeness = np.argsort(mean_differences(small)[0, 1:], kind="stable")
        order = [0] * len(pieces.reach)
        for piece, place in zip(likeness, np.argsort(pieces.reach, kind="stable"), strict=True):
            order[place] = int(piece) + 1
        orders.append(order)
    return orders


SHORTCUTS: tuple[Shortcut[OrderSample], ...] = (
    Shortcut("constant", "the most frequent answer of other sources", "order", _constant),
    Shortcut("label order", "the numbers of the pieces", "order", _fitted(lambda one: [list(range(len(one.answer)))])),
    Shortcut("edges", "borders that continue each other", "edges", _edges),
    Shortcut("brightness and colour", "bright and blue above, dark and brown below", "look", _of_pieces(light, blue)),
    Shortcut("shading", "light that falls off towards one side of a piece", "look", _of_pieces(side_light, top_light)),
    Shortcut("detail", "more detail in some places than in others", "look", _of_pieces(detail)),
    Shortcut("size", "pieces of different sizes or lengths", "form", _of_pieces(size)),
    Shortcut("stored bytes", "the size of each piece's file", "form", _fitted(lambda one: [ranks(one.stored)])),
    Shortcut("compression", "the offset of the 8-pixel grid of compression", "form", _blocks),
    Shortcut("position", "height in the picture (lower is nearer) and distance from the middle", "position", _position),
    Shortcut("light at points", "brightness and colour around the points", "look", _light_at_points),
    Shortcut("nearness", "near pieces look like the first picture", "look", _nearness),
)


def order_sample(row: Mapping[str, Any], pieces: Pieces, stored: Sequence[int]) -> OrderSample:
    """The sample of a loaded row."""
    return OrderSample(answer=list(row["answer"]), source=row["source"]["path"], pieces=pieces, stored=stored)
