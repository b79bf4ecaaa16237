"""The contract of a task: its base class, and the types that every task reads and returns.

A task plans a `Puzzle` (a small record without pixels) from a `Source` (one photo, one video, one RGB-D pair), renders
the puzzle's `Media` and writes its `prompt`. Planning and rendering are separate, so that a data set of millions of
puzzles is small and its pixels are made when a row is read:

    source --plan(rng)--> Puzzle | Reject        Puzzle --render(source)--> Media        Puzzle --prompt--> messages

Worked example, three pieces shown in the order third, first, second::

    shown  = [2, 0, 1]     # 0-based original pieces, in the order in which they are displayed
    answer = [2, 3, 1]     # 1-based: the piece for place 0 is displayed second, for place 1 third, for place 2 first

`answer[i]` is the shown index of the piece that belongs at place `i`, not the place of the piece shown as `i`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from PIL import Image

from jigsaw.tasks.foreign import ForeignRows
from jigsaw.tasks.media.formats import MediaError
from jigsaw.tasks.media.likeness import mean_differences, reduced
from jigsaw.tasks.media.video_display import Frames

AnswerStyle = Literal["think", "direct", "boxed"]
ANSWER_STYLES: tuple[str, ...] = get_args(AnswerStyle)
"""The forms of an answer in a completion; `jigsaw.rewards.parse_order` reads the same three."""

SourceKind = Literal["image", "video", "rgbd", "pair", "video_pair", "posed"]
"""Sources that a task can read: photos, videos, pictures with a depth map, pairs of photos or videos, and scenes of
pictures with depth maps and camera poses."""

Message = dict[str, Any]
"""One chat turn: `{"role": "user", "content": [{"type": "text", "text": ...}, {"type": "image"}, ...]}`."""


ORDER, CHOICE = "order", "choice"
"""The kinds of answers with several pieces: pieces to put in order, and options to choose from."""


class TaskError(ValueError):
    """A task, its configuration or its name is wrong; the message is one line with the remedy."""


@dataclass(frozen=True)
class Source:
    """One input item.

    Attributes:
        path: POSIX path relative to the source root (a tar member or a table row: `container::member`; an
            RGB-D pair: `color::depth`). It names the item in rows and messages and is the same on every machine.
        fingerprint: hash of the content; equal for copies.
        files: role -> a file path, or the bytes (tar members, parquet cells). An image has the role `image`, a video
            `video`, an RGB-D pair `color` and `depth`, a pair of photos or videos `image` or `video` and `other`, a
            scene of posed frames `intrinsics` and, for each frame, `pose/NAME`, `color/NAME` and `depth/NAME`.
        contents: fingerprints of both members of a pair, which must be on the same side of a split; empty for other
            sources.
    """

    path: str
    fingerprint: str
    files: Mapping[str, Path | bytes]
    contents: tuple[str, ...] = ()


@dataclass(frozen=True)
class Puzzle:
    """One question made from one source. Small, immutable, JSON-able; no pixels.

    Attributes:
        task: registered name of the task that made it and can render it.
        answer: for an order, `answer[i]` is the 1-based shown index of the piece that belongs at place `i`, a
            permutation of 1..K; for another kind see `jigsaw.rewards.answers`, such as the label of a choice.
        geometry: what rendering needs in addition to the source (grid, crop, spans, points, shown order); JSON values
            only.
        answer_style: the form in which the prompt asks for the answer.
        classes: None, or one class number per piece in *shown* order (`classes[j]` is the class of the piece shown as
            `j + 1`); pieces of one class look the same and may be exchanged.
        answer_kind: `order`, or `choice`, `number`, `interval`, `box`, `text`, `math`.
        answer_args: arguments of the kind, such as the options of a choice; JSON values only.
    """

    task: str
    answer: Any
    geometry: Mapping[str, Any]
    answer_style: AnswerStyle = "think"
    classes: tuple[int, ...] | None = None
    answer_kind: str = ORDER
    answer_args: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.answer_kind == ORDER:
            if sorted(self.answer) != list(range(1, len(self.answer) + 1)):
                raise TaskError(f"answer {list(self.answer)} is not a permutation of 1..{len(self.answer)}")
        elif self.answer_kind == CHOICE and self.answer not in self.answer_args.get("options", ()):
            raise TaskError(
                f"answer {self.answer!r} is not one of the options {list(self.answer_args.get('options', ()))}"
            )
        if self.answer_style not in ANSWER_STYLES:
            raise TaskError(f"answer_style {self.answer_style!r} is not one of {', '.join(ANSWER_STYLES)}")
        if self.classes is not None and len(self.classes) != self.num_pieces:
            raise TaskError(f"{len(self.classes)} classes for {len(self.answer)} pieces")

    @property
    def num_pieces(self) -> int:
        """The number of pieces of an order, the number of options of a choice, else 1."""
        if self.answer_kind == ORDER:
            return len(self.answer)
        return len(self.answer_args["options"]) if self.answer_kind == CHOICE else 1

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the places: the geometry's `grid` if it has one cell per piece, else None (in a row)."""
        grid = self.geometry.get("grid")
        if not (isinstance(grid, list) and len(grid) == 2 and all(isinstance(side, int) and side > 0 for side in grid)):
            return None
        return (grid[0], grid[1]) if grid[0] * grid[1] == self.num_pieces else None


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question about a square of a photo or a segment of a video, from which a `Puzzle` is made.

    Attributes:
        answer: in the form of its kind.
        geometry: what rendering needs in addition to the square or segment; JSON values only.
        kind, args: `answer_kind` and `answer_args` of the puzzle.
    """

    answer: Any
    geometry: Mapping[str, Any]
    kind: str = CHOICE
    args: Mapping[str, Any] = field(default_factory=dict)

    def puzzle(self, task: Task, geometry: Mapping[str, Any]) -> Puzzle:
        """The puzzle of a task; `geometry` describes the square or segment."""
        return Puzzle(
            task=task.name,
            answer=self.answer,
            geometry={**geometry, **self.geometry},
            answer_style=task.config.answer_style,
            answer_kind=self.kind,
            answer_args=self.args,
        )


@dataclass(frozen=True)
class Reject:
    """The reason why no puzzle could be made from a source.

    Attributes:
        reason: a key of the task's `REASONS`.
        detail: what was observed, for the log.
        final: True if no other draw from this source can succeed (a broken file), False if another draw may (an unlucky
            crop).
    """

    reason: str
    detail: str = ""
    final: bool = True


DRAWS = 8
"""Random squares, crops or segments of a source that are tried before it is rejected."""


def first_usable(plan: Callable[[], Puzzle | Reject]) -> Puzzle | Reject:
    """The first puzzle of at most `DRAWS` calls of `plan`, or the last reject.

    A reject that is final, or a file that cannot be used, ends the calls.
    """
    try:
        for _ in range(DRAWS):
            planned = plan()
            if isinstance(planned, Puzzle) or planned.final:
                break
    except MediaError as error:
        return Reject(error.reason, str(error))
    return planned


@dataclass(frozen=True)
class Clip:
    """Frames of one video piece.

    Attributes:
        frames: uint8 RGB, shape `(T, height, width, 3)`.
        times: float64 seconds from the start of the *source* video, shape `(T,)`, increasing. They reveal the answer to
            a puzzle about time, so they are only for checks and previews; a model gets `moments`.
        fps: frames per second at which the frames were sampled from the clip.
    """

    frames: Frames
    times: np.ndarray[Any, np.dtype[np.float64]]
    fps: float

    @property
    def moments(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Seconds from the first frame, `0, 1/fps, 2/fps ...`, shape `(T,)`: the same for every clip of a puzzle.

        The differences of `times` are not used: they are rounded to the frames of the video, differently in every clip.
        """
        return np.arange(len(self.frames)) / self.fps


