"""Depth of regions: numbered rectangles on a picture, to be ordered from the nearest to the farthest.

In: one RGB-D pair. Out: an order of regions that do not overlap in the picture or in depth. The depth of a region is
the range from the 5th to the 95th percentile of its pixels. Files are read as in the task `depth`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from random import Random
from typing import Annotated, Any, ClassVar

import numpy as np
from PIL import Image, ImageDraw
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from jigsaw.tasks.contract import Media, Message, Pieces, PromptVariant, Puzzle, Reject, Source
from jigsaw.tasks.measured import MeasuredConfig, MeasuredTask
from jigsaw.tasks.media.depthmaps import DepthArray
from jigsaw.tasks.media.grids import Box, overlap
from jigsaw.tasks.media.marks import mark_points
from jigsaw.tasks.prompts import instruction_of, user_message

CANDIDATES = 400
"""Random rectangles from which regions are chosen."""

DRAWS = 40
"""Attempts to choose regions that do not overlap."""

MEASURED = 0.9
"""Least share of measured pixels in a region."""

COLOUR, RADIUS = (255, 0, 0), 7


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class DepthRegionsConfig(MeasuredConfig):
    """Number and size of the regions, and the options of `MeasuredConfig`."""

    points: Annotated[int, Field(ge=2, le=8, description="how many regions, 2 to 8")] = 4
    smallest: Annotated[
        float, Field(gt=0, le=0.5, description="least side of a region, as a fraction of the picture's shorter side")
    ] = 0.1
    largest: Annotated[float, Field(gt=0, le=0.5, description="largest side of a region, likewise")] = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.largest < self.smallest:
            raise ValueError(f"largest={self.largest} is less than smallest={self.smallest}")


class DepthRegionsTask(MeasuredTask):
    """Order numbered regions of a picture from the nearest to the farthest."""

    name: ClassVar[str] = "depth_regions"
    Config: ClassVar[type] = DepthRegionsConfig
    REASONS: ClassVar[Mapping[str, str]] = {
        **MeasuredTask.REASONS,
        "too_few_points": "fewer than `points` regions are far enough apart in the picture and in depth",
    }
    PIECE = "region"
    SIZE = ("points", ("3", "4", "5"))
    VARIANTS = (
        PromptVariant("{count} parts of this picture are framed.", "", "Sort them from close by to far away."),
        PromptVariant("Look at the {count} numbered frames.", "", "Which shows what is closest, which comes next?"),
    )
    REMEDIES: ClassVar = {"look": "use scenes with different lighting, or remove the puzzles that the rule solves"}

    config: DepthRegionsConfig

    def choose(self, source: Source, size: tuple[int, int], rng: Random) -> dict[str, Any] | Reject:
        """Draw regions that do not overlap in the picture or in depth."""
        depth = self.depth_map(source, size)
        self._allowed(depth)
        chosen = self._regions(depth, rng)
        if chosen is None:
            detail = f"no points={self.config.points} regions are far enough apart in the picture and in depth"
            return Reject("too_few_points", detail, final=False)
        return {
            "regions": [list(box) for box, _, _ in chosen],
            "depths": [[round(near, 4), round(far, 4)] for _, near, far in chosen],
        }

    def _regions(self, depth: DepthArray, rng: Random) -> list[tuple[Box, float, float]] | None:
        """Rectangles with their depth ranges, nearest first; None if there are too few."""
        config, (rows, columns) = self.config, depth.shape
        low, high = (max(16, round(min(rows, columns) * share)) for share in (config.smallest, config.largest))
        gap = config.relative_gap if self._is_relative else config.min_gap
        candidates: list[tuple[Box, float, float]] = []
        for _ in range(CANDIDATES):
            width, height = rng.randint(low, max(low, high)), rng.randint(low, max(low, high))
            if width > columns or height > rows:
                return None
            left, top = rng.randint(0, columns - width), rng.randint(0, rows - height)
            inside = depth[top : top + height, left : left + width]
            measured = inside[np.isfinite(inside)]
            if len(measured) < MEASURED * inside.size:
                continue
            near, far = (float(each) for each in np.percentile(measured, (5, 95)))
            if self._is_relative or config.min_depth <= near <= far <= config.max_depth:
                candidates.append(((left, top, left + width, top + height), near, far))
        for _ in range(DRAWS):
            chosen: list[tuple[Box, float, float]] = []
            for box, near, far in rng.sample(candidates, len(candidates)):
                apart = all(far + gap < other[1] or other[2] + gap < near for other in chosen)
                if apart and not any(overlap(box, other) for other, _, _ in chosen):
                    chosen.append((box, near, far))
                if len(chosen) == config.points:
                    return sorted(chosen, key=lambda one: one[1])
        return None

    def render(self, puzzle: Puzzle, source: Source) -> Media:
        """The picture with its numbered regions."""
        return Media(images=[_framed(self._picture(puzzle, source), _shown_boxes(puzzle))])

    def prompt(self, puzzle: Puzzle) -> list[Message]:
        """The picture, the question and the answer instruction."""
        count = puzzle.num_pieces
        asked = (
            f"The picture has {count} regions in red frames, numbered 1 to {count}. "
            "List the regions by the distance of what they show from the camera, nearest first."
        )
        return user_message([{"type": "image"}, f"{asked} {instruction_of(puzzle)}"])

    def explain(self, puzzle: Puzzle, source: Source) -> list[tuple[str, Image.Image]]:
        """The depth map in false colours, with the same numbered regions."""
        picture, near, far = self.depth_picture(puzzle, source)
        title = f"Depth, {near:.2f} (red) to {far:.2f} (blue)"
        return [(title, _framed(picture, _shown_boxes(puzzle)))]

    def pieces(self, puzzle: Puzzle, media: Media) -> Pieces:
        """The centres of the regions on the picture."""
        boxes = _shown_boxes(puzzle)
        picture = np.asarray(media.images[0].convert("RGB"))
        points = [((left + right) / 2, (top + bottom) / 2) for left, top, right, bottom in boxes]
        radius = min(min(right - left, bottom - top) for left, top, right, bottom in boxes) // 4
        return Pieces(points=points, picture=picture, radius=max(1, radius))

    def difficulty(self, puzzle: Puzzle, pieces: Pieces) -> float:
        """The smallest gap between successive regions, relative to the depth of the farther one."""
        steps = pairwise(puzzle.geometry["depths"])
        return float(min((far[0] - near[1]) / max(far[0], 1e-9) for near, far in steps))

    def notes(self, puzzle: Puzzle) -> list[str]:
        """The depth range of each region, nearest first."""
        steps = zip(puzzle.answer, puzzle.geometry["depths"], strict=True)
        listed = ", ".join(f"region {index} from {near:.2f} to {far:.2f}" for index, (near, far) in steps)
        return [f"Nearest first, 5th to 95th percentile of depth: {listed}"]


def _shown_boxes(puzzle: Puzzle) -> list[Box]:
    """The regions in the order of their numbers."""
    return [tuple(puzzle.geometry["regions"][rank]) for rank in puzzle.geometry["shown"]]


def _framed(picture: Image.Image, boxes: list[Box]) -> Image.Image:
    """A copy of a picture with a numbered frame around every box."""
    framed = picture.copy()
    draw = ImageDraw.Draw(framed)
    for left, top, right, bottom in boxes:
        draw.rectangle((left, top, right - 1, bottom - 1), outline=COLOUR, width=2)
    return mark_points(framed, [(left + RADIUS, top + RADIUS) for left, top, _, _ in boxes], RADIUS)
