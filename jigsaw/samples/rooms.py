"""Rooms drawn by a small ray caster from a camera that walks through them: posed RGB-D frames with exact depth.

In: how many rooms, and a seed. Out: a folder of scenes laid out as ScanNet's export, the same on every call::

    DIR/{train,heldout}/room-NNN/color/F.png        RGB, 240 x 180
    DIR/{train,heldout}/room-NNN/depth/F.png        16-bit, millimetres along the optical axis
    DIR/{train,heldout}/room-NNN/pose/F.txt         4x4, camera (x right, y down, z ahead) to world (z up), metres
    DIR/{train,heldout}/room-NNN/intrinsic/intrinsic_color.txt

A room has four walls of unlike paint with a picture on each, a floor and a ceiling, and five to eight boxes and balls.
The camera goes round the middle and looks across it, now more to the left, now to the right.

    python -m jigsaw.samples.rooms data/rooms
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jigsaw.errors import JigsawError
from jigsaw.files import atomic_path, write_atomically
from jigsaw.samples.command import draw
from jigsaw.samples.scenes import Array, Box, Pattern, Sphere, about_vertical, pattern_of, traced

SIZE = (240, 180)
"""Width and height of a picture, in pixels."""

FOCAL = 180.0
"""Focal length in pixels: a field of view of 67 degrees."""

FRAMES = 16
COUNTS = {"train": 4, "heldout": 2}
"""Rooms that `export_rooms` draws by default."""

TO_WORLD = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
"""From the axes of a drawing (right, up, ahead) to those of the poses (right, ahead, up), which are right-handed."""


@dataclass(frozen=True)
class Walls:
    """The paint of a room's sides: floor, ceiling and four walls, and a picture on each wall.

    Attributes:
        half: half of its width, height and length in metres; its middle is the origin.
        paints: of the sides left, right, floor, ceiling, near and far.
        pictures: the same for the picture in the middle of a side.
        shifts: how far along the wall the middle of each picture is, as a share of half its length.
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
    """The inside of a box around the origin: half sides `(3,)` in metres."""

    half: Array
    pattern: Walls

    def hit(self, origin: Array, rays: Array) -> tuple[Array, Array]:
        """Ray parameters `(N,)` of the side that is seen, and normals `(N, 3)`."""
        direction = np.where(np.abs(rays) < 1e-9, 1e-9, rays)
        times = (np.sign(direction) * self.half - origin) / direction
        axis = times.argmin(axis=1)
        rows = np.arange(len(rays))
        normals = np.zeros_like(rays)
        normals[rows, axis] = -np.sign(direction[rows, axis])
        return times[rows, axis], normals


def draw_room(seed: int, number: int, frames: int = FRAMES) -> tuple[list[Any], Array, list[tuple[Array, Array]]]:
    """Surfaces, the direction of the lamp, and the cameras of a room: where each is and its axes right, up and ahead.

    Axes are the columns of a `(3, 3)` matrix; all is in the axes of the drawing.
    """
    digest = hashlib.sha256(f"room {seed} {number}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:16]))
    half = np.array([rng.uniform(2.2, 3.2), 1.3, rng.uniform(2.2, 3.2)])
    paints = tuple(pattern_of(rng, cell=rng.uniform(0.5, 1.2)) for _ in range(6))
    pictures = tuple(Pattern("checks", rng.uniform(0.15, 0.3), rng.uniform(0, 1, size=(2, 3))) for _ in range(6))
    surfaces: list[Any] = [Room(half, Walls(half, paints, pictures, rng.uniform(-0.5, 0.5, size=6)))]
    for _ in range(int(rng.integers(5, 9))):
        place = rng.uniform(-0.85, 0.85, size=2) * (half[0], half[2])
        place *= max(1.0, 0.68 / np.abs(place / (half[0], half[2])).max())  # outside of where the camera walks
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
    """Right, up and ahead of a camera that looks along z at heading 0 and turns to the right."""
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
    """The camera-to-world matrix of a camera: columns right, down, ahead and place, in the axes of the poses."""
    pose = np.eye(4)
    pose[:3, :3] = TO_WORLD @ (axes * (1, -1, 1))
    pose[:3, 3] = TO_WORLD @ place
    return pose


def export_rooms(out: Path, counts: dict[str, int] | None = None, seed: int = 0, frames: int = FRAMES) -> None:
    """Draw the rooms that are missing in the folder `out`; no room is in two splits.

    Args:
        counts: rooms of `train` and of `heldout`; `COUNTS` where not given.
        frames: pictures of each room.

    Raises:
        JigsawError: the disk refuses, or `out` is a file.
    """
    counts = counts or COUNTS
    try:
        for split, first in (("train", 0), ("heldout", 10**6)):
            for number in range(counts[split]):
                _export(out / split / f"room-{number:03}", *draw_room(seed, first + number, frames))
    except OSError as error:
        raise JigsawError(f"{error.filename or out}: cannot write the rooms: {error.strerror or error}") from error


def _export(folder: Path, surfaces: list[Any], lamp: Array, cameras: list[tuple[Array, Array]]) -> None:
    for name in ("color", "depth", "pose", "intrinsic"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    matrix = np.eye(4)
    matrix[0, 0] = matrix[1, 1] = FOCAL
    matrix[:2, 2] = SIZE[0] / 2, SIZE[1] / 2
    write_atomically(folder / "intrinsic" / "intrinsic_color.txt", _text(matrix))
    for frame, (place, axes) in enumerate(cameras):
        files = [folder / name / f"{frame}.png" for name in ("color", "depth")]
        if not all(file.is_file() for file in files):
            for file, image in zip(files, view(surfaces, lamp, place, axes), strict=True):
                with atomic_path(file) as partial:
                    image.save(partial, "PNG")
        write_atomically(folder / "pose" / f"{frame}.txt", _text(pose_of(place, axes)))


def _text(matrix: Array) -> str:
    return "".join(" ".join(f"{value:.6f}" for value in row) + "\n" for row in matrix)


if __name__ == "__main__":
    draw(export_rooms, COUNTS, "posed RGB-D frames of simple rooms, with exact depth")
