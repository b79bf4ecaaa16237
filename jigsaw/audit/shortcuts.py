"""The shortcuts that `jigsaw audit` tries, and what closes each.

In: puzzles of one kind (task, number of pieces, grid). Out: an order per puzzle. A shortcut is a rule without
knowledge of the world (`edges`), or a few numbers about each piece with a prior of places fitted on other sources
(`rank_prior`). None of them understands a picture: what they reach, a model may reach without looking.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from jigsaw.audit.edge_matching import match_edges
from jigsaw.audit.rank_prior import Symbols, commonest, fitted_orders, ranks
from jigsaw.tasks import Leak, Pieces, task_named
from jigsaw.tasks.likeness import mean_differences, signatures

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Orders = list[list[int]]


@dataclass(frozen=True)
class Sample:
    """One puzzle as the shortcuts see it.

    Attributes:
        answer: the right order.
        source: what it was made from.
        pieces: the piece at each number.
        stored: per shown piece the bytes of its file in a materialised set, else empty.
    """

    answer: list[int]
    source: str
    pieces: Pieces
    stored: Sequence[int] = ()


@dataclass(frozen=True)
class Shortcut:
    """One shortcut.

    Attributes:
        name: as it is reported.
        what: what it reads, in words.
        leak: the kind of leak, by which a task has its remedy.
        solve: the orders, or None where it does not apply.
    """

    name: str
    what: str
    leak: Leak
    solve: Callable[[Sequence[Sample]], Orders | None]


def _constant(samples: Sequence[Sample]) -> Orders:
    return commonest([sample.answer for sample in samples], [sample.source for sample in samples])


def _label_order(samples: Sequence[Sample]) -> Orders | None:
    return _fitted(samples, lambda sample: [list(range(len(sample.answer)))])


def _edges(samples: Sequence[Sample]) -> Orders | None:
    if not all(len({piece.shape for piece in sample.pieces.frames}) == 1 for sample in samples):
        return None
    return [match_edges(sample.pieces.frames, sample.pieces.grid) for sample in samples]


def _fitted(samples: Sequence[Sample], columns: Callable[[Sample], list[list[int]] | None]) -> Orders | None:
    """Orders by a fitted prior; `columns` gives one symbol per piece and feature, or None."""
    tables: list[Symbols] = []
    for sample in samples:
        found = columns(sample)
        if found is None:
            return None
        tables.append(np.array(found, dtype=np.int64).T)
    answers, sources = [sample.answer for sample in samples], [sample.source for sample in samples]
    return fitted_orders(tables, answers, sources)


def _of_pieces(*features: Callable[[Pixels], float]) -> Callable[[Sequence[Sample]], Orders | None]:
    """A shortcut by the ranks of numbers that each piece's pixels give."""

    def columns(sample: Sample) -> list[list[int]] | None:
        if not sample.pieces.frames:
            return None
        return [ranks([round(feature(piece), 6) for piece in sample.pieces.frames]) for feature in features]

    return lambda samples: _fitted(samples, columns)


def light(piece: Pixels) -> float:
    """Mean brightness."""
    return float(piece.mean())


def blue(piece: Pixels) -> float:
    """How much more blue than red there is."""
    return float(piece[..., 2].mean() - piece[..., 0].mean())


def detail(piece: Pixels) -> float:
    """Mean difference of neighbouring pixels of the first frame."""
    small = piece[0].astype(np.float64).mean(axis=2)
    return float(np.abs(np.diff(small, axis=0)).mean() + np.abs(np.diff(small, axis=1)).mean())


def side_light(piece: Pixels) -> float:
    """How much brighter the left half is than the right."""
    half = piece.shape[2] // 2
    return float(piece[:, :, :half].mean() - piece[:, :, -half:].mean())


def top_light(piece: Pixels) -> float:
    """How much brighter the upper half is than the lower."""
    half = piece.shape[1] // 2
    return float(piece[:, :half].mean() - piece[:, -half:].mean())


def size(piece: Pixels) -> float:
    """How many numbers the piece has."""
    return float(np.prod(piece.shape))


def _bytes(samples: Sequence[Sample]) -> Orders | None:
    return _fitted(samples, lambda sample: [ranks(sample.stored)] if sample.stored else None)


