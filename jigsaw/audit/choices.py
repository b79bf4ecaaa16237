"""Shortcuts for answers that are a choice.

In: puzzles of one kind. Out: a label per puzzle. All rules except those for borders are fitted on other sources:

- the most frequent label;
- if each option is a picture, a clip or a point: the option whose brightness, blue or other feature has the rank that
  is most often right;
- else: the most frequent label among puzzles whose pictures have the same few bits.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from jigsaw.audit.features import Pixels, blue, border, detail, light, motion, ring, side_light, size, top_light
from jigsaw.audit.rank_prior import ranks
from jigsaw.audit.shortcut import Shortcut
from jigsaw.tasks import Pieces
from jigsaw.tasks.media.likeness import mean_differences, signatures


@dataclass(frozen=True)
class ChoiceSample:
    """One puzzle for the shortcuts.

    Attributes:
        options: the labels.
        answer: the right one.
        source: what it was made from.
        shown: frames of each option, shape `(T, height, width, 3)`; empty if the options are words.
        images: all images of the puzzle, or the middle frames of its clips, in the order of the prompt.
        stored: bytes of each option's file in a materialised set, else empty.
        pieces: the positions of the options on a picture, and its hole.
        clips: frames of the clips of the puzzle.
    """

    options: tuple[str, ...]
    answer: str
    source: str
    shown: Sequence[Pixels]
    images: Sequence[Pixels]
    stored: Sequence[int] = ()
    pieces: Pieces = field(default_factory=Pieces)
    clips: Sequence[Pixels] = ()


Solve = Callable[[Sequence[ChoiceSample]], list[str] | None]


def _by_symbol(symbol: Callable[[ChoiceSample], Hashable]) -> Solve:
    """By the most frequent label among puzzles of other sources with the same symbol.

    It does not apply if a puzzle has no symbol.
    """

    def solve(samples: Sequence[ChoiceSample]) -> list[str] | None:
        symbols = [symbol(sample) for sample in samples]
        if None in symbols:
            return None
        votes = _votes(samples, symbols, [sample.answer for sample in samples])
        return [max(own.options, key=counts.__getitem__) for own, counts in zip(samples, votes, strict=True)]

    return solve


def _by_rank(values: Callable[[ChoiceSample], Sequence[float]]) -> Solve:
    """By the rank that is most frequent among the right options of other sources.

    It does not apply if a puzzle does not have one value for each option.
    """

    def solve(samples: Sequence[ChoiceSample]) -> list[str] | None:
        placed = [ranks([round(value, 6) for value in values(sample)]) for sample in samples]
        if any(len(own) != len(sample.options) for sample, own in zip(samples, placed, strict=True)):
            return None
        right = [own[sample.options.index(sample.answer)] for sample, own in zip(samples, placed, strict=True)]
        votes = _votes(samples, [True] * len(samples), right)
        best = [np.argmax([counts[rank] for rank in own]) for own, counts in zip(placed, votes, strict=True)]
        return [sample.options[at] for sample, at in zip(samples, best, strict=True)]

    return solve


def _votes(samples: Sequence[ChoiceSample], symbols: Sequence[Any], values: Sequence[Any]) -> list[Counter[Any]]:
    """For each puzzle, how often each value occurs on puzzles of other sources with the same symbol."""
    sources = [sample.source for sample in samples]
    everywhere: dict[Hashable, Counter[Any]] = defaultdict(Counter)
    in_source: dict[Hashable, Counter[Any]] = defaultdict(Counter)
    for symbol, value, source in zip(symbols, values, sources, strict=True):
        everywhere[symbol][value] += 1
        in_source[symbol, source][value] += 1
    return [everywhere[symbol] - in_source[symbol, source] for symbol, source in zip(symbols, sources, strict=True)]


def _of_options(feature: Callable[[Pixels], float]) -> Solve:
    return _by_rank(lambda sample: [feature(piece) for piece in sample.shown])


@_by_rank
def _unlikeness(sample: ChoiceSample) -> list[float]:
    """For each option the mean difference to the others, of the middle frame at 16x16 pixels."""
    if len(sample.shown) < 2:
        return []
    frames = [Image.fromarray(piece[len(piece) // 2]) for piece in sample.shown]
    apart = mean_differences(np.concatenate([signatures(frame, [(0, 0, *frame.size)]) for frame in frames]))
    return [float(each) for each in apart.mean(axis=1)]


@_by_symbol
def _sides(sample: ChoiceSample) -> Hashable:
    """The brighter sides of each picture, if the options are words."""
    if sample.shown or not sample.images:
        return None
    return tuple((top_light(image[None]) > 0, side_light(image[None]) > 0) for image in sample.images)


def _gap(one: Pixels, side: int, other: Pixels, other_side: int) -> float:
    """The mean difference of two borders."""
    return float(np.abs(border(one, side) - border(other, other_side)).mean())


def _of_hole(samples: Sequence[ChoiceSample]) -> list[str] | None:
    """For each puzzle the patch with the borders that match those of the hole."""
    labels = []
    for sample in samples:
        picture, hole = sample.pieces.picture, sample.pieces.hole
        if picture is None or hole is None or not sample.shown:
            return None
        left, top, right, bottom = hole
        around = {  # a line outside the picture is empty
            0: picture[top - 1 : top, left:right],
            2: picture[bottom : bottom + 1, left:right],
            1: picture[top:bottom, right : right + 1].swapaxes(0, 1),
            3: picture[top:bottom, left - 1 : left].swapaxes(0, 1),
        }
        costs = []
        for piece in sample.shown:
            apart = [_gap(piece[0], side, line, 0) for side, line in around.items() if line.size]
            costs.append(float(np.mean(apart)) if apart else 0.0)
        labels.append(sample.options[int(np.argmin(costs))])
    return labels


@_by_rank
def _seams(sample: ChoiceSample) -> list[float]:
    """For each tile of a grid the difference of its borders to those of its neighbours."""
    if sample.pieces.grid is None or not sample.shown:
        return []
    rows, columns = sample.pieces.grid
    costs = []
    for place, piece in enumerate(sample.shown):
        row, column = divmod(place, columns)
        steps = [(-1, 0, 0), (0, 1, 1), (1, 0, 2), (0, -1, 3)]
        neighbors = [
            (side, (row + down) * columns + column + across)
            for down, across, side in steps
            if 0 <= row + down < rows and 0 <= column + across < columns
        ]
        apart = [_gap(piece[0], side, sample.shown[other][0], (side + 2) % 4) for side, other in neighbors]
        costs.append(float(np.mean(apart)) if apart else 0.0)
    return costs


@_by_symbol
def _touching(sample: ChoiceSample) -> Hashable:
    """The side of the first of two pictures that matches the second picture best, if the options are words."""
    if sample.shown or len(sample.images) != 2:
        return None
    one, other = sample.images
    return int(np.argmin([_gap(one, side, other, (side + 2) % 4) for side in range(4)]))


@_by_symbol
def _lighter(sample: ChoiceSample) -> Hashable:
    """Whether the first of two pictures is brighter and bluer, if the options are words."""
    if sample.shown or len(sample.images) != 2:
        return None
    one, other = (image[None] for image in sample.images)
    return light(one) > light(other), blue(one) > blue(other)


@_by_rank
def _motions(sample: ChoiceSample) -> list[float]:
    return [motion(piece) for piece in sample.shown if len(piece) > 1]


@_by_symbol
def _drift(sample: ChoiceSample) -> Hashable:
    """Whether clips become brighter, more detailed and faster over time, if the options are words."""
    if sample.shown or not sample.clips:
        return None
    return tuple(
        (
            light(clip[-1:]) > light(clip[:1]),
            detail(clip[-1:]) > detail(clip[:1]),
            motion(clip[len(clip) // 2 :]) > motion(clip[: len(clip) // 2 + 1]),
        )
        for clip in sample.clips
    )


@_by_rank
def _heights(sample: ChoiceSample) -> list[float]:
    return [y for _, y in sample.pieces.points]


@_by_rank
def _middles(sample: ChoiceSample) -> list[float]:
    """For each point its horizontal distance from the middle of the picture."""
    picture = sample.pieces.picture
    return [] if picture is None else [abs(2 * x - picture.shape[1]) for x, _ in sample.pieces.points]


@_by_rank
def _rings(sample: ChoiceSample) -> list[float]:
    picture, radius = sample.pieces.picture, sample.pieces.radius
    if picture is None:
        return []
    return [float(ring(picture, point, radius).mean()) for point in sample.pieces.points]


SHORTCUTS: tuple[Shortcut[ChoiceSample], ...] = (
    Shortcut("constant", "the most frequent label", "order", _by_symbol(lambda _: True)),
    Shortcut("brightness", "the brightness of each option", "look", _of_options(light)),
    Shortcut("colour", "the blue of each option", "look", _of_options(blue)),
    Shortcut("detail", "the fine texture of each option", "look", _of_options(detail)),
    Shortcut("unlike", "the difference of each option to the others", "look", _unlikeness),
    Shortcut("size", "width and height of each option", "form", _of_options(size)),
    Shortcut("file size", "bytes of each option's file", "form", _by_rank(lambda one: one.stored)),
    Shortcut("sides", "the brighter sides of the pictures", "look", _sides),
    Shortcut("borders of the hole", "borders that match those of the hole", "edges", _of_hole),
    Shortcut("seams", "borders of a tile that do not match its neighbours", "edges", _seams),
    Shortcut("two borders", "the side at which two pictures touch", "edges", _touching),
    Shortcut("two lights", "which of two pictures is brighter and bluer", "look", _lighter),
    Shortcut("motion", "how much the frames of each option differ", "look", _motions),
    Shortcut("drift", "whether clips become brighter or more detailed", "look", _drift),
    Shortcut("height", "height in the picture; lower is nearer", "position", _heights),
    Shortcut("middle", "distance from the middle", "position", _middles),
    Shortcut("light at points", "brightness around the points", "look", _rings),
)


def choice_sample(row: Mapping[str, Any], pieces: Pieces, stored: Sequence[int]) -> ChoiceSample:
    """The sample of a loaded row."""
    images = [np.asarray(image.convert("RGB")) for image in row.get("images") or ()]
    images += [clip.frames[len(clip.frames) // 2] for clip in row.get("videos") or ()]
    options = tuple(row["answer_args"]["options"])
    return ChoiceSample(
        options=options,
        answer=row["answer"],
        source=row["source"]["path"],
        shown=pieces.frames if len(pieces.frames) == len(options) else (),
        images=images,
        stored=stored if len(stored) == len(options) else (),
        pieces=pieces,
        clips=[clip.frames for clip in row.get("videos") or ()],
    )
