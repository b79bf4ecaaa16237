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
from jigsaw.audit.rank_prior import Symbols, commonest, fitted_orders, ranks
from jigsaw.audit.shortcut import Shortcut
from jigsaw.tasks import Pieces
from jigsaw.tasks.media.likeness import mean_differences, signatures

Orders = list[list[int]]


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


def _constant(samples: Sequence[OrderSample]) -> Orders:
    return commonest([sample.answer for sample in samples], [sample.source for sample in samples])


def _label_order(samples: Sequence[OrderSample]) -> Orders | None:
    return _fitted(samples, lambda sample: [list(range(len(sample.answer)))])


def _edges(samples: Sequence[OrderSample]) -> Orders | None:
    if not all(len({piece.shape for piece in sample.pieces.frames}) == 1 for sample in samples):
        return None
    return [match_edges(sample.pieces.frames, sample.pieces.grid) for sample in samples]


def _fitted(samples: Sequence[OrderSample], columns: Callable[[OrderSample], list[list[int]] | None]) -> Orders | None:
    """Orders by a fitted prior. `columns` returns one list of symbols per feature, or None."""
    tables: list[Symbols] = []
    for sample in samples:
        symbols = columns(sample)
        if symbols is None:
            return None
        tables.append(np.array(symbols, dtype=np.int64).T)
    answers, sources = [sample.answer for sample in samples], [sample.source for sample in samples]
    return fitted_orders(tables, answers, sources)


def _of_pieces(*features: Callable[[Pixels], float]) -> Callable[[Sequence[OrderSample]], Orders | None]:
    """A shortcut by the ranks of the pieces' features."""

    def columns(sample: OrderSample) -> list[list[int]] | None:
        if not sample.pieces.frames:
            return None
        return [ranks([round(feature(piece), 6) for piece in sample.pieces.frames]) for feature in features]

    return lambda samples: _fitted(samples, columns)


def _bytes(samples: Sequence[OrderSample]) -> Orders | None:
    return _fitted(samples, lambda sample: [ranks(sample.stored)] if sample.stored else None)


def _blocks(samples: Sequence[OrderSample]) -> Orders | None:
    def columns(sample: OrderSample) -> list[list[int]] | None:
        if not sample.pieces.frames:
            return None
        return [[block_phase(piece, axis) for piece in sample.pieces.frames] for axis in (0, 1)]

    return _fitted(samples, columns)


def _position(samples: Sequence[OrderSample]) -> Orders | None:
    def columns(sample: OrderSample) -> list[list[int]] | None:
        if not sample.pieces.points:
            return None
        xs, ys = zip(*sample.pieces.points, strict=True)
        middle = max(xs) + min(xs)
        return [ranks(ys), ranks([abs(2 * x - middle) for x in xs])]

    return _fitted(samples, columns)


def _light_at_points(samples: Sequence[OrderSample]) -> Orders | None:
    def columns(sample: OrderSample) -> list[list[int]] | None:
        pieces = sample.pieces
        if pieces.picture is None or not pieces.points:
            return None
        rings = [ring(pieces.picture, point, pieces.radius) for point in pieces.points]
        return [ranks([float(one.mean()) for one in rings]), ranks([float(one[:, 2].mean()) for one in rings])]

    return _fitted(samples, columns)


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
    Shortcut("label order", "the numbers of the pieces", "order", _label_order),
    Shortcut("edges", "borders that continue each other", "edges", _edges),
    Shortcut("brightness and colour", "bright and blue above, dark and brown below", "look", _of_pieces(light, blue)),
    Shortcut("shading", "light that falls off towards one side of a piece", "look", _of_pieces(side_light, top_light)),
    Shortcut("detail", "more detail in some places than in others", "look", _of_pieces(detail)),
    Shortcut("size", "pieces of different sizes or lengths", "form", _of_pieces(size)),
    Shortcut("stored bytes", "the size of each piece's file", "form", _bytes),
    Shortcut("compression", "the offset of the 8-pixel grid of compression", "form", _blocks),
    Shortcut("position", "height in the picture (lower is nearer) and distance from the middle", "position", _position),
    Shortcut("light at points", "brightness and colour around the points", "look", _light_at_points),
    Shortcut("nearness", "near pieces look like the first picture", "look", _nearness),
)


def order_sample(row: Mapping[str, Any], pieces: Pieces, stored: Sequence[int]) -> OrderSample:
    """The sample of a loaded row."""
    return OrderSample(answer=list(row["answer"]), source=row["source"]["path"], pieces=pieces, stored=stored)
