"""The depth jigsaw: numbered points on a picture, to be ordered from the nearest to the farthest.

In: one RGB-D pair, a picture and its depth map. Out: a puzzle whose places are ranks of depth, rendered as the picture
with a numbered disc on every point. `DepthGeometry` holds all that rendering needs.

Six points, depth 0.1 to 10 m, pairs at least 40 px and more than 0.2 m apart, red discs: the paper's (section 3.3). Its
sampling was never published; ours draws evenly over all pixels that are measured, away from depth edges, and allowed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Annotated, Any, ClassVar, Literal, NotRequired, TypedDict, cast

import numpy as np
from PIL import Image
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from jigsaw.tasks.caching import BoundedCache
from jigsaw.tasks.contract import (
    AnswerStyle,
    Extent,
    Media,
    Message,
    Pieces,
    PromptVariant,
    Puzzle,
    Reject,
    Source,
    SourceKind,
    Task,
)
from jigsaw.tasks.depthmaps import (
    DepthArray,
    DepthError,
    DepthMeaning,
    DepthOrientation,
    View,
    false_colors,
    local_range,
    read_depth,
    resample_nearest,
)
from jigsaw.tasks.foreign import ForeignRows, pair_of
from jigsaw.tasks.grids import MAX_ASPECT, too_long
from jigsaw.tasks.marks import mark_points
from jigsaw.tasks.permutations import answer_of, draw_shown
from jigsaw.tasks.photos import MAX_PIXELS, SCALES, PhotoError, PhotoHeader, read_header, read_photo
from jigsaw.tasks.photos import REASONS as PHOTO_REASONS
from jigsaw.tasks.prompts import answer_instruction, user_message

DRAWS = 40
"""How often points are drawn anew when the first ones leave no room for the others."""

CANDIDATES = 4000
"""Pixels among which one draw chooses, itself a draw."""

CACHE_BYTES = 128 * 2**20
EDGE_SHARE, EDGE_METRES = 0.05, 0.05
"""Around a point depth may vary by this share of it, or these metres, whichever is more."""

FOREIGN_RADIUS = 15.0
"""Radius of the authors' discs, in pixels of the picture as it is."""


class DepthGeometry(TypedDict):
    """Which points of a picture are asked for, in pixels of the picture as shown; points nearest first.

    Attributes:
        scale: reduction at which the picture is decoded: 1, 2, 4 or 8.
        source_size: width and height of the picture file, upright.
        size: width and height with which the picture is shown.
        radius: radius of the discs.
        points: x and y of each point.
        depths: depth of each point in metres; None of an imported puzzle.
        shown: the 0-based points, nearest first, as they are numbered.
        relative: True where the depths have no unit: 0 is the nearest and 1 the farthest of the map.
    """

    scale: int
    source_size: list[int]
    size: list[int]
    radius: int
    points: list[list[int]]
    depths: list[float] | None
    shown: list[int]
    relative: NotRequired[bool]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class DepthConfig:
    """How points are chosen and shown, and what the depth files mean."""

    points: Annotated[int, Field(ge=2, le=12, description="how many points, 2 to 12")] = 6
    min_depth: Annotated[float, Field(gt=0, description="nearest depth of a point, in metres")] = 0.1
    max_depth: Annotated[float, Field(gt=0, description="farthest depth of a point, in metres")] = 10.0
    min_gap: Annotated[float, Field(ge=0, description="two points differ in depth by more than this, in metres")] = 0.2
    min_distance: Annotated[float, Field(ge=0, description="two points are so far apart in the picture, in px")] = 40.0
    radius: Annotated[int | None, Field(ge=6, le=500, description="of the discs, in px; null: by the picture")] = None
    max_side: Annotated[int | None, Field(ge=64, description="shrink pictures with a longer side to it, in px")] = 1024
    pairs: Annotated[
        str, Field(description="auto, scannet, tum, or COLOR::DEPTH, two paths with {} for what they share")
    ] = "auto"
    kind: Annotated[
        Literal["auto", "depth", "disparity", "relative", "inverse"],
        Field(
            description="what the maps hold; auto: disparity if `disp` is in the name, else depth; relative: no unit, "
            "larger is farther; inverse: no unit, larger is nearer (MiDaS, Depth Anything)"
        ),
    ] = "auto"
    depth_unit: Annotated[
        float | None, Field(gt=0, description="metres per stored unit; null: 0.001 for whole numbers, 1 for fractions")
    ] = None
    focal: Annotated[float | None, Field(gt=0, description="disparity: focal length in px; null: of camera.json")] = (
        None
    )
    baseline: Annotated[
        float | None, Field(gt=0, description="disparity: camera distance in metres; null: of camera.json")
    ] = None
    disparity_offset: Annotated[
        float | None, Field(description="disparity: px added to each; null: of camera.json, else 0")
    ] = None
    npz_key: Annotated[
        str | None, Field(description="array of an npz file or channel of an exr file; null: its only one")
    ] = None
    depth_orientation: Annotated[
        DepthOrientation,
        Field(
            description="of maps whose photo has an EXIF orientation; photo: turn them alike; upright: they are; auto: "
            "as their own tag or shape says, else reject"
        ),
    ] = "auto"
    relative_gap: Annotated[
        float, Field(gt=0, lt=1, description="kind=relative or inverse: min_gap as a share of the map's range")
    ] = 0.05
    identity: Annotated[bool, Field(description="whether the numbers may stand in the right order already")] = True
    answer_style: Annotated[AnswerStyle, Field(description="how the prompt asks for the answer")] = "think"

    def __post_init__(self) -> None:
        if self.max_depth <= self.min_depth:
            raise ValueError(f"max_depth={self.max_depth} is not beyond min_depth={self.min_depth}")
        if self.pairs not in ("auto", "scannet", "tum"):
            color, _, depth = self.pairs.partition("::")
            if color.count("{}") != 1 or depth.count("{}") != 1:
                example = "rgb/{}.jpg::depth/{}.png"
                raise ValueError(f"pairs={self.pairs!r} is none of auto, scannet, tum, nor two paths like {example}")


