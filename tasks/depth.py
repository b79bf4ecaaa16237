"""The depth jigsaw: numbered points on a picture, to be ordered from the nearest to the farthest.

In: one RGB-D pair, a picture and its depth map. Out: a puzzle whose places are ranks of depth, rendered as the picture
with a numbered disc on every point. `DepthGeometry` contains all that rendering needs.

The paper (section 3.3) has six points with a depth of 0.1 to 10 m, at least 40 px and more than 0.2 m apart, and red
discs. Its sampling is not published; here points are drawn uniformly from all measured pixels that are away from depth
edges and within the limits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from random import Random
from typing import Annotated, Any, ClassVar, cast

import numpy as np
from PIL import Image
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from jigsaw.tasks.contract import AnswerStyle, Media, Message, Pieces, PromptVariant, Puzzle, Reject, Source
from jigsaw.tasks.foreign import ForeignRows, pair_of
from jigsaw.tasks.measured import CACHE_BYTES, MeasuredConfig, MeasuredTask, PictureGeometry
from jigsaw.tasks.media.caching import BoundedCache
from jigsaw.tasks.media.depthmaps import local_range
from jigsaw.tasks.media.grids import too_long
from jigsaw.tasks.media.marks import mark_points
from jigsaw.tasks.media.photos import MAX_PIXELS, SCALES, read_header, read_photo
from jigsaw.tasks.permutations import answer_of, draw_shown
from jigsaw.tasks.prompts import instruction_of, user_message

DRAWS = 40
"""Attempts to draw points that are far enough apart."""

CANDIDATES = 4000
"""Random pixels from which the points of an attempt are chosen."""

EDGE_SHARE, EDGE_METRES = 0.05, 0.05
"""Around a point, depth may vary by this share of it or by these metres, whichever is more."""

FOREIGN_RADIUS = 15.0
"""Radius of the authors' discs in pixels of the original picture."""


class DepthGeometry(PictureGeometry):
    """The points of a puzzle in pixels of the picture as shown, nearest first.

    Attributes:
        radius: radius of the discs.
        points: x and y of each point.
        depths: depth of each point in metres; None for an imported puzzle.
        shown: the 0-based points, nearest first, as they are numbered.
    """

    radius: int
    points: list[list[int]]
    depths: list[float] | None
    shown: list[int]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class DepthConfig(MeasuredConfig):
    """Choice and marks of the points."""

    min_distance: Annotated[float, Field(ge=0, description="least distance of two points in the picture, in px")] = 40.0
    radius: Annotated[
        int | None, Field(ge=6, le=500, description="radius of the discs, in px; null: from the size of the picture")
    ] = None


