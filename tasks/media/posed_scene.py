"""A scene of posed frames: converts pixels to points of the world and back.

In: cameras and their common intrinsics. Out: points in metres, and positions in pictures as shares of their sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jigsaw.tasks.media.depthmaps import DepthArray
from jigsaw.tasks.media.poses import Cameras, Matrix

SPARSE = 96
"""Longest side in pixels of the reduced depth maps and pictures, from which the map and overlaps are computed."""


@dataclass(frozen=True)
class PosedScene:
    """The frames, cameras and intrinsics of a scene.

    Attributes:
        names: names of the used frames, in order.
        cameras: the cameras of these frames.
        focal, middle: focal lengths and principal point as shares of width and height, shape `(2,)`.
        size: width and height of the pictures as shown.
        scale: reduction at which the pictures are decoded.
    """

    names: tuple[str, ...]
    cameras: Cameras
    focal: Matrix
    middle: Matrix
    size: tuple[int, int]
    scale: int

    @property
    def sparse(self) -> tuple[int, int]:
        """Width and height of the reduced depth maps and pictures."""
        shrink = SPARSE / max(self.size)
        return max(1, round(self.size[0] * shrink)), max(1, round(self.size[1] * shrink))

    def points(self, number: int, depth: DepthArray) -> Matrix:
        """The measured points of a frame in the world, shape `(height * width, 3)`; NaN where depth is missing."""
        rows, columns = depth.shape
        x, y = np.meshgrid((np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows)
        rays = np.stack([(x - self.middle[0]) / self.focal[0], (y - self.middle[1]) / self.focal[1], np.ones_like(x)])
        pose = self.cameras.poses[number]
        positions: Matrix = (rays * depth).reshape(3, -1).T @ pose[:3, :3].T + pose[:3, 3]
        return positions

    def seen(self, number: int, points: Matrix) -> tuple[Matrix, Matrix]:
        """Positions of points of the world in a frame, as shares of width and height `(N, 2)`, and depths `(N,)`."""
        pose = self.cameras.poses[number]
        local = (points - pose[:3, 3]) @ pose[:3, :3]
        depth = np.where(local[:, 2] > 0, local[:, 2], np.nan)
        return local[:, :2] / depth[:, None] * self.focal + self.middle, depth
