"""RGB-D pairs: which depth file belongs to which picture.

In: the files of a folder or a tar in a common layout of RGB-D data. Out: the depth map of a picture. Layouts::

    scannet   .../color/7.jpg          .../depth/7.png                     (ScanNet's export)
    tum       .../rgb/1305.17.png      .../depth/1305.16.png               (the nearest time, at most 0.02 s away)
    auto      both of these, and names that differ in one word: x_color.jpg and x_depth.png, color.png and
              disparity.npz, 000.color.jpg and 000.depth.png (tar shards)
    COLOR::DEPTH   two patterns with {} for the common part of the paths: left/{}.png::disp/{}.pfm
"""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Protocol

from jigsaw.data.sources.paths import is_file, regular
from jigsaw.data.sources.recognition import Problem

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".webp", ".bmp", ".tif", ".tiff")
DEPTH_SUFFIXES = (".png", ".npy", ".npz", ".tif", ".tiff", ".pfm", ".exr")
MAX_SECONDS = 0.02
"""Largest distance in time of a depth frame from its picture, as in the tools of TUM."""

CAMERA = "camera.json"
"""File in the folder of a depth map, or one folder above, that gives the camera and the unit of the depth."""

NO_DEPTH = "the picture has no depth map"

_COLOR_FOLDERS = {"auto": ("color", "rgb"), "scannet": ("color",), "tum": ("rgb",)}
_COLOR_WORDS = re.compile(r"(?<![a-z])(color|colour|rgb|image|left)(?![a-z])", re.IGNORECASE)
_DEPTH_WORDS = ("depth", "disparity", "disp")


class Files(Protocol):
    """A place of pictures and depth maps, by relative paths. Hashable, since its listings are cached."""

    def names(self, folder: str) -> list[str]:
        """Names in a folder; none if the folder does not exist."""

    def version(self, folder: str) -> int:
        """A number that changes when the names in the folder may have changed."""

    def has(self, path: str) -> bool:
        """Whether there is a file of that path."""

    def read(self, path: str) -> Path | bytes:
        """The file, or its bytes. Raises OSError if it cannot be read."""

    def __hash__(self) -> int: ...


@dataclass(frozen=True)
class FilesOnDisk:
    """The files below a folder."""

    root: Path

    def names(self, folder: str) -> list[str]:
        """See `Files`."""
        try:
            return os.listdir(self.root / folder)  # noqa: PTH208 - names are enough, and folders hold many thousands
        except OSError:
            return []

    def version(self, folder: str) -> int:
        """See `Files`."""
        try:
            return (self.root / folder).stat().st_mtime_ns
        except OSError:
            return 0

    def has(self, path: str) -> bool:
        """See `Files`."""
        return is_file(self.root / path)

    def read(self, path: str) -> Path:
        """The file. Raises OSError if it is not a regular file."""
        return regular(self.root / path)


def depth_of(files: Files, color: str, layout: str) -> str | Problem | None:
    """The depth file of a picture, or its problem if it has none; None if the file is not a picture of the layout.

    Args:
        files: place of both files.
        color: relative path of a file.
        layout: `auto`, `scannet`, `tum` or a pattern.
    """
    if "::" in layout:
        return _by_pattern(files, color, layout)
    path = PurePosixPath(color)
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        return None
    if path.parent.name.lower() in _COLOR_FOLDERS[layout]:
        return _by_folder(files, color, layout)
    return _by_word(files, color) if layout == "auto" else None


def is_depth_name(path: str, layout: str) -> bool:
    """Whether a file is a depth map by its name; depth maps are not counted as skipped files."""
    if "::" in layout:
        before, after = layout.partition("::")[2].split("{}")
        return re.fullmatch(rf"(?:.*/)?{re.escape(before)}.+{re.escape(after)}", path) is not None
    pure = PurePosixPath(path)
    words = re.split(r"[^a-z]+", pure.stem.lower())
    return pure.suffix.lower() in DEPTH_SUFFIXES and (
        pure.parent.name == "depth" or any(word in words for word in _DEPTH_WORDS)
    )


def _by_pattern(files: Files, color: str, layout: str) -> str | Problem | None:
    color_pattern, _, depth_pattern = layout.partition("::")
    before, after = (re.escape(piece).replace(r"\*", "[^/]*") for piece in color_pattern.split("{}"))
    match = re.fullmatch(rf"((?:.*/)?){before}(.+){after}", color)
    if match is None:
        return None
    depth = match[1] + depth_pattern.replace("{}", match[2])
    if files.has(depth) and depth != color:
        return depth
    return Problem(color, "no_depth", f"{NO_DEPTH}: there is no {depth}")


def _by_folder(files: Files, color: str, layout: str) -> str | Problem:
    path = PurePosixPath(color)
    folder = path.parent.parent / "depth"
    found = _named(files, color, folder, [path.stem])
    if isinstance(found, Problem) and layout in ("auto", "tum"):
        times = _times(files, str(folder), files.version(str(folder)))
        nearest = _nearest_time(times, path.stem)
        return str(folder / nearest) if nearest else found
    return found


def _by_word(files: Files, color: str) -> str | Problem | None:
    """The file in the same folder whose name has `depth` in place of `color`."""
    path = PurePosixPath(color)
    match = _COLOR_WORDS.search(path.stem)
    if match is None:
        return None
    wanted = [path.stem[: match.start()] + word + path.stem[match.end() :] for word in _DEPTH_WORDS]
    found = _named(files, color, path.parent, wanted)
    if isinstance(found, Problem) and found.detail == NO_DEPTH and match[0].lower() not in ("color", "colour", "rgb"):
        return None
    return found


def _named(files: Files, color: str, folder: PurePosixPath, stems: list[str]) -> str | Problem:
    """The depth file with the first of these stems, or why there is none: no file, or a format that is not read."""
    depths, others = _by_stem(files, str(folder), files.version(str(folder)))
    for stem in stems:
        if stem in depths:
            return str(folder / depths[stem])
    other = next((others[stem] for stem in stems if stem in others), None)
    if other is None:
        return Problem(color, "no_depth", NO_DEPTH)
    read = ", ".join(suffix.removeprefix(".") for suffix in DEPTH_SUFFIXES)
    return Problem(color, "no_depth", f"{folder / other} is not in a format that is read as depth ({read})")


@lru_cache(maxsize=16)
def _by_stem(files: Files, folder: str, _version: int) -> tuple[dict[str, str], dict[str, str]]:
    """Stem -> name of the files in a folder: those with the suffix of a depth map, and the others."""
    found: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for name in sorted(files.names(folder)):
        found[not name.lower().endswith(DEPTH_SUFFIXES)][PurePosixPath(name).stem] = name
    return found


@lru_cache(maxsize=16)
def _times(files: Files, folder: str, version: int) -> list[tuple[float, str]]:
    def timed() -> Iterator[tuple[float, str]]:
        for stem, name in _by_stem(files, folder, version)[0].items():
            try:
                yield float(stem), name
            except ValueError:
                continue

    return sorted(timed())


def _nearest_time(times: list[tuple[float, str]], stem: str) -> str | None:
    try:
        time = float(stem)
    except ValueError:
        return None
    at = bisect_left(times, (time, ""))
    near = min(times[max(0, at - 1) : at + 1], key=lambda entry: abs(entry[0] - time), default=None)
    return near[1] if near is not None and abs(near[0] - time) <= MAX_SECONDS else None
