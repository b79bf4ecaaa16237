"""Rendered RGB-D scenes, from a small ray caster: pictures with exact depth, on which a tiny model learns depth.

In: numbers of scenes, and a seed. Out: a folder of RGB-D pairs, the same on every call::

    DIR/{train,heldout}/color/NNNN.png      RGB, 168 x 168
    DIR/{train,heldout}/depth/NNNN.png      16-bit, millimetres along the optical axis

A scene is a room with a patterned floor and back wall and five to nine spheres and boxes under one lamp. Most objects
are on the floor and some are in the air. The camera looks horizontally, so that the whole wall has the same depth; its
height, horizon and field of view vary. Low in the picture is mostly near; objects in the air break that rule. Real
frames are better if there are enough of them, but the sample packages have only one scene in colour.

    python -m jigsaw.samples.scenes data/scenes
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jigsaw.files import atomic_path
from jigsaw.samples.rendering import main, numbered, split_folders

SIDE = 168
"""Width and height of a picture, in pixels."""

COUNTS = {"train": 400, "heldout": 48}
"""Default number of scenes of each split."""

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Pattern:
    """The texture of a surface: two alternating colours, `cell` metres each; `kind` is plain, checks or stripes."""

    kind: str
    cell: float
    colors: Array  # (2, 3), 0 to 1

    def at(self, points: Array) -> Array:
        """Colours `(N, 3)` at points `(N, 3)` of space."""
        cells = np.floor(points / self.cell + 1e-6)
        if self.kind == "plain":
            which = np.zeros(len(points), dtype=int)
        elif self.kind == "stripes":
            which = cells[:, 0].astype(int) % 2
        else:
            which = cells.sum(axis=1).astype(int) % 2
        picked: Array = self.colors[which]
        return picked


@dataclass(frozen=True)
class Sphere:
    """A sphere: centre `(3,)` and radius in metres."""

    middle: Array
    radius: float
    pattern: Pattern

    def hit(self, origin: Array, rays: Array) -> tuple[Array, Array]:
        """Ray parameters `(N,)`, infinite for rays that miss, and normals `(N, 3)`."""
        away = origin - self.middle
        a, b, c = (rays**2).sum(axis=1), rays @ away, away @ away - self.radius**2
        root = b**2 - a * c
        near = (-b - np.sqrt(np.maximum(root, 0))) / a
        times = np.where((root > 0) & (near > 0), near, np.inf)
        normals = (away + np.where(np.isfinite(times), times, 0)[:, None] * rays) / self.radius
        return times, normals


@dataclass(frozen=True)
class Box:
    """A box rotated about the vertical axis by `angle`: centre and half sides `(3,)` in metres."""

    middle: Array
    half: Array
    angle: float
    pattern: Pattern

    def hit(self, origin: Array, rays: Array) -> tuple[Array, Array]:
        """Ray parameters `(N,)`, infinite for rays that miss, and normals `(N, 3)`."""
        turn = about_vertical(self.angle)
        start, direction = turn @ (origin - self.middle), rays @ turn.T
        direction = np.where(np.abs(direction) < 1e-9, 1e-9, direction)
        sides = np.stack([(-self.half - start) / direction, (self.half - start) / direction])
        entry, leave = sides.min(axis=0), sides.max(axis=0)
        axis = entry.argmax(axis=1)
        near = entry.max(axis=1)
        times = np.where((near < leave.min(axis=1)) & (near > 0), near, np.inf)
        normals = np.zeros_like(rays)
        rows = np.arange(len(rays))
        normals[rows, axis] = -np.sign(direction[rows, axis])
        return times, normals @ turn


@dataclass(frozen=True)
class Plane:
    """The points p with `normal @ p = offset`."""

    normal: Array
    offset: float
    pattern: Pattern

    def hit(self, origin: Array, rays: Array) -> tuple[Array, Array]:
        """Ray parameters `(N,)`, infinite for rays that miss, and normals `(N, 3)`."""
        slope = rays @ self.normal
        times = (self.offset - origin @ self.normal) / np.where(np.abs(slope) < 1e-9, 1e-9, slope)
        return np.where(times > 1e-6, times, np.inf), np.broadcast_to(self.normal, rays.shape)


@dataclass(frozen=True)
class Scene:
    """Surfaces, a camera at `origin` that looks horizontally along z, and the direction of the light.

    Attributes:
        horizon: its height in the picture, 0 the top and 1 the bottom.
        focal: length in widths of the picture.
    """

    surfaces: tuple[Sphere | Box | Plane, ...]
    origin: Array
    horizon: float
    focal: float
    lamp: Array


def draw_scene(seed: int, number: int) -> Scene:
    """The scene with that number; the numbers of a seed give unrelated scenes."""
    digest = hashlib.sha256(f"scene {seed} {number}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:16]))
    depth = rng.uniform(5.0, 9.0)
    surfaces: list[Sphere | Box | Plane] = [
        Plane(np.array([0.0, 1.0, 0.0]), 0.0, pattern_of(rng, cell=rng.uniform(0.3, 1.0))),
        Plane(np.array([0.0, 0.0, -1.0]), -depth, pattern_of(rng, cell=rng.uniform(0.4, 1.5))),
    ]
    for _ in range(int(rng.integers(5, 10))):
        away = rng.uniform(2.0, depth - 0.8)
        aside, size = rng.uniform(-0.45, 0.45) * away, rng.uniform(0.3, 0.7)
        height = rng.uniform(0.4, 1.5) if rng.random() < 0.15 else 0.0
        pattern = pattern_of(rng, cell=rng.uniform(0.1, 0.4))
        if rng.random() < 0.5:
            surfaces.append(Sphere(np.array([aside, height + size, away]), size, pattern))
        else:
            half = size * rng.uniform([0.5, 0.6, 0.5], [1.0, 2.0, 1.0])
            surfaces.append(Box(np.array([aside, height + half[1], away]), half, rng.uniform(0, np.pi), pattern))
    lamp = rng.uniform([-1, 0.8, -1.5], [1, 1.5, -0.5])
    return Scene(
        surfaces=tuple(surfaces),
        origin=np.array([0.0, rng.uniform(1.0, 1.8), 0.0]),
        horizon=rng.uniform(0.2, 0.4),
        focal=rng.uniform(0.8, 1.1),
        lamp=lamp / np.linalg.norm(lamp),
    )


def cast(scene: Scene, side: int = SIDE) -> tuple[Image.Image, Image.Image]:
    """The picture (RGB) and the depth map (16-bit millimetres) of a scene, `side` pixels square."""
    places = (np.arange(side) + 0.5) / side
    x, y = np.meshgrid((places - 0.5) / scene.focal, (scene.horizon - places) / scene.focal)
    # A ray advances by one along the optical axis, so its parameter is the depth.
    rays = np.stack([x.ravel(), y.ravel(), np.ones(side * side)], axis=1)
    return traced(scene.surfaces, scene.origin, rays, scene.lamp, (side, side))


def traced(
    surfaces: Sequence[Any], origin: Array, rays: Array, lamp: Array, size: tuple[int, int]
) -> tuple[Image.Image, Image.Image]:
    """The picture (RGB) and the depth map (16-bit millimetres) for rays from one point.

    Args:
        surfaces: objects with a method `hit` and a `pattern`.
        rays: `(height * width, 3)`, each one metre along the optical axis.
        lamp: unit vector towards the light.
        size: width and height in pixels.
    """
    nearest = np.full(len(rays), np.inf)
    colors = np.zeros_like(rays)
    for surface in surfaces:
        times, normals = surface.hit(origin, rays)
        seen = times < nearest
        nearest[seen] = times[seen]
        points = origin + times[seen, None] * rays[seen]
        light = 0.45 + 0.55 * np.maximum(normals[seen] @ lamp, 0)
        colors[seen] = surface.pattern.at(points) * light[:, None]
    shape = (size[1], size[0])
    picture = np.round(255 * colors.clip(0, 1)).astype(np.uint8).reshape(*shape, 3)
    millimetres = np.round(1000 * np.where(np.isfinite(nearest), nearest, 0)).clip(0, 65535).astype(np.uint16)
    return Image.fromarray(picture), Image.fromarray(millimetres.reshape(shape))


def export_scenes(out: Path, counts: dict[str, int] | None = None, seed: int = 0) -> None:
    """Write the scenes that are missing in the folder `out`; no scene is in two splits.

    Args:
        counts: scenes of `train` and of `heldout`; `COUNTS` by default.

    Raises:
        JigsawError: the disk cannot be written, or `out` is a file.
    """
    with split_folders(out, "the scenes"):
        for split, number, index in numbered(counts or COUNTS):
            files = [out / split / name / f"{number:04}.png" for name in ("color", "depth")]
            if not all(file.is_file() for file in files):
                write_images(files, cast(draw_scene(seed, index)))


def write_images(files: Sequence[Path], images: Sequence[Image.Image]) -> None:
    """Write each image as PNG, atomically, and make its folder if needed."""
    for file, image in zip(files, images, strict=True):
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as partial:
            image.save(partial, "PNG")


def pattern_of(rng: np.random.Generator, cell: float) -> Pattern:
    """A random pattern in two random colours."""
    kind = str(rng.choice(["plain", "checks", "stripes"]))
    return Pattern(kind, cell, rng.uniform(0.15, 1.0, size=(2, 3)))


def about_vertical(angle: float) -> Array:
    """The rotation by `angle` about the vertical axis, shape `(3, 3)`."""
    sine, cosine = np.sin(angle), np.cos(angle)
    return np.array([[cosine, 0, -sine], [0, 1, 0], [sine, 0, cosine]])


if __name__ == "__main__":
    main(export_scenes, COUNTS, "RGB-D scenes of simple rooms with exact depth")
