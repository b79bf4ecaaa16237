"""Rendered landscapes: pictures on which a tiny model learns to solve jigsaws within minutes.

In: numbers of pictures, and a seed. Out: a folder of pictures, the same on every call::

    DIR/{train,heldout}/NNNN.png      RGB, 160 x 160

A landscape has a sky that grows lighter towards the horizon, a low sun in its right half, clouds, three to five ridges
that fade with distance, and in front a lake that reflects them or a meadow. Colours, weather, shapes and places are
random. Two rules hold in all of them and can be learned from small tiles: the picture grows darker from the sky to the
ground, and the light is warmer and brighter towards the sun. They give the place of a tile without any matching of
edges, which a tiny model needs hours to learn on photos. Trees, clouds and haze sometimes break both rules.

    python -m jigsaw.samples.landscapes data/landscapes
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jigsaw.files import atomic_path
from jigsaw.samples.rendering import main, numbered, split_folders

SIDE = 160
"""Width and height of a picture, in pixels."""

COUNTS = {"train": 400, "heldout": 120}
"""Default number of pictures of each split."""

Array = np.ndarray[Any, np.dtype[np.floating[Any]]]


@dataclass(frozen=True)
class Palette:
    """Colours of an hour of the day, RGB from 0 to 1: zenith, sky at the horizon, sun, nearest land."""

    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]
    sun: tuple[float, float, float]
    land: tuple[float, float, float]


PALETTES = (
    Palette((0.23, 0.42, 0.70), (0.80, 0.86, 0.88), (1.00, 0.95, 0.80), (0.13, 0.26, 0.20)),  # clear afternoon
    Palette((0.22, 0.25, 0.48), (0.97, 0.70, 0.50), (1.00, 0.80, 0.48), (0.15, 0.12, 0.22)),  # sunset
    Palette((0.45, 0.38, 0.58), (0.98, 0.80, 0.74), (1.00, 0.90, 0.74), (0.24, 0.18, 0.30)),  # pink evening
    Palette((0.14, 0.32, 0.42), (0.90, 0.83, 0.60), (1.00, 0.92, 0.62), (0.07, 0.18, 0.20)),  # golden haze
    Palette((0.38, 0.50, 0.58), (0.86, 0.86, 0.80), (1.00, 0.96, 0.86), (0.24, 0.28, 0.22)),  # overcast
    Palette((0.10, 0.14, 0.34), (0.62, 0.52, 0.66), (1.00, 0.84, 0.74), (0.05, 0.07, 0.16)),  # blue hour
    Palette((0.30, 0.56, 0.62), (0.94, 0.92, 0.78), (1.00, 0.97, 0.78), (0.28, 0.30, 0.12)),  # autumn morning
)


def draw_landscape(seed: int, number: int, side: int = SIDE) -> Image.Image:
    """The landscape with that number, `side` pixels square; the numbers of a seed give unrelated pictures."""
    digest = hashlib.sha256(f"landscape {seed} {number}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:16]))
    down, across = _places(side)
    palette = PALETTES[rng.integers(len(PALETTES))]
    zenith, haze, land = (
        (np.array(color, np.float32) * rng.uniform(0.90, 1.10, 3).astype(np.float32)).clip(0, 1)
        for color in (palette.zenith, palette.horizon, palette.land)
    )
    sun = np.array(palette.sun, np.float32)
    horizon, sun_at = rng.uniform(0.48, 0.60), np.array([rng.uniform(0.12, 0.40), rng.uniform(0.66, 0.92)])
    shore = rng.uniform(0.68, 0.78)

    away = np.hypot(down - sun_at[0], across - sun_at[1])
    glow = np.exp(-away / rng.uniform(0.25, 0.5))[..., None]
    picture = _blend(zenith, haze, (down / horizon).clip(0, 1)[..., None] ** rng.uniform(0.7, 1.3))
    picture = _blend(picture, sun, 0.75 * glow)
    picture = _blend(picture, _blend(haze, sun, 0.5), _clouds(rng, side)[..., None] * rng.uniform(0.15, 0.65))
    picture = _blend(picture, sun, ((rng.uniform(0.03, 0.055) - away) * side).clip(0, 1)[..., None])

    layers = int(rng.integers(3, 6))
    for layer in range(layers):
        near = (layer + 1) / layers
        base = horizon - 0.06 + (shore - horizon - 0.02) * near * rng.uniform(0.7, 1.0)
        top = base - _ridge(rng, side, height=rng.uniform(0.05, 0.16), rough=1.9 - 0.5 * near)
        if near == 1:
            top = top - _trees(rng, side)
        paint = _blend(haze, land, 0.15 + 0.7 * near)
        lit = _blend(paint, sun, (0.42 - 0.2 * near) * (1.3 * across - 0.2).clip(0, 1)[..., None])
        mist = 0.5 * ((down - base + 0.08) * 4).clip(0, 1)[..., None] * (1 - 0.7 * near)
        picture = _blend(picture, _blend(lit, haze, mist), ((down - top) * side + 0.5).clip(0, 1)[..., None])

    front = _lake if rng.random() < 0.7 else _meadow
    covered = ((down - shore) * side + 0.5).clip(0, 1)[..., None]
    picture = _blend(picture, front(rng, picture, shore, sun, land), covered)
    warmth = rng.uniform(0.45, 0.65) * (across - 0.5)[..., None] * np.array([1.0, 0.15, -1.0], np.float32)
    dusk = 1.12 - rng.uniform(0.55, 0.75) * down[..., None]
    picture = picture * dusk + warmth
    picture = picture + 0.012 * rng.standard_normal((side, side, 1), np.float32)
    return Image.fromarray(np.round(255 * picture.clip(0, 1)).astype(np.uint8))


def export_landscapes(out: Path, counts: dict[str, int] | None = None, seed: int = 0) -> None:
    """Write the landscapes that are missing in the folder `out`; no picture is in both splits.

    Args:
        counts: pictures of `train` and of `heldout`; `COUNTS` by default.

    Raises:
        JigsawError: the disk cannot be written, or `out` is a file.
    """
    with split_folders(out, "the landscapes"):
        for split, number, index in numbered(counts or COUNTS):
            file = out / split / f"{number:04}.png"
            if not file.is_file():
                with atomic_path(file) as partial:
                    draw_landscape(seed, index).save(partial, "PNG", compress_level=1)


def _blend(under: Array, over: Array, share: Any) -> Array:
    """`over` in front of `under`, with an opacity from 0 to 1."""
    mixed: Array = under + (over - under) * share
    return mixed


def _places(side: int) -> tuple[Array, Array]:
    """Vertical and horizontal position of each pixel, from 0 to 1, shapes `(side, 1)` and `(1, side)`."""
    steps = np.arange(side, dtype=np.float32) / np.float32(side)
    return steps[:, None], steps[None, :]


def _noise(rng: np.random.Generator, side: int, rows: int, columns: int) -> Array:
    """Soft noise from 0 to 1, shape `(side, side)`, with about that many blobs down and across."""
    coarse = Image.fromarray(rng.uniform(0, 255, (rows + 1, columns + 1)).astype(np.uint8))
    return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32) / 255


def _clouds(rng: np.random.Generator, side: int) -> Array:
    """Opacity of long flat clouds, shape `(side, side)`."""
    density = 0.55 * _noise(rng, side, 9, 3) + 0.3 * _noise(rng, side, 20, 7) + 0.15 * _noise(rng, side, 44, 16)
    opacity: Array = ((density - rng.uniform(0.42, 0.6)) * 5).clip(0, 1)
    return opacity


def _ridge(rng: np.random.Generator, side: int, height: float, rough: float) -> Array:
    """Height of a mountain ridge by column, shape `(side,)`: waves of random phase, shorter ones lower by `rough`."""
    across = np.arange(side) / side
    waves = [rng.normal() * np.sin(2 * np.pi * (k * across * 0.8 + rng.random())) / k**rough for k in range(1, 40)]
    profile = np.sum(waves, axis=0)
    rise: Array = height * (profile - profile.min()) / (np.ptp(profile) + 1e-9)
    return rise


def _trees(rng: np.random.Generator, side: int) -> Array:
    """Height that conifers add to a ridge by column, shape `(side,)`."""
    across = np.arange(side) / side
    added = np.zeros(side)
    for _ in range(int(rng.integers(0, 40))):
        height = rng.uniform(0.02, 0.08)
        added = np.maximum(added, height - np.abs(across - rng.random()) * rng.uniform(4, 7))
    return added


def _lake(rng: np.random.Generator, picture: Array, shore: float, sun: Array, land: Array) -> Array:
    """Reflection of the picture above the shore in moving water, shape of `picture`."""
    side = len(picture)
    down, across = _places(side)
    ripple = _noise(rng, side, 60, 5) - 0.5
    depth = (down - shore).clip(0, 1)
    mirrored = (side * (shore - 1.9 * depth)).clip(0, side - 1).astype(int)
    shifted = (side * across + side * ripple * (0.02 + 0.25 * depth)).clip(0, side - 1).astype(int)
    water = _blend(picture[mirrored, shifted], land, 0.22 + 0.5 * depth[..., None])
    return _blend(water, sun, (2.5 * (ripple - 0.1).clip(0, 0.2) * across)[..., None])


def _meadow(rng: np.random.Generator, picture: Array, shore: float, sun: Array, land: Array) -> Array:
    """A field in front with stripes of light, shape of `picture`."""
    side = len(picture)
    down, across = _places(side)
    green = _blend(land, np.array([0.45, 0.50, 0.18]) * rng.uniform(0.7, 1.1, 3), 0.45)
    tufts = 0.6 * _noise(rng, side, 30, 12) + 0.4 * _noise(rng, side, 70, 70)
    field = green * (0.75 + 0.5 * tufts)[..., None] * (1.15 - 0.9 * (down - shore).clip(0, 1))[..., None]
    return _blend(field, sun, (0.30 * across * tufts)[..., None])


if __name__ == "__main__":
    main(export_landscapes, COUNTS, "landscapes for jigsaws that a tiny model can learn")