class DepthTask(Task):
    """Order numbered points of a picture from the nearest to the farthest."""

    name: ClassVar[str] = "depth"
    source_kind: ClassVar[SourceKind] = "rgbd"
    Config: ClassVar[type] = DepthConfig
    REASONS = PHOTO_REASONS | {
        "bad_depth": "the depth map is missing, damaged, or of no known format",
        "size_mismatch": "picture and depth map have different shapes",
        "orientation": "the photo has an EXIF orientation, and nothing says whether the depth map is turned alike",
        "no_depth": "the depth map holds no measured value, or there is none for the picture",
        "too_long": f"the picture is {MAX_ASPECT} times as long as wide, or more",
        "out_of_range": "no measured value lies between `min_depth` and `max_depth`: the unit may be wrong",
        "too_few_points": "not enough points are far enough apart in the picture and in depth",
    }

    LATER_KEYS = ("depth_orientation", "relative_gap")
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
        "position": "sampling: pictures from other heights and angles, more points or a smaller min_gap",
        "look": "sampling: scenes lit in other ways, or leave out the puzzles that it solves",
    }
    FOREIGN: ClassVar[ForeignRows | None] = ForeignRows(column="images", mark="depth_jigsaw")

    config: DepthConfig

    def __init__(self, config: DepthConfig | None = None) -> None:
        super().__init__(config)
        self._depths: BoundedCache[DepthArray] = BoundedCache(CACHE_BYTES, lambda depth: depth.nbytes)
        self._fields: BoundedCache[tuple[Any, Any]] = BoundedCache(CACHE_BYTES, lambda field: 12 * len(field[1]))
        self._photos: BoundedCache[Image.Image] = BoundedCache(
            CACHE_BYTES, lambda image: 3 * image.width * image.height
        )

    def plan(self, source: Source, rng: Random) -> Puzzle | Reject:
        """Choose points and their numbers; what cannot be read, or offers too few points, is rejected."""
        if "depth" not in source.files:
            return Reject("no_depth", "there is no depth map for the picture")
        try:
            header = read_header(source.files["color"])
            size, scale = self._shown_size(header)
            if too_long(size):
                return Reject("too_long", f"{header.size[0]}x{header.size[1]} px, shown as {size[0]}x{size[1]} px")
            radius = self.config.radius or max(9, round(min(size) / 32))
            self._photo(source, scale, size)
            places, depths = self._field(source, size, radius)
        except PhotoError as error:
            return Reject(error.reason, str(error))
        except DepthError as error:
            return Reject("bad_depth", str(error))
        chosen = _draw_points(places, depths, self.config, radius, rng)
        if chosen is None:
            detail = f"{len(places)} usable pixels, not {self.config.points} points far enough apart"
            return Reject("too_few_points", detail)
        shown = draw_shown(len(chosen), rng, identity=self.config.identity)
        geometry: DepthGeometry = {
            "scale": scale,
            "source_size": list(header.size),
            "size": list(size),
            "radius": radius,
            "points": [[int(places[index][0]), int(places[index][1])] for index in chosen],
            "depths": [round(float(depths[index]), 4) for index in chosen],
            "shown": list(shown),
        }
        if self._is_relative:
            geometry["relative"] = True
        return Puzzle(self.name, answer_of(shown), geometry, self.config.answer_style)

    def render(self, puzzle: Puzzle, source: Source) -> Media:
        """The picture with its numbered discs.

        Raises:
            ValueError: the picture cannot be read, or is another one.
        """
        geometry = cast(DepthGeometry, puzzle.geometry)
        size = read_header(source.files["color"]).size
        if list(size) != geometry["source_size"]:
            raise ValueError(f"{source.path}: the picture is {size}, the puzzle needs {geometry['source_size']}")
        picture = self._photo(source, geometry["scale"], (geometry["size"][0], geometry["size"][1]))
        return Media(images=[mark_points(picture, _shown_points(geometry), geometry["radius"])])

    def prompt(self, puzzle: Puzzle) -> list[Message]:
        """The picture, then what is asked and in what form."""
        count = puzzle.num_pieces
        return user_message(
            [
                {"type": "image"},
                f"The picture has {count} points marked with red discs, numbered 1 to {count}. "
                "List the points by their distance from the camera, nearest first. "
                + answer_instruction(puzzle.answer_style, count),
            ]
        )

    def extent(self) -> Extent:
        """One picture of 4:3, as large as `max_side` allows and at most 1296 pixels wide, as ScanNet's."""
        width = min(1296, self.config.max_side or 1296)
        return Extent(self.config.points, images=((width, width * 3 / 4),))

    def explain(self, puzzle: Puzzle, source: Source) -> list[tuple[str, Image.Image]]:
        """The depth map, near red to far blue, missing black, points numbered as the model sees them."""
        if "depth" not in source.files:
            return []  # an imported puzzle
        geometry = cast(DepthGeometry, puzzle.geometry)
        depth = self.depth_map(source, (geometry["size"][0], geometry["size"][1]))
        near, far = (float(np.nanpercentile(depth, share)) for share in (1, 99))
        title = f"Measured depth, {near:.2f} m (red) to {far:.2f} m (blue)"
        if self._is_relative:
            title = f"Relative depth, {near:.2f} (red) to {far:.2f} (blue) of the map's range"
        return [(title, mark_points(false_colors(depth, near, far), _shown_points(geometry), geometry["radius"]))]

    @property
    def pairing(self) -> str:
        """As the configuration says."""
        return self.config.pairs

    def pieces(self, puzzle: Puzzle, media: Media) -> Pieces:
        """The points on the picture."""
        geometry = cast(DepthGeometry, puzzle.geometry)
        picture = np.asarray(media.images[0].convert("RGB"))
        return Pieces(points=_shown_points(geometry), picture=picture, radius=geometry["radius"])

    def difficulty(self, puzzle: Puzzle, pieces: Pieces) -> float | None:
        """The smallest step between neighbouring depths, as a share of the farther one; None of an imported puzzle."""
        depths = cast(DepthGeometry, puzzle.geometry)["depths"]
        return min((far - near) / far for near, far in pairwise(depths)) if depths else None

    def notes(self, puzzle: Puzzle) -> Sequence[str]:
        """The depth of each point, nearest first."""
        geometry = cast(DepthGeometry, puzzle.geometry)
        unit = "" if geometry.get("relative") else " m"
        steps = zip(puzzle.answer, geometry["depths"] or (), strict=False)
        told = ", ".join(f"point {index} at {depth:.2f}{unit}" for index, depth in steps)
        return [f"Nearest first: {told}"] if told else []

    def adopt(self, source: Source, rng: Random, about: Mapping[str, Any], style: AnswerStyle) -> Puzzle | Reject:
        """The picture with the row's `points`, (row, column) nearest first, without a depth map."""
        points = [(float(column), float(row)) for row, column in about["points"]]
        try:
            width, height = read_header(source.files["color"]).size
            read_photo(source.files["color"], max(SCALES))  # finds damaged files
        except PhotoError as error:
            return Reject(error.reason, str(error))
        if len(points) < 2 or not all(0 <= x < width and 0 <= y < height for x, y in points):
            return Reject("too_few_points", f"the {len(points)} points do not lie in a picture of {width}x{height}")
        size = pair_of(about.get("resize_size")) or (width, height)
        if size[0] * size[1] > MAX_PIXELS:
            return Reject("too_large", f"resized to {size[0]}x{size[1]} pixels")
        if too_long(size):
            return Reject("too_long", f"shown as {size[0]}x{size[1]} px")
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

    def depth_map(self, source: Source, size: tuple[int, int]) -> DepthArray:
        """The source's depth in metres at width and height `size`, NaN where missing; shape `(height, width)`.

        Raises:
            ValueError: the depth map cannot be read or does not fit.
        """

        def make() -> DepthArray:
            header = read_header(source.files["color"])
            view = View(orientation=header.orientation, size=header.size, rule=self.config.depth_orientation)
            return resample_nearest(read_depth(source.files["depth"], self._meaning(source), view), size)

        return self._depths.get((source.fingerprint, size), make)

    @property
    def _is_relative(self) -> bool:
        return self.config.kind in ("relative", "inverse")

    def _meaning(self, source: Source) -> DepthMeaning:
        """What the depth file's numbers mean: by the configuration, and by camera.json where that says nothing."""
        config, camera = self.config, _camera(source)
        named = "disparity" if "disp" in source.path.rpartition("/")[2].lower() else "depth"
        kind: Any = named if config.kind == "auto" else config.kind
        meaning = DepthMeaning(
            kind=kind,
            unit=_first(config.depth_unit, camera.get("depth_unit_m")),
            focal=_first(config.focal, camera.get("focal_length_px")),
            baseline=_first(config.baseline, camera.get("baseline_m")),
            key=config.npz_key,
        )
        offset = _first(config.disparity_offset, camera.get("disparity_offset_px"))
        return meaning if offset is None else replace(meaning, offset=offset)

    def _shown_size(self, header: PhotoHeader) -> tuple[tuple[int, int], int]:
        """Width and height with which the picture is shown, and the scale at which it is decoded for that."""
        width, height = header.size
        shrink = min(1.0, (self.config.max_side or max(header.size)) / max(header.size))
        size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        scale = max(s for s in SCALES if s == 1 or (width // s >= size[0] and height // s >= size[1]))
        return size, scale

    def _photo(self, source: Source, scale: int, size: tuple[int, int]) -> Image.Image:
        def make() -> Image.Image:
            picture = read_photo(source.files["color"], scale)
            return picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC)

        return self._photos.get((source.fingerprint, scale, size), make)

    def _field(self, source: Source, size: tuple[int, int], radius: int) -> tuple[Any, Any]:
        """Every pixel on which a point may lie, and its depth: int arrays `(N, 2)` of x and y, float `(N,)` metres."""
        return self._fields.get((source.fingerprint, size, radius), lambda: self._find_field(source, size, radius))

    def _find_field(self, source: Source, size: tuple[int, int], radius: int) -> tuple[Any, Any]:
        depth = self.depth_map(source, size)
        measured = depth[np.isfinite(depth)]
        if not len(measured):
            raise PhotoError("no_depth", "every value is missing")
        allowed = np.isfinite(depth)
        if not self._is_relative:
            allowed &= (depth >= self.config.min_depth) & (depth <= self.config.max_depth)
        if not allowed.any():
            middle = float(np.median(measured))
            detail = f"the median depth is {middle:.3g} m; set depth_unit, or kind=disparity"
            raise PhotoError("out_of_range", detail)
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
    """Indices of points that are far enough apart in every way, nearest first; None if none were found."""
    apart = max(config.min_distance, 2 * radius + 3)
    gap = config.relative_gap if config.kind in ("relative", "inverse") else config.min_gap
    for _ in range(DRAWS):
        sample = np.array(rng.sample(range(len(places)), min(CANDIDATES, len(places))), dtype=np.int64)
        chosen: list[int] = []
        while len(sample) and len(chosen) < config.points:
            index = int(sample[0])  # the sample is in random order: its first is an even draw of what is left
            chosen.append(index)
            far = ((places[sample] - places[index]) ** 2).sum(axis=1) >= apart**2
            sample = sample[far & (np.abs(depths[sample] - depths[index]) > gap)]
        if len(chosen) == config.points:
            return sorted(chosen, key=lambda index: float(depths[index]))
    return None


def _camera(source: Source) -> dict[str, Any]:
    """What a camera.json beside the files says, if there is one."""
    file = source.files.get("camera")
    if file is None:
        return {}
    try:
        content = json.loads(file if isinstance(file, bytes) else file.read_bytes())
        return {key: float(value) for key, value in content.items() if isinstance(value, int | float)}
    except (OSError, ValueError, AttributeError) as error:
        raise DepthError(f"camera.json cannot be read: {error}") from error


def _first(*values: float | None) -> float | None:
    """The first value that is given."""
    return next((value for value in values if value is not None), None)