@dataclass(frozen=True)
class Media:
    """The RGB images or clips of a puzzle, in the order of the prompt's placeholders."""

    images: Sequence[Image.Image] = field(default=())
    videos: Sequence[Clip] = field(default=())


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """The pieces of a rendered puzzle in shown order, as audit, preview and report read them.

    Attributes:
        frames: per piece uint8 RGB, shape `(T, height, width, 3)`; T is 1 for a tile, the number of frames for a clip.
            Empty if the media are not the pieces (points on a picture, one sheet with all tiles).
        times: per piece seconds of its frames in the source video, shape `(T,)`; empty if there are no videos.
        grid: rows and columns of the places; None if the places are in a row.
        points: per piece x and y in pixels of `picture`, if the pieces are points; else empty.
        picture: the picture with the points or the hole, shape `(height, width, 3)`.
        radius: radius of the discs on the points in pixels.
        hole: left, top, right and bottom in pixels of the part of `picture` that one of the pieces fills, or None.
        reach: per place, how far its piece is from `picture` according to the prompt; empty if the prompt gives none.
    """

    frames: Sequence[Frames] = ()
    times: Sequence[np.ndarray[Any, np.dtype[np.float64]]] = ()
    grid: tuple[int, int] | None = None
    points: Sequence[tuple[float, float]] = ()
    picture: Frames | None = None
    radius: int = 0
    hole: tuple[int, int, int, int] | None = None
    reach: Sequence[float] = ()


