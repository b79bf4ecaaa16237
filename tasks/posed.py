"""Base class of the tasks on posed RGB-D frames of a scene: reads cameras, pictures and depth, and draws a map.

In: a scene, whose frames have a picture, a depth map and a pose. Out: an order of views. A subclass chooses the frames
(`choose`). Pictures are shrunk to `max_side`; all frames of a scene must have one size.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from random import Random
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from PIL import Image
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from jigsaw.tasks.contract import Extent, Media, Pieces, Puzzle, Reject, Source, SourceKind, Task
from jigsaw.tasks.keys import AnswerStyleKey, DepthUnitKey
from jigsaw.tasks.media.birdseye import Plan, draw_map, mark_cameras, plan_of
from jigsaw.tasks.media.caching import BoundedCache, picture_cache
from jigsaw.tasks.media.depthmaps import DepthArray, DepthError, DepthMeaning, read_depth, resample_nearest
from jigsaw.tasks.media.formats import MediaError
from jigsaw.tasks.media.likeness import look_alike
from jigsaw.tasks.media.photos import PHOTO_REASONS, PhotoError, read_header, read_photo, shrunk
from jigsaw.tasks.media.posed_scene import PosedScene
from jigsaw.tasks.media.poses import Cameras, Matrix, PoseError, read_intrinsics, read_pose, upwards
from jigsaw.tasks.permutations import answer_of, draw_shown

DRAWS = 40
"""Choices of frames that are tried before a scene is rejected."""

CACHE_BYTES = 128 * 2**20

TurnKey = Annotated[
    float,
    Field(gt=0, le=180, description="least angle between two cameras in degrees; a distance of min_move suffices too"),
]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class PosedConfig:
    """Number and distance of the views, and format of the files."""

    views: Annotated[int, Field(ge=2, le=8, description="how many views are shuffled, 2 to 8")] = 4
    min_move: Annotated[
        float, Field(gt=0, description="least distance of two cameras in metres; a difference of min_turn suffices too")
    ] = 0.3
    min_turn: TurnKey = 20.0
    max_side: Annotated[int, Field(ge=64, description="shrink pictures with a longer side to it, in px")] = 448
    up: Annotated[
        Literal["auto", "x", "y", "z", "-x", "-y", "-z"],
        Field(description="axis of the poses that points up; auto: estimated from cameras that are held level"),
    ] = "auto"
    depth_unit: DepthUnitKey = None
    answer_style: AnswerStyleKey = "think"


class PosedTask(Task):
    """A question about shuffled views of one scene."""

    source_kind: ClassVar[SourceKind] = "posed"
    SMALL: ClassVar[Mapping[str, Any]] = {"max_side": 160, "up": "auto", "depth_unit": None}
    Config: ClassVar[type] = PosedConfig
    REASONS: ClassVar[Mapping[str, str]] = PHOTO_REASONS | {
        "bad_depth": "a depth map cannot be read: it is damaged, of an unknown format or of another shape",
        "bad_pose": "a pose or the intrinsics cannot be used",
        "size_mismatch": "pictures of one scene have different sizes, or a depth map another shape",
        "orientation": "a picture has an EXIF orientation, but poses belong to pictures without one",
        "too_few_views": "fewer than `views` frames are far enough apart and show enough of the scene",
        "ambiguous": "two views look the same",
    }
    PIECE = "view"
    SIZE = ("views", ("3", "4", "5"))

    config: PosedConfig

    def __init__(self, config: PosedConfig | None = None) -> None:
        super().__init__(config)
        self._scenes: BoundedCache[PosedScene] = BoundedCache(100, lambda _: 1)
        self._pictures = picture_cache()
        self._depths: BoundedCache[DepthArray] = BoundedCache(CACHE_BYTES, lambda depth: depth.nbytes)
        self._maps: BoundedCache[tuple[Plan, Image.Image]] = BoundedCache(CACHE_BYTES, lambda one: 3 * one[0].side ** 2)

    @abstractmethod
    def choose(self, source: Source, scene: PosedScene, rng: Random) -> tuple[list[int], dict[str, Any]] | None:
        """Draw the frames in the order of their places, and the rest of the geometry; None if the draw failed.

        Raises:
            PhotoError, DepthError: a file cannot be used.
        """

    def plan(self, source: Source, rng: Random) -> Puzzle | Reject:
        """Choose views and their shown order; scenes with damaged files or too few views are rejected."""
        reason = "too_few_views"
        try:
            scene = self.scene(source)
            for _ in range(DRAWS):
                chosen = self.choose(source, scene, rng)
                if chosen is None:
                    continue
                frames, about = chosen
                if look_alike([self.picture(source, scene, scene.names[frame]) for frame in frames]):
                    reason = "ambiguous"
                    continue
                shown = draw_shown(len(frames), rng)
                geometry = {"frames": [scene.names[at] for at in frames], "shown": list(shown), **about}
                return Puzzle(self.name, answer_of(shown), geometry, self.config.answer_style)
        except MediaError as error:
            return Reject(error.reason, str(error))
        detail = f"no views={self.config.views} different views in {DRAWS} samples from {len(scene.names)} frames"
        return Reject(reason, detail, final=False)

    def views(self, puzzle: Puzzle, source: Source) -> list[Image.Image]:
        """The views in shown order."""
        scene, frames = self.scene(source), puzzle.geometry["frames"]
        return [self.picture(source, scene, frames[place]) for place in puzzle.geometry["shown"]]

    def extent(self) -> Extent:
        """The views, and another picture."""
        width = self.config.max_side
        return Extent(self.config.views, images=((width, width * 3 / 4),) * (self.config.views + 1))

    def pieces(self, puzzle: Puzzle, media: Media) -> Pieces:
        """The shuffled views, and the first image."""
        picture, *views = (np.asarray(image.convert("RGB")) for image in media.images)
        return Pieces(frames=[view[None] for view in views], picture=picture)

    def scene(self, source: Source) -> PosedScene:
        """The cameras of a source.

        Raises:
            PoseError, PhotoError: a pose, the intrinsics or a picture cannot be used.
        """
        return self._scenes.get(source.fingerprint, lambda: self._read(source))

    def picture(self, source: Source, scene: PosedScene, name: str, size: tuple[int, int] | None = None) -> Image.Image:
        """The picture of a frame as it is shown, or at another size.

        Raises:
            PhotoError: it is damaged, or its size differs from that of the other frames.
        """

        def make() -> Image.Image:
            self._check_size(source, scene, name)
            picture = read_photo(source.files[f"color/{name}"], scene.scale)
            return picture.resize(size or scene.size, Image.Resampling.BICUBIC)

        return self._pictures.get((source.fingerprint, name, size or scene.size), make)

    def depth(self, source: Source, scene: PosedScene, name: str) -> DepthArray:
        """The small depth map of a frame in metres, NaN where missing; shape `(height, width)` of `scene.sparse`.

        Raises:
            DepthError, PhotoError: it is damaged, or of another shape.
        """
        meaning = DepthMeaning(unit=self.config.depth_unit)
        return self._depths.get(
            (source.fingerprint, name),
            lambda: resample_nearest(read_depth(source.files[f"depth/{name}"], meaning), scene.sparse),
        )

    def map(self, source: Source, side: int) -> tuple[Plan, Image.Image]:
        """The scene from above, `side` pixels wide and high.

        Raises:
            DepthError, PhotoError: a file of a frame cannot be used.
        """

        def make() -> tuple[Plan, Image.Image]:
            scene, points, colors = self.scene(source), [], []
            for number, name in enumerate(scene.names):
                positions = scene.points(number, self.depth(source, scene, name))
                measured = np.isfinite(positions).all(axis=1)
                points.append(positions[measured])
                colors.append(np.asarray(self.picture(source, scene, name, scene.sparse)).reshape(-1, 3)[measured])
            if not sum(map(len, points)):
                raise DepthError("no depth map of the scene has a measured value")
            everywhere = np.concatenate(points)
            plan = plan_of(scene.cameras, everywhere, side)
            return plan, draw_map(plan, scene.cameras, everywhere, np.concatenate(colors))

        return self._maps.get((source.fingerprint, side), make)

    def marked(self, source: Source, names: Sequence[str], side: int = 448) -> Image.Image:
        """The scene from above with the cameras of some frames, numbered in their order."""
        scene, (plan, drawn) = self.scene(source), self.map(source, side)
        numbers = [scene.names.index(name) for name in names]
        places = plan.at(scene.cameras.places[numbers]).tolist()
        return mark_cameras(drawn, places, [plan.way(scene.cameras.axes(at)[1]) for at in numbers], side // 45)

    def _read(self, source: Source) -> PosedScene:
        names = tuple(role.removeprefix("pose/") for role in source.files if role.startswith("pose/"))
        poses = [pose for name in names if (pose := read_pose(source.files[f"pose/{name}"])) is not None]
        if len(poses) < len(names) or not names:
            raise PoseError("a frame has no pose")
        fx, fy, cx, cy = read_intrinsics(source.files["intrinsics"])
        size = self._stored_size(source, names[0])
        shown, scale = shrunk(size, self.config.max_side)
        return PosedScene(
            names=names,
            cameras=Cameras(np.stack(poses), self._up(np.stack(poses))),
            focal=np.array([fx / size[0], fy / size[1]]),
            middle=np.array([cx / size[0], cy / size[1]]),
            size=shown,
            scale=scale,
        )

    def _up(self, poses: Matrix) -> Matrix:
        if self.config.up == "auto":
            return upwards(poses)
        axis: Matrix = np.eye(3)["xyz".index(self.config.up[-1])]
        return -axis if self.config.up.startswith("-") else axis

    def _stored_size(self, source: Source, name: str) -> tuple[int, int]:
        header = read_header(source.files[f"color/{name}"])
        if header.orientation != 1:
            raise PhotoError("orientation", f"frame {name} has the EXIF orientation {header.orientation}")
        return header.size

    def _check_size(self, source: Source, scene: PosedScene, name: str) -> None:
        first, own = (self._stored_size(source, frame) for frame in (scene.names[0], name))
        if own != first:
            what = f"frame {name} is {own[0]}x{own[1]} px, frame {scene.names[0]} {first[0]}x{first[1]} px"
            raise PhotoError("size_mismatch", what)
