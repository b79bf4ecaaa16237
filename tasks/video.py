"""The video jigsaw: a video cut into clips of equal length, shown in a shuffled order.

In: one video. Out: a puzzle whose places are the clips in time, rendered as one `Clip` of frames per piece, or as
images for models without video input. Options:

- `grid`: every clip is cut into tiles too, and a piece is one tile of one clip (places: clip by clip, and within a clip
  in raster order)
- `window`: the clips are cut from a random part of the video, so that a long video yields many puzzles
- `crop_scale`: the clips show a random part of the frames
- `augment`: the frames are mirrored and their channels reordered, as for photos

The paper (section 3.2) has six clips with 5% trimmed, 2 frames per second, at most 12 frames of 128 x 28 x 28 pixels,
and videos of at least 24 seconds. The test for clips that look the same, windows, crops and `augment` are additions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Annotated, Any, ClassVar, Literal, NotRequired, TypedDict, cast

import numpy as np
from PIL import Image
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from jigsaw.tasks.contract import (
    AnswerStyle,
    Clip,
    Extent,
    Media,
    Message,
    PromptVariant,
    Puzzle,
    Reject,
    Source,
)
from jigsaw.tasks.decoding import DecodingTask
from jigsaw.tasks.foreign import ForeignRows, pair_of
from jigsaw.tasks.image import Augment
from jigsaw.tasks.keys import AnswerStyleKey, DecoderKey, FrameMultipleKey, FramePixelsKey
from jigsaw.tasks.media.clips import equal_spans, frame_numbers
from jigsaw.tasks.media.grids import Box, Grid, Region, parse_grid
from jigsaw.tasks.media.likeness import look_alike_classes, peak_differences, reduced
from jigsaw.tasks.media.video_check import second_reading
from jigsaw.tasks.media.video_display import Frames
from jigsaw.tasks.media.videos import VIDEO_REASONS, VideoHeader
from jigsaw.tasks.permutations import answer_of, draw_shown
from jigsaw.tasks.prompts import instruction_of, labelled_pieces, user_message
from jigsaw.tasks.registry import make_config

DENSE_BYTES = 64 * 2**20
"""With a `window`, all frames of a video are decoded once for all its puzzles if they take at most this many bytes."""

VERIFIED = 4
"""Frames of a puzzle that `jigsaw check` reads a second time."""

FOREIGN_TRIM = 0.1
"""Fraction that the authors' code trims from both ends of a clip; the paper says 0.05."""

FOREIGN_KEYS = {
    "jigsaw_clip_num": "clips",
    "fps": "fps",
    "fps_min_frames": "min_frames",
    "fps_max_frames": "max_frames",
    "max_pixels": "max_pixels",
}
"""Keys of a row of the paper's released data -> keys of the configuration."""


class VideoGeometry(TypedDict):
    """How a video is cut and shown.

    Attributes:
        decoder: the decoder of the frames.
        source_size: width and height of the video, upright, in pixels.
        size: width and height of the shown frames.
        duration: seconds of the video.
        fps: frames per second of a clip as it is shown.
        spans: start and end of each clip in seconds, in the right order.
        frames: numbers of the frames of each clip in the video.
        grid: rows and columns into which every clip is cut; None: full frames.
        shown_as: `video`, one video per clip, or `images`, its frames.
        shown: the 0-based pieces, numbered in the right order, as they are displayed.
        interlaced: True if a frame contains two fields of different moments.
        timeline: `decoded` if the times of the frames were computed by decoding the whole video.
        crop: the random part of the frames that is shown: `canvas`, width and height at which they are decoded, and
            `box`, left, top, right and bottom of the part in pixels of the canvas.
        augment: the change of the frames.
    """

    decoder: str
    source_size: list[int]
    size: list[int]
    duration: float
    fps: float
    spans: list[list[float]]
    frames: list[list[int]]
    grid: list[int] | None
    shown_as: str
    shown: NotRequired[list[int]]
    interlaced: NotRequired[bool]
    timeline: NotRequired[str]
    crop: NotRequired[dict[str, list[int]]]
    augment: NotRequired[Augment]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class VideoConfig:
    """How videos are cut and shown."""

    clips: Annotated[int, Field(ge=2, le=12, description="into how many clips of equal length, 2 to 12")] = 6
    trim: Annotated[float, Field(ge=0, le=0.45, description="fraction of a clip cut from each of its ends")] = 0.05
    fps: Annotated[float, Field(gt=0, le=120, description="frames per second of a clip")] = 2.0
    min_frames: Annotated[int, Field(ge=1, description="fewest frames per clip")] = 2
    max_frames: Annotated[int, Field(ge=1, description="most frames per clip")] = 12
    max_pixels: FramePixelsKey = 100352
    min_tile: Annotated[
        int, Field(ge=1, description="reject videos whose pieces are cut or shown smaller, in pixels a side")
    ] = 28
    multiple: FrameMultipleKey = 28
    min_duration: Annotated[float, Field(ge=0, description="reject shorter videos, in seconds")] = 24.0
    window: Annotated[
        float | None, Field(gt=0, description="seconds of the random part that is used; null: the whole video")
    ] = None
    crop_scale: Annotated[
        float, Field(ge=0.1, le=1, description="smallest random crop, as a fraction of the frame's sides; 1: no crop")
    ] = 1.0
    augment: Annotated[
        bool,
        Field(description="mirror frames and swap their colour channels at random, for more variety from few videos"),
    ] = False
    grid: Annotated[Grid | None, Field(description="cut every clip into rows x columns too; null: full frames")] = None
    static: Annotated[
        Literal["reject", "classes", "keep"],
        Field(description="clips that look the same: reject the video, record classes, or keep it as it is"),
    ] = "reject"
    static_tolerance: Annotated[
        float, Field(ge=0, le=255, description="two clips look the same below this difference, 0 to 255")
    ] = 8.0
    decoder: DecoderKey = "auto"
    shown_as: Annotated[
        Literal["video", "images"], Field(description="one video per clip, or its frames as images")
    ] = "video"
    identity: Annotated[bool, Field(description="whether the shown order may be the right order")] = True
    answer_style: AnswerStyleKey = "think"

    def __post_init__(self) -> None:
        if self.max_frames < self.min_frames:
            raise ValueError(f"max_frames={self.max_frames} is less than min_frames={self.min_frames}")