class DepthTask(MeasuredTask):
    """Order numbered points of a picture from the nearest to the farthest."""

    name: ClassVar[str] = "depth"
    SMALL: ClassVar[Mapping[str, Any]] = {**MeasuredTask.SMALL, "radius": 6, "min_distance": 16}
    Config: ClassVar[type] = DepthConfig
    REASONS: ClassVar[Mapping[str, str]] = {
        **MeasuredTask.REASONS,
        "too_few_points": "fewer than `points` points are far enough apart in the picture and in depth",
    }

    PIECE = "point"
    SIZE = ("points", ("3", "4", "6"))
    VARIANTS = (
        PromptVariant(
            "Look at the {count} numbered spots.", "", "Which is closest to you, which comes next, and so on?"
        ),
        PromptVariant(
            "{count} marks were put on things at several distances.", "", "Sort the marks from close by to far away."
        ),
    )
    REMEDIES: ClassVar = {
        "position": "set more points or a smaller min_gap, or use pictures from other heights and angles",
        "look": "use scenes with different lighting, or remove the puzzles that the rule solves",
    }
    FOREIGN: ClassVar[ForeignRows | None] = ForeignRows(column="images", mark="depth_jigsaw")

    config: DepthConfig

    def __init__(self, config: DepthConfig | None = None) -> None:
        super().__init__(config)
        self._fields: BoundedCache[tuple[Any, Any]] = BoundedCache(CACHE_BYTES, lambda field: 12 * len(field[1]))

    def choose(self, source: Source, size: tuple[int, int], rng: Random) -> dict[str, Any] | Reject:
        """Draw points that are far enough apart in the picture and in depth."""
        radius = self.config.radius or max(9, round(min(size) / 32))
        key = (source.fingerprint, size, radius)
        places, depths = self._fields.get(key, lambda: self._field(source, size, radius))
        chosen = _draw_points(places, depths, self.config, radius, rng)
        if chosen is None:
            detail = (
                f"{len(places)} usable pixels do not give points={self.config.points} points that are far enough apart"
            )
            return Reject("too_few_points", detail)
        return {
            "radius": radius,
            "points": [[int(places[index][0]), int(places[index][1])] for index in chosen],
            "depths": [round(float(depths[index]), 4) for index in chosen],
        }

    def render(self, puzzle: Puzzle, source: Source) -> Media:
        """The picture with its numbered discs."""
        geometry = cast(DepthGeometry, puzzle.geometry)
        return Media(images=[mark_points(self._picture(puzzle, source), _shown_points(geometry), geometry["radius"])])

    def prompt(self, puzzle: Puzzle) -> list[Message]:
        """The picture, the question and the answer instruction."""
        count = puzzle.num_pieces
        asked = (
            f"The picture has {count} points marked with red discs, numbered 1 to {count}. "
            "List the points by their distance from the camera, nearest first."
        )
        return user_message([{"type": "image"}, f"{asked} {instruction_of(puzzle)}"])

    def explain(self, puzzle: Puzzle, source: Source) -> list[tuple[str, Image.Image]]:
        """The depth map in false colours, with the same numbered points."""
        if "depth" not in source.files:
            return []  # an imported puzzle
        geometry = cast(DepthGeometry, puzzle.geometry)
        picture, near, far = self.depth_picture(puzzle, source)
        title = f"Measured depth, {near:.2f} m (red) to {far:.2f} m (blue)"
        if self._is_relative:
            title = f"Relative depth, {near:.2f} (red) to {far:.2f} (blue) of the map's range"
        return [(title, mark_points(picture, _shown_points(geometry), geometry["radius"]))]

    def pieces(self, puzzle: Puzzle, media: Media) -> Pieces:
        """The points on the picture."""
        geometry = cast(DepthGeometry, puzzle.geometry)
        picture = np.asarray(media.images[0].convert("RGB"))
        return Pieces(points=_shown_points(geometry), picture=picture, radius=geometry["radius"])

    def difficulty(self, puzzle: Puzzle, pieces: Pieces) -> float | None:
        """The smallest gap between successive depths, relative to the farther one; None for an imported puzzle."""
        depths = cast(DepthGeometry, puzzle.geometry)["depths"]
        return min((far - near) / far for near, far in pairwise(depths)) if depths else None

    def notes(self, puzzle: Puzzle) -> Sequence[str]:
        """The depth of each point, nearest first."""
        geometry = cast(DepthGeometry, puzzle.geometry)
        unit = "" if geometry.get("relative") else " m"
        steps = zip(answer_of(geometry["shown"]), geometry["depths"] or (), strict=False)
        listed = ", ".join(f"point {index} at {depth:.2f}{unit}" for index, depth in steps)
        return [f"Nearest first: {listed}"] if listed else []

    def adopt(self, source: Source, rng: Random, about: Mapping[str, Any], style: AnswerStyle) -> Puzzle | Reject:
        """The picture with the row's `points`, (row, column) nearest first, without a depth map."""
        points = [(float(column), float(row)) for row, column in about["points"]]
        width, height = read_header(source.files["color"]).size
        read_photo(source.files["color"], max(SCALES))  # finds damaged files
        if len(points) < 2 or not all(0 <= x < width and 0 <= y < height for x, y in points):
            return Reject("too_few_points", f"the {len(points)} points are not all in a picture of {width}x{height}")
        size = pair_of(about.get("resize_size")) or (width, height)
        if size[0] * size[1] > MAX_PIXELS:
            return Reject("too_large", f"resized to {size[0]}x{size[1]} pixels, more than {MAX_PIXELS:,}")
        if too_long(size):
            return Reject("too_long", f"shown as {size[0]}x{size[1]} pixels")
        across, down = size[0] / width, size[1] / height
        shown = draw_shown(len(points), rng)
        geometry: DepthGeometry = {
            "scale": 1,
            "source_size": [width, height],
            "size": list(size),
            "radius": max(6, round(FOREIGN_RADIUS * min(across, down))),
            "points": [[round(x * across), round(y * down)] for x, y in points],
            "depths": None,
            "shown": list(shown),
        }
        return Puzzle(self.name, answer_of(shown), geometry, style)

    def _field(self, source: Source, size: tuple[int, int], radius: int) -> tuple[Any, Any]:
        """The pixels that may be points, int `(N, 2)` with x and y, and their depths in metres, float `(N,)`."""
        depth = self.depth_map(source, size)
        allowed = self._allowed(depth)
        steady: Any = np.maximum(EDGE_METRES, EDGE_SHARE * np.nan_to_num(depth))
        if self._is_relative:
            steady = self.config.relative_gap
        allowed &= local_range(depth, max(3, radius // 2)) <= steady
        allowed[: radius + 1], allowed[-radius - 1 :] = False, False
        allowed[:, : radius + 1], allowed[:, -radius - 1 :] = False, False
        y, x = np.nonzero(allowed)
        return np.stack([x, y], axis=1).astype(np.int32), depth[y, x]


def _shown_points(geometry: DepthGeometry) -> list[tuple[int, int]]:
    """The points in the order of their numbers."""
    return [(x, y) for x, y in (geometry["points"][rank] for rank in geometry["shown"])]


def _draw_points(places: Any, depths: Any, config: DepthConfig, radius: int, rng: Random) -> list[int] | None:
    """Indices of points that are far enough apart in the picture and in depth, nearest first; None if not found."""
    apart = max(config.min_distance, 2 * radius + 3)
    gap = config.relative_gap if config.kind in ("relative", "inverse") else config.min_gap
    for _ in range(DRAWS):
        sample = np.array(rng.sample(range(len(places)), min(CANDIDATES, len(places))), dtype=np.int64)
        chosen: list[int] = []
        while len(sample) and len(chosen) < config.points:
            index = int(sample[0])  # the sample is in random order, so its first element is a uniform draw
            chosen.append(index)
            far = ((places[sample] - places[index]) ** 2).sum(axis=1) >= apart**2
            sample = sample[far & (np.abs(depths[sample] - depths[index]) > gap)]
        if len(chosen) == config.points:
            return sorted(chosen, key=lambda index: float(depths[index]))
    return None