def block_phase(piece: Pixels, axis: int) -> int:
    """Where the 8-pixel grid of a JPEG or of a video codec falls in a piece: 0 to 7, or 8 where none stands out.

    Args:
        piece: `(T, height, width, 3)`.
        axis: 0 for rows, 1 for columns.
    """
    grey = piece.mean(axis=(0, 3))
    # Second differences: a picture's own slopes vanish, the steps at block borders stay.
    jumps = np.abs(np.diff(grey, n=3, axis=axis)).mean(axis=1 - axis)
    if len(jumps) < 24:
        return 8
    means = np.array([jumps[phase::8].mean() for phase in range(8)])
    best = int(means.argmax())
    return best if means[best] > 1.15 * np.median(means) else 8


def _blocks(samples: Sequence[Sample]) -> Orders | None:
    def columns(sample: Sample) -> list[list[int]] | None:
        if not sample.pieces.frames:
            return None
        return [[block_phase(piece, axis) for piece in sample.pieces.frames] for axis in (0, 1)]

    return _fitted(samples, columns)


def _position(samples: Sequence[Sample]) -> Orders | None:
    def columns(sample: Sample) -> list[list[int]] | None:
        if not sample.pieces.points:
            return None
        xs, ys = zip(*sample.pieces.points, strict=True)
        middle = max(xs) + min(xs)
        return [ranks(ys), ranks([abs(2 * x - middle) for x in xs])]

    return _fitted(samples, columns)


def _light_at_points(samples: Sequence[Sample]) -> Orders | None:
    def columns(sample: Sample) -> list[list[int]] | None:
        seen = sample.pieces
        if seen.picture is None or not seen.points:
            return None
        rings = [ring(seen.picture, point, seen.radius) for point in seen.points]
        return [ranks([float(one.mean()) for one in rings]), ranks([float(one[:, 2].mean()) for one in rings])]

    return _fitted(samples, columns)


def ring(picture: Pixels, point: tuple[float, float], radius: int) -> Pixels:
    """The pixels around a disc, which itself covers what lies under it; shape `(N, 3)`."""
    down, across = np.ogrid[: picture.shape[0], : picture.shape[1]]
    apart = (down - point[1]) ** 2 + (across - point[0]) ** 2
    around: Pixels = picture[(apart > (radius + 1) ** 2) & (apart < (2 * radius + 2) ** 2)]
    return around if len(around) else picture.reshape(-1, 3)


USUAL_REMEDIES: Mapping[Leak, str] = {
    "order": "sampling: the shown orders are not drawn evenly; build the set again, with identity=true",
    "edges": "leave a gap between the pieces",
    "look": "sampling: other sources",
    "form": "resize the pieces to one size",
    "position": "sampling: other sources, or points in other places",
}
"""What closes a leak, where its task has no remedy of its own."""


def remedy_of(leak: Leak, task: str) -> str:
    """What closes a leak of the task of that name."""
    return task_named(task).REMEDIES.get(leak, USUAL_REMEDIES[leak])


def _nearness(samples: Sequence[Sample]) -> Orders | None:
    """Per place the piece whose likeness to the puzzle's first picture has the rank of the place's distance from it."""
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


SHORTCUTS: tuple[Shortcut, ...] = (
    Shortcut("constant", "the commonest answer of other sources", "order", _constant),
    Shortcut("label order", "the numbers of the pieces", "order", _label_order),
    Shortcut("edges", "borders that continue each other", "edges", _edges),
    Shortcut("brightness and colour", "light and blue above, dark and brown below", "look", _of_pieces(light, blue)),
    Shortcut("shading", "light that falls off towards one side of a piece", "look", _of_pieces(side_light, top_light)),
    Shortcut("detail", "more detail in some places than in others", "look", _of_pieces(detail)),
    Shortcut("size", "pieces of different sizes or lengths", "form", _of_pieces(size)),
    Shortcut("stored bytes", "the size of each piece's file", "form", _bytes),
    Shortcut("compression", "where the 8-pixel grid of compression falls", "form", _blocks),
    Shortcut("position", "height in the picture (lower is nearer) and distance from the middle", "position", _position),
    Shortcut("light at points", "brightness and colour around the points", "look", _light_at_points),
    Shortcut("nearness", "what is near the first picture looks like it", "look", _nearness),
)
