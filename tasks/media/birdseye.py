"""A map of a scene seen from above, with numbered cameras.

In: points of the world with their colours, and cameras. Out: a picture in which a pixel shows the highest point below
the height of the cameras, so that a ceiling does not hide the scene. Cameras are discs with an arrow in the direction
of view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from jigsaw.tasks.media.marks import RED, mark_points
from jigsaw.tasks.media.poses import Cameras, Matrix

EMPTY = (236, 236, 236)
"""Colour of areas without measured points."""

MARGIN = 0.06
"""Free border of the map, as a share of its side."""

CEILING = 0.1
"""Points higher than this above the cameras are left out, in metres."""

_OVERSAMPLING = 4


@dataclass(frozen=True)
class Plan:
    """The projection of the world onto a map.

    Attributes:
        right, ahead: unit vectors of the world along the map's width, and up the map.
        start: metres along both at the lower left corner of the map.
        scale: pixels per metre.
        side: width and height of the map in pixels.
    """

    right: Matrix
    ahead: Matrix
    start: tuple[float, float]
    scale: float
    side: int

    def at(self, points: Matrix) -> Matrix:
        """Positions of points of the world on the map, x and y in pixels, shape `(N, 2)`."""
        x = (points @ self.right - self.start[0]) * self.scale
        y = self.side - (points @ self.ahead - self.start[1]) * self.scale
        return np.stack([x, y], axis=1)

    def way(self, direction: Matrix) -> tuple[float, float]:
        """A horizontal unit vector of the world on the map, y downwards."""
        return float(direction @ self.right), float(-direction @ self.ahead)


def plan_of(cameras: Cameras, points: Matrix, side: int) -> Plan:
    """A square map with the cameras and 98% of the points; up is the direction of the first camera."""
    right, ahead = cameras.axes(cameras.usable()[0])
    level = np.stack([points @ right, points @ ahead], axis=1)
    places = np.stack([cameras.places @ right, cameras.places @ ahead], axis=1)
    low = np.minimum(np.percentile(level, 1, axis=0), places.min(axis=0))
    high = np.maximum(np.percentile(level, 99, axis=0), places.max(axis=0))
    metres = float((high - low).max()) / (1 - 2 * MARGIN)
    middle = (low + high) / 2
    return Plan(
        right, ahead, (float(middle[0] - metres / 2), float(middle[1] - metres / 2)), side / max(metres, 1e-6), side
    )


def draw_map(plan: Plan, cameras: Cameras, points: Matrix, colors: Matrix) -> Image.Image:
    """The points from above, without those above the cameras.

    Args:
        points: `(N, 3)` in metres, all finite.
        colors: uint8 RGB, `(N, 3)`.
    """
    heights = points @ cameras.up
    low = heights < np.median(cameras.places @ cameras.up) + CEILING
    order = np.argsort(heights[low], kind="stable")  # the highest is drawn last
    places, shades = plan.at(points[low])[order], colors[low][order]
    picture = np.full((plan.side, plan.side, 3), EMPTY, dtype=np.uint8)
    blot = max(1, round(plan.side / 112))
    for down in range(blot):
        for across in range(blot):
            x, y = np.floor(places[:, 0]).astype(int) + across, np.floor(places[:, 1]).astype(int) + down
            inside = (x >= 0) & (y >= 0) & (x < plan.side) & (y < plan.side)
            picture[y[inside], x[inside]] = shades[inside]
    return Image.fromarray(picture)


def mark_cameras(
    picture: Image.Image, places: Sequence[Sequence[float]], ways: Sequence[Sequence[float]], radius: int
) -> Image.Image:
    """A copy of a map with a numbered disc on every camera and an arrow in its direction of view.

    Args:
        places: x and y in pixels; camera `j` gets the number `j + 1`.
        ways: the directions of view on the map, unit vectors with y downwards.
        radius: radius of the discs in pixels.
    """
    marked = picture.copy()
    for (x, y), (across, down) in zip(places, ways, strict=True):
        reach = round(3 * radius)
        large = Image.new("RGBA", ((2 * reach + 1) * _OVERSAMPLING,) * 2, (*RED[:3], 0))
        middle = large.width / 2
        tip, base, half = 2.6 * radius * _OVERSAMPLING, 0.9 * radius * _OVERSAMPLING, 0.8 * radius * _OVERSAMPLING
        corners = [(tip, 0.0), (base, half), (base, -half)]
        turned = [(middle + across * a - down * b, middle + down * a + across * b) for a, b in corners]
        ImageDraw.Draw(large).polygon(turned, fill=(*RED[:3], 255))
        arrow = large.resize((2 * reach + 1,) * 2, Image.Resampling.BOX)
        marked.paste(arrow.convert("RGB"), (round(x) - reach, round(y) - reach), mask=arrow.getchannel("A"))
    return mark_points(marked, [(round(x), round(y)) for x, y in places], radius, (*RED[:3], 255))