@dataclass(frozen=True)
class PromptVariant:
    """Another way to ask the question of a task, to test whether a model depends on the wording of the prompt.

    All variants end with the same answer instruction, because the parser depends on it.

    Attributes:
        opening: first sentence; may contain `{count}`, `{rows}` and `{columns}`.
        label: text before each piece, may contain `{number}`; not used if the media are not the pieces.
        question: the question itself.
    """

    opening: str
    label: str
    question: str


Leak = Literal["order", "edges", "look", "form", "position"]
LEAKS: tuple[str, ...] = get_args(Leak)
"""Cues that a shortcut of `jigsaw audit` uses: the numbers of the pieces, continuing borders, brightness and texture,
file sizes and compression, or the positions of points."""


TYPICAL_PHOTO = (640, 480)
"""Width and height in pixels of a typical photo (COCO)."""


@dataclass(frozen=True)
class Extent:
    """Number and sizes of the media of a typical puzzle, from which `--dry-run` computes tokens.

    Attributes:
        pieces: number of pieces.
        images: width and height in pixels of each image.
        clips: width, height and frames of each clip.
    """

    pieces: int
    images: Sequence[tuple[float, float]] = ()
    clips: Sequence[tuple[float, float, int]] = ()


class Task(ABC):
    """Base class of the tasks. A subclass declares its configuration and the methods `plan`, `render` and `prompt`.

    All other members have a default for a task whose media are its pieces, so that building, loading, auditing,
    previews, generalisation and reports work for any plug-in.

    Class attributes:
        name: the registered name, stored in every row.
        source_kind: the sources that it reads.
        Config: a frozen, keyword-only dataclass; every field has a default and is validated when the configuration is
            created. Fields are the `KEY=VALUE` of the command line and the keys of a recipe.
        REASONS: every `Reject.reason` that `plan` may return, with its meaning.
        LATER_KEYS: keys of the configuration that were added later. They are part of a puzzle's id only if they differ
            from their default, so that a new key does not change existing ids.
        PIECE: the word for a piece in previews.
        SIZE: the key of the configuration that sets the number of pieces, and the values that `jigsaw generalize`
            tries; None: no other sizes.
        SMALL: the configuration of `jigsaw launch RECIPE --tiny`, with which a tiny model trains on a CPU.
        VARIANTS: other ways to ask the question.
        REMEDIES: for each kind of leak, the options of this task that reduce it; `jigsaw audit` prints them.
        FOREIGN: the rows of the paper's released data that it can adopt; None: none.
        STORED: True if rows contain all of their media, or have none, so that no source is read again.
    """

    name: ClassVar[str]
    source_kind: ClassVar[SourceKind]
    Config: ClassVar[type]
    REASONS: ClassVar[Mapping[str, str]] = {}
    LATER_KEYS: ClassVar[tuple[str, ...]] = ()
    PIECE: ClassVar[str] = "piece"
    SIZE: ClassVar[tuple[str, tuple[str, ...]] | None] = None
    SMALL: ClassVar[Mapping[str, Any]] = {}
    VARIANTS: ClassVar[tuple[PromptVariant, ...]] = ()
    REMEDIES: ClassVar[Mapping[Leak, str]] = {}
    FOREIGN: ClassVar[ForeignRows | None] = None
    STORED: ClassVar[bool] = False

    def __init__(self, config: Any = None) -> None:
        self.config = self.Config() if config is None else config

    @abstractmethod
    def plan(self, source: Source, rng: Random) -> Puzzle | Reject:
        """Choose geometry, shown order and answer; the same source and `rng` state give the same puzzle."""

    @abstractmethod
    def render(self, puzzle: Puzzle, source: Source) -> Media:
        """Make the puzzle's media, with the same pixels every time.

        Raises:
            OSError, ValueError: the source cannot be read, or is not the source of the puzzle.
        """

    @abstractmethod
    def prompt(self, puzzle: Puzzle) -> list[Message]:
        """The chat messages, one placeholder part per rendered medium."""

    @property
    def pairing(self) -> str:
        """Layout of RGB-D pairs: `auto`, a name, or `COLOR::DEPTH` (`jigsaw.data.sources.depth_pairs`)."""
        return "auto"

    def extent(self) -> Extent:
        """Number and sizes of the media of a puzzle from a typical source; by default one photo."""
        return Extent(pieces=1, images=(TYPICAL_PHOTO,))

    def explain(self, puzzle: Puzzle, source: Source) -> Sequence[tuple[str, Image.Image]]:
        """Pictures, each with a title, that explain the puzzle to a person in the preview; by default none."""
        return ()

    def notes(self, puzzle: Puzzle) -> Sequence[str]:
        """Sentences for the preview, such as the measurements behind the answer; by default none."""
        return ()

    def verify(self, puzzle: Puzzle, source: Source) -> Sequence[str]:
        """Faults of a puzzle's media, found by reading the source in a second, independent way; by default none.

        `jigsaw check` calls it once per source and lists the sentences.
        """
        return ()

    def pieces(self, puzzle: Puzzle, media: Media) -> Pieces:
        """The pieces as they were rendered, in shown order.

        By default one clip, or an equal number of images, is one piece; other media are not treated as pieces. The grid
        is that of the geometry if it has one cell per piece.
        """
        count, grid = puzzle.num_pieces, puzzle.grid
        if len(media.videos) == count:
            return Pieces(
                frames=[clip.frames for clip in media.videos], times=[clip.times for clip in media.videos], grid=grid
            )
        each, left = divmod(len(media.images), count)
        if left or not each:
            return Pieces(grid=grid)
        pixels = [np.asarray(image.convert("RGB")) for image in media.images]
        starts = range(0, len(pixels), each)
        return Pieces(frames=[np.stack(pixels[start : start + each]) for start in starts], grid=grid)

    def difficulty(self, puzzle: Puzzle, pieces: Pieces) -> float | None:
        """How different the pieces are; smaller values are harder. Comparable only between puzzles of one kind.

        By default the mean over the pieces of the difference to the most similar piece: root mean square over 16x16
        pixels of the middle frame, 0 to 255. None if there are no pieces to compare.
        """
        frames = [Image.fromarray(piece[len(piece) // 2]) for piece in pieces.frames]
        if len(frames) < 2:
            return None
        apart = mean_differences(reduced(frames))
        np.fill_diagonal(apart, np.inf)
        return float(apart.min(axis=1).mean())

    def variants(self, puzzle: Puzzle) -> Sequence[PromptVariant]:
        """The other ways to ask this puzzle's question; by default `VARIANTS`."""
        return self.VARIANTS

    def adopt(self, source: Source, rng: Random, about: Mapping[str, Any], style: AnswerStyle) -> Puzzle | Reject:
        """A puzzle with the geometry of a row of the paper's released data; the shown order is drawn here.

        Args:
            source: the medium of the row.
            rng: the generator of the shown order.
            about: the row's description of its medium: `path`, sizes, points; see `FOREIGN`.
            style: the form in which the row's prompt asks for the answer.

        Raises:
            KeyError, TypeError, ValueError: the row lacks a value, or has one of another form.
            PhotoError, VideoError: the medium cannot be used.
        """
        raise TaskError(f"task {self.name} cannot adopt puzzles of the paper's released data")