class VideoTask(DecodingTask):
    """Put shuffled video clips back in chronological order."""

    name: ClassVar[str] = "video"
    SMALL: ClassVar[Mapping[str, Any]] = {
        "fps": 4,
        "max_frames": 2,
        "max_pixels": 2048,
        "min_duration": 0,
        "static": "keep",
    }
    Config: ClassVar[type] = VideoConfig
    REASONS = VIDEO_REASONS | {
        "too_short": "the video is shorter than `min_duration` seconds (or than `window`)",
        "too_small": "a piece would have fewer than `min_tile` pixels a side, in the video or as it is shown",
        "too_long": "pieces of this shape cannot be shown within `max_pixels`",
        "too_few_frames": "the video has too few different frames for `clips` clips with `min_frames` frames each",
        "static": "two clips look the same: nothing moves, or the video repeats itself",
    }
    SIZE = ("clips", ("4", "6", "8"))
    VARIANTS = (
        PromptVariant(
            "Somebody mixed up {count} scenes of a film.", "Scene {number}", "In what sequence did they happen?"
        ),
        PromptVariant(
            "These {count} recordings follow each other in time.",
            "({number})",
            "Sort them from the first to the last.",
        ),
    )
    REMEDIES: ClassVar = {
        "edges": "trim=0.1 or more leaves out more between clips",
        "look": "use videos that do not fade or drift, or set fewer clips and use more videos",
        "form": "set max_pixels, which resizes the frames, or a larger trim, which removes ends that differ",
    }
    FOREIGN = ForeignRows(column="videos")

    LATER_KEYS = ("min_tile",)

    config: VideoConfig

    def __init__(self, config: VideoConfig | None = None) -> None:
        super().__init__(config)
        self._grid = parse_grid(self.config.grid) if self.config.grid else None

    def _plan(self, source: Source, rng: Random, *, played: bool) -> Puzzle | Reject:
        geometry = self._cut(self._header(source, played), rng)
        if isinstance(geometry, Reject):
            return geometry
        if played:
            geometry["timeline"] = "decoded"
        classes = self._classes(source, geometry)
        if self.config.static != "reject" or len(set(classes)) == len(classes):
            return self._puzzle(geometry, classes, rng)
        varied = self.config.window is not None or self.config.crop_scale < 1
        pairs = [number + 1 for number, kind in enumerate(classes) if classes.count(kind) > 1]
        return Reject("static", f"pieces {', '.join(map(str, pairs))} look like other pieces", final=not varied)

    def render(self, puzzle: Puzzle, source: Source) -> Media:
        """The pieces in shown order: clips, or their frames as images.

        `Clip.times` are seconds of the *source* video, which reveal the order; a model may only see `Clip.moments`.
        """
        geometry = cast(VideoGeometry, puzzle.geometry)
        pieces = self._pieces(source, geometry)
        clips = [pieces[piece] for piece in geometry["shown"]]
        if geometry["shown_as"] == "video":
            return Media(videos=clips)
        return Media(images=[Image.fromarray(frame) for clip in clips for frame in clip.frames])

    def verify(self, puzzle: Puzzle, source: Source) -> list[str]:
        """Compare a sample of the frames with a sequential decode of the video."""
        geometry = cast(VideoGeometry, puzzle.geometry)
        numbers = [number for clip in geometry["frames"] for number in clip]
        header = self._header_of(source, geometry, numbers)
        frames = self._decoded(source, header, numbers, geometry)
        sample = sorted({round(place * (len(numbers) - 1) / (VERIFIED - 1)) for place in range(VERIFIED)})
        return second_reading(source.files["video"], header, [numbers[place] for place in sample], frames[sample])

    def extent(self) -> Extent:
        """Clips of a 720p video that is long enough for `max_frames`."""
        config = self.config
        (width, height), (rows, columns) = self._typical_size(), self._grid or (1, 1)
        pieces, width, height = config.clips * rows * columns, width // columns, height // rows
        if config.shown_as == "images":
            return Extent(pieces, images=((width, height),) * (pieces * config.max_frames))
        return Extent(pieces, clips=((width, height, config.max_frames),) * pieces)

    def prompt(self, puzzle: Puzzle) -> list[Message]:
        """Every clip after its number, the question and the answer instruction."""
        geometry, count = cast(VideoGeometry, puzzle.geometry), puzzle.num_pieces
        clips, per_clip = len(geometry["spans"]), len(geometry["frames"][0])
        if geometry["grid"] is None:
            opening = f"One video was cut into {count} clips of equal length, and the clips were shuffled."
            order = "in the order of time, earliest first"
        else:
            rows, columns = geometry["grid"]
            opening = (
                f"One video was cut into {clips} clips of equal length and every clip into {rows} x {columns} tiles; "
                "all these pieces were shuffled."
            )
            order = "clip after clip in the order of time, and within a clip in raster order (left to right, top first)"
        pieces: list[Any] = labelled_pieces(puzzle, "Clip", "video")
        if geometry["shown_as"] == "images":
            moments = ", ".join(f"{frame / geometry['fps']:.1f}" for frame in range(per_clip))
            labels = [f"Clip {number}, frames at {moments} s:" for number in range(1, count + 1)]
            pieces = [part for label in labels for part in (label, *([{"type": "image"}] * per_clip))]
        asked = f"Which clip belongs where? List the clip numbers {order}. {instruction_of(puzzle)}"
        return user_message([opening, *pieces, asked])

    def variants(self, puzzle: Puzzle) -> Sequence[PromptVariant]:
        """None if clips are cut into tiles, because the variants ask only about time."""
        return () if puzzle.geometry["grid"] else self.VARIANTS

    def adopt(self, source: Source, rng: Random, about: Mapping[str, Any], style: AnswerStyle) -> Puzzle | Reject:
        """The video, cut with the row's settings (`jigsaw_clip_num`, `fps`, `spatial_jigsaw_grid_config`, ...)."""
        config: dict[str, Any] = {
            key: about[column] for column, key in FOREIGN_KEYS.items() if about.get(column) is not None
        }
        grid = pair_of(about.get("spatial_jigsaw_grid_config"))
        if grid is not None and grid != (1, 1):
            config["grid"] = f"{grid[0]}x{grid[1]}"
        config |= {"trim": FOREIGN_TRIM, "min_duration": 0, "answer_style": style}
        return type(self)(make_config(type(self), config)).plan(source, rng)

    def _puzzle(self, geometry: VideoGeometry, classes: tuple[int, ...], rng: Random) -> Puzzle:
        shown = draw_shown(len(classes), rng, identity=self.config.identity)
        geometry["shown"] = list(shown)
        alike = len(set(classes)) < len(classes)
        return Puzzle(
            task=self.name,
            answer=answer_of(shown),
            geometry=geometry,
            answer_style=self.config.answer_style,
            classes=tuple(classes[piece] for piece in shown) if alike else None,
        )

    def _cut(self, header: VideoHeader, rng: Random) -> VideoGeometry | Reject:
        """The geometry without the shown order."""
        config, duration = self.config, header.duration
        least = max(config.min_duration, config.window or 0)
        if duration < least:
            key = "min_duration" if least == config.min_duration else "window"
            return Reject("too_short", f"the video has {duration:.1f} s; {key}={least:g} needs at least {least:g} s")
        begin = 0.0 if config.window is None else rng.uniform(0, duration - config.window)
        cut = equal_spans(config.window or duration, config.clips, config.trim)
        spans = [(begin + start, begin + end) for start, end in cut]
        length = spans[0][1] - spans[0][0]
        count = min(max(round(length * config.fps), config.min_frames), config.max_frames)
        frames = [frame_numbers(header.times, span, count) for span in spans]
        numbers = [number for clip in frames for number in clip]
        if len(set(numbers)) < len(numbers):
            need = f"{count} frames for each of clips={config.clips} clips"
            detail = f"{header.num_frames} frames in {duration:.1f} s do not give {need}"
            return Reject("too_few_frames", detail)
        shown = self._shown(header, "min_tile", self._grid or (1, 1), config.crop_scale)
        if isinstance(shown, Reject):
            return shown
        about = {
            "duration": round(duration, 6),
            "fps": round(count / length, 6),
            "spans": [[round(start, 6), round(end, 6)] for start, end in spans],
            "frames": frames,
            "grid": None if self._grid is None else list(self._grid),
            "shown_as": config.shown_as,
        }
        geometry = cast(VideoGeometry, shown | about)
        if header.display.interlaced:
            geometry["interlaced"] = True
        if config.crop_scale < 1:
            geometry["crop"] = _draw_crop(header.size, geometry["size"], config.crop_scale, rng)
        if config.augment:
            geometry["augment"] = {"mirror": rng.random() < 0.5, "channels": rng.sample(range(3), 3)}
        return geometry

    def _classes(self, source: Source, geometry: VideoGeometry) -> tuple[int, ...]:
        """Look-alike classes of the pieces in the right order. The video is decoded, which finds damaged files."""
        pieces = self._with_fallback(geometry, lambda: self._pieces(source, geometry))
        if self.config.static == "keep":
            return tuple(range(len(pieces)))
        small = np.stack([reduced(map(Image.fromarray, piece.frames)) for piece in pieces])
        return look_alike_classes(peak_differences(small), self.config.static_tolerance)

    def _pieces(self, source: Source, geometry: VideoGeometry) -> list[Clip]:
        """All pieces in the right order, from one decode."""
        numbers = [number for clip in geometry["frames"] for number in clip]
        header = self._header_of(source, geometry, numbers)
        frames = _changed(self._decoded(source, header, numbers, geometry), geometry)
        frames.setflags(write=False)
        per_clip = len(geometry["frames"][0])
        pieces = []
        for clip in range(len(geometry["frames"])):
            taken = slice(clip * per_clip, (clip + 1) * per_clip)
            times = header.times[numbers[taken]]
            for left, top, right, bottom in _tile_boxes(geometry["size"], geometry["grid"]):
                pieces.append(Clip(frames[taken, top:bottom, left:right], times, geometry["fps"]))
        return pieces

    def _decoded(self, source: Source, header: VideoHeader, numbers: list[int], geometry: VideoGeometry) -> Frames:
        """Frames by number, at the size of the canvas if they are cropped, else at the shown size."""
        size = geometry["crop"]["canvas"] if "crop" in geometry else geometry["size"]
        dense = self.config.window is not None and 3 * size[0] * size[1] * header.num_frames <= DENSE_BYTES
        wanted = range(header.num_frames) if dense else numbers
        frames = self._read(source, geometry, wanted, size)
        return frames[numbers] if dense else frames


