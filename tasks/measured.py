"""Base class of the tasks on a picture and its depth map: reads both files and plans an order of depths.

In: one RGB-D pair. Out: the picture as shown, and its depth in metres at the same size. A subclass chooses points or
regions and marks them on the picture.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from random import Random
from typing import Annotated, Any, ClassVar, Literal, NotRequired, TypedDict

import numpy as np
from PIL import Image
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from jigsaw.tasks.contract import Extent, Puzzle, Reject, Source, SourceKind, Task
from jigsaw.tasks.keys import AnswerStyleKey, DepthUnitKey
from jigsaw.tasks.media.caching import BoundedCache, picture_cache
from jigsaw.tasks.media.depthmaps import (
    DepthArray,
    DepthError,
    DepthMeaning,
    DepthOrientation,
    false_colors,
    read_depth,
    resample_nearest,
)
from jigsaw.tasks.media.formats import MediaError
from jigsaw.tasks.media.grids import MAX_ASPECT, too_long
from jigsaw.tasks.media.photos import PHOTO_REASONS, PhotoError, read_header, read_photo, shrunk
from jigsaw.tasks.permutations import answer_of, draw_shown

CACHE_BYTES = 128 * 2**20


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class MeasuredConfig:
    """Limits of the depths, size of the pictures, and format of the depth files."""

    points: Annotated[int, Field(ge=2, le=12, description="how many points, 2 to 12")] = 6
    min_depth: Annotated[float, Field(gt=0, description="nearest depth of a point, in metres")] = 0.1
    max_depth: Annotated[float, Field(gt=0, description="farthest depth of a point, in metres")] = 10.0
    min_gap: Annotated[float, Field(ge=0, description="least difference in depth of two points, in metres")] = 0.2
    max_side: Annotated[int | None, Field(ge=64, description="shrink pictures with a longer side to it, in px")] = 1024
    pairs: Annotated[
        str, Field(description="auto, scannet, tum, or COLOR::DEPTH, two paths with {} for their common part")
    ] = "auto"
    kind: Annotated[
        Literal["auto", "depth", "disparity", "relative", "inverse"],
        Field(
            description="content of the maps; auto: disparity if `disp` is in the name, else depth; relative: no unit, "
            "larger is farther; inverse: no unit, larger is nearer (MiDaS, Depth Anything)"
        ),
    ] = "auto"
    depth_unit: DepthUnitKey = None
    focal: Annotated[float | None, Field(gt=0, description="disparity: focal length in px; null: from camera.json")] = (
        None
    )
    baseline: Annotated[
        float | None, Field(gt=0, description="disparity: camera distance in metres; null: from camera.json")
    ] = None
    disparity_offset: Annotated[
        float | None, Field(description="disparity: px added to each; null: from camera.json, else 0")
    ] = None
    npz_key: Annotated[
        str | None, Field(description="array of an npz file or channel of an exr file; null: its only one")
    ] = None
    depth_orientation: Annotated[
        DepthOrientation,
        Field(
            description="for maps whose photo has an EXIF orientation; photo: turn the map like the photo; upright: do "
            "not turn it; auto: by the map's own tag or shape, else reject"
        ),
    ] = "auto"
    relative_gap: Annotated[
        float, Field(gt=0, lt=1, description="kind=relative or inverse: min_gap as a share of the map's range")
    ] = 0.05
    identity: Annotated[bool, Field(description="whether the numbers may be in the right order")] = True
    answer_style: AnswerStyleKey = "think"

    def __post_init__(self) -> None:
        if self.max_depth <= self.min_depth:
            raise ValueError(f"max_depth={self.max_depth} must be above min_depth={self.min_depth}")
        if self.pairs not in ("auto", "scannet", "tum"):
            color, _, depth = self.pairs.partition("::")
            if color.count("{}") != 1 or depth.count("{}") != 1:
                example = "rgb/{}.jpg::depth/{}.png"
                raise ValueError(f"pairs={self.pairs!r} must be auto, scannet, tum, or two paths like {example}")


class PictureGeometry(TypedDict):
    """How a picture is shown.

    Attributes:
        scale: reduction at which the picture is decoded: 1, 2, 4 or 8.
        source_size: width and height of the picture file, upright.
        size: width and height with which the picture is shown.
        relative: True where the depths have no unit: 0 is the nearest and 1 the farthest of the map.
    """

    scale: int
    source_size: list[int]
    size: list[int]
    relative: NotRequired[bool]


class MeasuredTask(Task):
    """A question about the depth of a picture."""

    source_kind: ClassVar[SourceKind] = "rgbd"
    # The samples have a camera.json with the format of their depth.
    SMALL: ClassVar[Mapping[str, Any]] = {
        "max_side": 160,
        "min_gap": 0.05,
        "pairs": "auto",
        "kind": "auto",
        "depth_unit": None,
        "focal": None,
        "baseline": None,
        "disparity_offset": None,
        "npz_key": None,
        "depth_orientation": "auto",
    }
    Config: ClassVar[type] = MeasuredConfig
    REASONS: ClassVar[Mapping[str, str]] = PHOTO_REASONS | {
        "bad_depth": "the depth map cannot be read: it is missing, damaged or of an unknown format",
        "size_mismatch": "picture and depth map have different shapes",
        "orientation": "the orientation of the depth map is unknown: the photo has an EXIF orientation",
        "no_depth": "the picture has no depth map with measured values",
        "too_long": f"the picture is at least {MAX_ASPECT} times as long as wide",
        "out_of_range": "no measured value is between `min_depth` and `max_depth` metres: the unit may be wrong",
    }

    LATER_KEYS = ("depth_orientation", "relative_gap")

    config: MeasuredConfig

    def __init__(self, config: MeasuredConfig | None = None) -> None:
        super().__init__(config)
        self._depths: BoundedCache[DepthArray] = BoundedCache(CACHE_BYTES, lambda depth: depth.nbytes)
        self._photos = picture_cache()

    @abstractmethod
    def choose(self, source: Source, size: tuple[int, int], rng: Random) -> dict[str, Any] | Reject:
        """Draw the points or regions, nearest first: a part of the geometry, with one entry of `depths` per place.

        Args:
            source: picture and depth map.
            size: width and height of the picture as it is shown.
            rng: the generator of the puzzle.

        Raises:
            PhotoError, DepthError: a file cannot be used.
        """

    def plan(self, source: Source, rng: Random) -> Puzzle | Reject:
        """Choose points or regions and their numbers; unreadable files and pictures with too few are rejected."""
        if "depth" not in source.files:
            return Reject("no_depth", "there is no depth map for the picture")
        try:
            about = self._opened(source)
            chosen = self.choose(source, (about["size"][0], about["size"][1]), rng)
        except MediaError as error:
            return Reject(error.reason, str(error))
        if isinstance(chosen, Reject):
            return chosen
        shown = draw_shown(len(chosen["depths"]), rng, identity=self.config.identity)
        geometry = {**about, **chosen, "shown": list(shown)}
        return Puzzle(self.name, answer_of(shown), geometry, self.config.answer_style)

    def depth_picture(self, puzzle: Puzzle, source: Source) -> tuple[Image.Image, float, float]:
        """The depth map in false colours, and the depths in red (near) and blue (far); missing values are black."""
        depth = self.depth_map(source, (puzzle.geometry["size"][0], puzzle.geometry["size"][1]))
        near, far = (float(np.nanpercentile(depth, share)) for share in (1, 99))
        return false_colors(depth, near, far), near, far

    @property
    def pairing(self) -> str:
        """The option `pairs`."""
        return self.config.pairs

    def extent(self) -> Extent:
        """One 4:3 picture, as large as `max_side` allows and at most 1296 pixels wide, as in ScanNet."""
        width = min(1296, self.config.max_side or 1296)
        return Extent(self.config.points, images=((width, width * 3 / 4),))

    def depth_map(self, source: Source, size: tuple[int, int]) -> DepthArray:
        """The source's depth in metres at width and height `size`, NaN where missing; shape `(height, width)`.

        Raises:
            ValueError: the depth map cannot be read or does not fit.
        """

        def make() -> DepthArray:
            header = read_header(source.files["color"])
            meaning, rule = self._meaning(source), self.config.depth_orientation
            return resample_nearest(read_depth(source.files["depth"], meaning, header, rule), size)

        return self._depths.get((source.fingerprint, size), make)

    @property
    def _is_relative(self) -> bool:
        return self.config.kind in ("relative", "inverse")

    def _meaning(self, source: Source) -> DepthMeaning:
        """The format of the depth file: from the configuration or, where that is null, from camera.json."""
        config, camera = self.config, _camera(source)
        named = "disparity" if "disp" in source.path.rpartition("/")[2].lower() else "depth"
        kind: Any = named if config.kind == "auto" else config.kind
        own = {
            "depth_unit_m": config.depth_unit,
            "focal_length_px": config.focal,
            "baseline_m": config.baseline,
            "disparity_offset_px": config.disparity_offset,
        }
        unit, focal, baseline, offset = (camera.get(name) if value is None else value for name, value in own.items())
        return DepthMeaning(
            kind=kind, unit=unit, focal=focal, baseline=baseline, offset=offset or 0.0, key=config.npz_key
        )

    def _opened(self, source: Source) -> PictureGeometry:
        """The geometry of a source's picture.

        Raises:
            PhotoError: it is damaged, or too long.
        """
        header = read_header(source.files["color"])
        size, scale = shrunk(header.size, self.config.max_side or max(header.size))
        if too_long(size):
            shown = f"the picture is {header.size[0]}x{header.size[1]} pixels, shown as {size[0]}x{size[1]}"
            raise PhotoError("too_long", shown)
        self._photo(source, scale, size)
        about: PictureGeometry = {"scale": scale, "source_size": list(header.size), "size": list(size)}
        return {**about, "relative": True} if self._is_relative else about

    def _picture(self, puzzle: Puzzle, source: Source) -> Image.Image:
        """The picture of a puzzle.

        Raises:
            ValueError: it cannot be read, or has another size.
        """
        geometry = puzzle.geometry
        size = read_header(source.files["color"]).size
        if list(size) != geometry["source_size"]:
            raise ValueError(f"{source.path}: the picture is {size}, the puzzle needs {geometry['source_size']}")
        return self._photo(source, geometry["scale"], (geometry["size"][0], geometry["size"][1]))

    def _allowed(self, depth: DepthArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """A mask of the pixels that are measured and, for depth in metres, between `min_depth` and `max_depth`.

        Raises:
            PhotoError: there are none.
        """
        allowed: np.ndarray[Any, np.dtype[np.bool_]] = np.isfinite(depth)
        if not allowed.any():
            raise PhotoError("no_depth", "every value is missing")
        middle = float(np.median(depth[allowed]))
        if not self._is_relative:
            allowed &= (depth >= self.config.min_depth) & (depth <= self.config.max_depth)
        if not allowed.any():
            detail = (
                f"the median depth is {middle:.3g} m, and no value is between min_depth={self.config.min_depth:g} and "
                f"max_depth={self.config.max_depth:g} m; set depth_unit, or kind=disparity"
            )
            raise PhotoError("out_of_range", detail)
        return allowed

    def _photo(self, source: Source, scale: int, size: tuple[int, int]) -> Image.Image:
        def make() -> Image.Image:
            picture = read_photo(source.files["color"], scale)
            return picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC)

        return self._photos.get((source.fingerprint, scale, size), make)


def _camera(source: Source) -> dict[str, Any]:
    """The numbers in the camera.json next to the files, if there is one."""
    file = source.files.get("camera")
    if file is None:
        return {}
    try:
        content = json.loads(file if isinstance(file, bytes) else file.read_bytes())
        return {key: float(value) for key, value in content.items() if isinstance(value, int | float)}
    except (OSError, ValueError, AttributeError) as error:
        raise DepthError(f"camera.json cannot be read: {error}") from error
