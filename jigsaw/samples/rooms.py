"""Rendered rooms seen by a moving camera: posed RGB-D frames with exact depth, from a small ray caster.

In: numbers of rooms, and a seed. Out: a folder of scenes in the layout of ScanNet's export, the same on every call::

    DIR/{train,heldout}/room-NNN/color/F.png        RGB, 240 x 180
    DIR/{train,heldout}/room-NNN/depth/F.png        16-bit, millimetres along the optical axis
    DIR/{train,heldout}/room-NNN/pose/F.txt         4x4, camera (x right, y down, z ahead) to world (z up), metres
    DIR/{train,heldout}/room-NNN/intrinsic/intrinsic_color.txt

A room has four walls with different textures and a picture on each, a floor, a ceiling, and five to eight boxes and
spheres. The camera moves around the centre and looks across it, at varying angles.

    python -m jigsaw.samples.rooms data/rooms
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jigsaw.files import write_atomically
from jigsaw.samples.rendering import main, numbered, split_folders
from jigsaw.samples.scenes import Array, Box, Pattern, Sphere, about_vertical, pattern_of, traced, write_images

SIZE = (240, 180)
"""Width and height of a picture, in pixels."""

FOCAL = 180.0
"""Focal length in pixels: a field of view of 67 degrees."""

FRAMES = 16
COUNTS = {"train": 4, "heldout": 2}
"""Default number of rooms of each split."""

TO_WORLD = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
"""From the axes of the renderer (right, up, ahead) to those of the poses (right, ahead, up), which are right-handed."""


@dataclass(frozen=True)
class Walls:
    """Textures of the floor, the ceiling and the four walls of a room, and of a picture on each wall.

    Attributes:
        half: half of the width, height and length of the room in metres; its centre is the origin.
        paints: textures of the sides left, right, floor, ceiling, near and far.
        pictures: textures of the pictures on the same sides.
        shifts: position of the centre of each picture along the wall, as a share of half the wall's length.
    """

    half: Array
    paints: tuple[Pattern, ...]
    pictures: tuple[Pattern, ...]
    shifts: Array

    def at(self, points: Array) -> Array:
        """Colours `(N, 3)` at points `(N, 3)` on the sides."""
        share = points / self.half
        axis = np.abs(share).argmax(axis=1)
        side = 2 * axis + (share[np.arange(len(points)), axis] > 0)
        colors = np.zeros_like(points)
        for number, (paint, picture) in enumerate(zip(self.paints, self.pictures, strict=True)):
            here = side == number
            colors[here] = paint.at(points[here])
            if number // 2 != 1:
                along = share[:, 2 if number < 2 else 0] - self.shifts[number]
                framed = here & (np.abs(along) < 0.3) & (np.abs(points[:, 1] - 0.2) < 0.5)
                colors[framed] = picture.at(points[framed])
        return colors


@dataclass(frozen=True)
class Room:
    """The inside of a box with its centre at the origin: half sides `(3,)` in metres."""

    half: Array
    pattern: Walls

    def hit(self, origin: Array, rays: Array) -> tuple[Array, Array]:
        """Ray parameters `(N,)` of the visible side, and normals `(N, 3)`."""
        direction = np.where(np.abs(rays) < 1e-9, 1e-9, rays)
        times = (np.sign(direction) * self.half - origin) / direction
        axis = times.argmin(axis=1)
        rows = np.arange(len(rays))
        normals = np.zeros_like(rays)
        normals[rows, axis] = -np.sign(direction[rows, axis])
        return times[rows, axis], normals


def draw_room(seed: int, number: int, frames: int = FRAMES) -> tuple[list[Any], Array, list[tuple[Array, Array]]]:
    """Surfaces, the direction of the light, and the cameras of a room: position and axes (right, up, ahead) of each.

    The axes of a camera are the columns of a `(3, 3)` matrix. All values are in the axes of the renderer.
    """
    digest = hashlib.sha256(f"room {seed} {number}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:16]))
    half = np.array([rng.uniform(2.2, 3.2), 1.3, rng.uniform(2.2, 3.2)])
    paints = tuple(pattern_of(rng, cell=rng.uniform(0.5, 1.2)) for _ in range(6))
    pictures = tuple(Pattern("checks", rng.uniform(0.15, 0.3), rng.uniform(0, 1, size=(2, 3))) for _ in range(6))
    surfaces: list[Any] = [Room(half, Walls(half, paints, pictures, rng.uniform(-0.5, 0.5, size=6)))]
    for _ in range(int(rng.integers(5, 9))):
        place = rng.uniform(-0.85, 0.85, size=2) * (half[0], half[2])
        place *= max(1.0, 0.68 / np.abs(place / (half[0], half[2])).max())  # outside of the path of the camera
        size, paint = rng.uniform(0.2, 0.4), pattern_of(rng, cell=rng.uniform(0.1, 0.3))
        if rng.random() < 0.4:
            surfaces.append(Sphere(np.array([place[0], size - half[1], place[1]]), size, paint))
        else:
            sides = size * rng.uniform([0.7, 0.8, 0.7], [1.1, 2.2, 1.1])
            middle = np.array([place[0], sides[1] - half[1], place[1]])
            surfaces.append(Box(middle, sides, rng.uniform(0, np.pi), paint))
    lamp = rng.uniform([-1, 0.8, -1], [1, 1.5, 1])
    start, sense = rng.uniform(0, 2 * np.pi), rng.choice([-1, 1])
    cameras = []
    for frame in range(frames):
        angle = start + sense * 2 * np.pi * frame / frames
        place = np.array([np.sin(angle) * half[0], 0, np.cos(angle) * half[2]]) * rng.uniform(0.38, 0.55)
        place[1] = rng.uniform(0.0, 0.3)
        across = np.arctan2(-place[0], -place[2]) + np.radians(rng.uniform(-45, 45))
        cameras.append((place, _axes(across, np.radians(rng.uniform(-20, 0)))))
    return surfaces, lamp / np.linalg.norm(lamp), cameras


def _axes(heading: float, elevation: float) -> Array:
    """Axes right, up and ahead of a camera; heading 0 looks along z, larger headings look to the right."""
    sine, cosine = np.sin(elevation), np.cos(elevation)
    tilt = np.array([[1.0, 0.0, 0.0], [0.0, cosine, sine], [0.0, -sine, cosine]])
    axes: Array = about_vertical(-heading) @ tilt
    return axes


def view(surfaces: list[Any], lamp: Array, place: Array, axes: Array) -> tuple[Image.Image, Image.Image]:
    """The picture and the depth map of a camera."""
    width, height = SIZE
    x, y = np.meshgrid((np.arange(width) + 0.5 - width / 2) / FOCAL, (height / 2 - np.arange(height) - 0.5) / FOCAL)
    rays = np.stack([x.ravel(), y.ravel(), np.ones(width * height)], axis=1) @ axes.T
    return traced(surfaces, place, rays, lamp, SIZE)


def pose_of(place: Array, axes: Array) -> Array:
    """The camera-to-world matrix: columns right, down, ahead and position, in the axes of the poses."""
    pose = np.eye(4)
    pose[:3, :3] = TO_WORLD @ (axes * (1, -1, 1))
    pose[:3, 3] = TO_WORLD @ place
    return pose


def export_rooms(out: Path, counts: dict[str, int] | None = None, seed: int = 0, frames: int = FRAMES) -> None:
    """Write the rooms that are missing in the folder `out`; no room is in two splits.

    Args:
        counts: rooms of `train` and of `heldout`; `COUNTS` by default.
        frames: pictures of each room.

    Raises:
        JigsawError: the disk cannot be written, or `out` is a file.
    """
    with split_folders(out, "the rooms"):
        for split, number, index in numbered(counts or COUNTS):
            _export(out / split / f"room-{number:03}", *draw_room(seed, index, frames))


def _export(folder: Path, surfaces: list[Any], lamp: Array, cameras: list[tuple[Array, Array]]) -> None:
    for name in ("pose", "intrinsic"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    matrix = np.eye(4)
    matrix[0, 0] = matrix[1, 1] = FOCAL
    matrix[:2, 2] = SIZE[0] / 2, SIZE[1] / 2
    write_atomically(folder / "intrinsic" / "intrinsic_color.txt", _text(matrix))
    for frame, (place, axes) in enumerate(cameras):
        files = [folder / name / f"{frame}.png" for name in ("color", "depth")]
        if not all(file.is_file() for file in files):
            write_images(files, view(surfaces, lamp, place, axes))
        write_atomically(folder / "pose" / f"{frame}.txt", _text(pose_of(place, axes)))


def _text(matrix: Array) -> str:
    return "".join(" ".join(f"{value:.6f}" for value in row) + "\n" for row in matrix)


if __name__ == "__main__":
    main(export_rooms, COUNTS, "posed RGB-D frames of simple rooms with exact depth")