def _draw_crop(source: Sequence[int], size: Sequence[int], scale: float, rng: Random) -> dict[str, list[int]]:
    """A random part of the frames; they are decoded at a size at which the smallest part need not be enlarged."""
    canvas = [max(shown, min(stored, round(shown / scale))) for stored, shown in zip(source, size, strict=True)]
    share = rng.uniform(scale, 1)
    width, height = (max(1, round(side * share)) for side in canvas)
    left, top = rng.randint(0, canvas[0] - width), rng.randint(0, canvas[1] - height)
    return {"canvas": canvas, "box": [left, top, left + width, top + height]}


def _changed(frames: Frames, geometry: VideoGeometry) -> Frames:
    """Decoded frames with the geometry's crop and `augment` applied."""
    if "crop" in geometry:
        left, top, right, bottom = geometry["crop"]["box"]
        box, size = (left, top, right, bottom), (geometry["size"][0], geometry["size"][1])
        resize = Image.Resampling.BICUBIC
        frames = np.stack([np.asarray(Image.fromarray(frame).resize(size, resize, box=box)) for frame in frames])
    augment = geometry.get("augment")
    if augment is not None:
        frames = frames[:, :, ::-1] if augment["mirror"] else frames
        frames = np.ascontiguousarray(frames[..., augment["channels"]])
    return frames


def _tile_boxes(size: Sequence[int], grid: Sequence[int] | None) -> list[Box]:
    """The tiles of a frame in raster order, or the full frame."""
    width, height = size
    if grid is None:
        return [(0, 0, width, height)]
    rows, columns = grid
    cell = (width // columns, height // rows)
    left, top = (width - columns * cell[0]) // 2, (height - rows * cell[1]) // 2
    return Region(left=left, top=top, rows=rows, columns=columns, cell=cell).boxes()
