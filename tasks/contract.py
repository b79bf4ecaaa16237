"""What a puzzle task is: the types that every task reads and returns, and nothing that touches a file.

A task turns a `Source` (one photo, one video, one RGB-D frame pair) into a `Puzzle` (a small record, no pixels),
renders the puzzle into `Media` (what the model sees) and writes its `prompt` (what the model reads). Planning and
rendering are apart, so that a data set of millions of puzzles stays small and its pixels are made when they are
looked at:

    source --plan(rng)--> Puzzle | Reject        Puzzle --render(source)--> Media        Puzzle --prompt--> messages

Worked example, three pieces shown in the order third, first, second::

    shown  = [2, 0, 1]     # 0-based original pieces, in the order in which they are displayed
    answer = [2, 3, 1]     # 1-based: the piece for place 0 is displayed second, for place 1 third, for place 2 first

`answer[i]` is the shown index of the piece that belongs at place `i`; it is not the inverse of that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from PIL import Image

from jigsaw.tasks.foreign import ForeignRows
from jigsaw.tasks.media.likeness import mean_differences, signatures

AnswerStyle = Literal["think", "direct", "boxed"]
ANSWER_STYLES: tuple[str, ...] = get_args(AnswerStyle)
"""How a completion carries its answer; `jigsaw.rewards.parse_order` reads the same three."""

SourceKind = Literal["image", "video", "rgbd", "pair", "video_pair", "posed"]
"""What a task reads: photos, videos, pictures with a depth map, two photos or videos at a time, or a scene of pictures
with depth maps and camera poses."""

Message = dict[str, Any]
"""One chat turn: `{"role": "user", "content": [{"type": "text", "text": ...}, {"type": "image"}, ...]}`."""


ORDER, CHOICE = "order", "choice"
"""The kinds of answers whose pieces the framework shows: pieces to put in order, and options to choose from."""


class TaskError(ValueError):
    """A task, its configuration or its name is wrong; the message is one line for the user, with the remedy."""


@dataclass(frozen=True)
class Source:
    """One input item.

    Attributes:
        path: POSIX path relative to the source root (a tar member or a table row: `container::member`; an
            RGB-D pair: `color::depth`). It names the item in rows and messages and is the same on every machine.
        fingerprint: hash of the content; equal for copies.
        files: role -> where the bytes are: a file path, or the bytes themselves (tar members, parquet cells). An
            image has the role `image`, a video `video`, an RGB-D pair `color` and `depth`, a pair of photos or videos
            `image` or `video` and `other`, a scene of posed frames `intrinsics` and, for each frame, `pose/NAME`,
            `color/NAME` and `depth/NAME`.
        contents: fingerprints of the two of a pair, all of which have to be on one side of a split; empty: there is
            one content.
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
        answer: of an order `answer[i]` is the 1-based shown index of the piece that belongs at place `i`, a permutation
            of 1..K; of another kind what `jigsaw.rewards.answers` says, such as the label of a choice.
        geometry: what rendering needs beside the source (grid, crop, spans, points, shown order); JSON values only.
        answer_style: the form in which the prompt asks for the answer.
        classes: None, or one class number per piece in *shown* order (`classes[j]` is of the piece shown as `j + 1`);
            pieces of one class look the same and may be exchanged.
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
                raise TaskError(f"answer {list(self.answer)} is no permutation of 1..{len(self.answer)}")
        elif self.answer_kind == CHOICE and self.answer not in self.answer_args.get("options", ()):
            raise TaskError(
                f"answer {self.answer!r} is none of the options {list(self.answer_args.get('options', ()))}"
            )
        if self.answer_style not in ANSWER_STYLES:
            raise TaskError(f"answer_style {self.answer_style!r} is none of {', '.join(ANSWER_STYLES)}")
        if self.classes is not None and len(self.classes) != self.num_pieces:
            raise TaskError(f"{len(self.classes)} classes for {len(self.answer)} pieces")

    @property
    def num_pieces(self) -> int:
        """`K`, the number of pieces; of a choice the number of its options; else 1."""
        if self.answer_kind == ORDER:
            return len(self.answer)
        return len(self.answer_args["options"]) if self.answer_kind == CHOICE else 1

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the places: the geometry's `grid` where it has a cell per piece, else None (in a row)."""
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


@dataclass(frozen=True)
class Reject:
    """Why no puzzle could be made from a source.

    Attributes:
        reason: a key of the task's `REASONS`.
        detail: what was seen, for the log.
        final: True if no other draw from this source could do better (a broken file), False if another index of the
            same source is worth a try (an unlucky crop).
    """

    reason: str
    detail: str = ""
    final: bool = True


@dataclass(frozen=True)
class Clip:
    """Frames of one video piece.

    Attributes:
        frames: uint8 RGB, shape `(T, height, width, 3)`.
        times: float64 seconds from the start of the *source* video, shape `(T,)`, increasing. They are the answer to a
            puzzle about time: they are for checks and for people; a model gets `moments`.
        fps: frames per second at which the frames were taken from the clip.
    """

    frames: np.ndarray[Any, np.dtype[np.uint8]]
    times: np.ndarray[Any, np.dtype[np.float64]]
    fps: float

    @property
    def moments(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Seconds from the first frame, `0, 1/fps, 2/fps ...`, shape `(T,)`: the same for every clip of a puzzle.

        `times` minus the first would not do: it is rounded to the frames there are, differently in every clip.
        """
        return np.arange(len(self.frames)) / self.fps


@dataclass(frozen=True)
class Media:
    """What the model sees, in the order of the prompt's placeholders: RGB images, or clips."""

    images: Sequence[Image.Image] = field(default=())
    videos: Sequence[Clip] = field(default=())


Frames = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """The pieces of a rendered puzzle in shown order, as audit, preview and report read them.

    Attributes:
        frames: per piece uint8 RGB, shape `(T, height, width, 3)`: T is 1 for a tile, the number of frames for a clip.
            Empty where the media are not the pieces (points on a picture, one sheet with all tiles).
        times: per piece seconds of its frames in the source video, shape `(T,)`; empty where there is no time.
        grid: rows and columns of the places; None where the places are in a row.
        points: per piece x and y in pixels of `picture`, where the pieces are points; else empty.
        picture: the picture on which the points lie, or that has the hole; shape `(height, width, 3)`.
        radius: radius in pixels of the discs on the points.
        hole: left, top, right and bottom in pixels of the part of `picture` that one of the pieces fills; None without.
        reach: per place how far from `picture` the prompt says that its piece is; empty where it says nothing.
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
    """Another way to ask the question of a task, to tell understanding from a memorised prompt.

    The form of the answer is asked for in the words of every prompt, because the parser depends on them.

    Attributes:
        opening: first sentence; may hold `{count}`, `{rows}` and `{columns}`.
        label: text before each piece, may hold `{number}`; not used where the media are not the pieces.
        question: the question itself.
    """

    opening: str
    label: str
    question: str


Leak = Literal["order", "edges", "look", "form", "position"]
LEAKS: tuple[str, ...] = get_args(Leak)
"""What a shortcut of `jigsaw audit` reads: the numbers of the pieces, borders that continue each other, brightness and
texture, file sizes and compression, or where points lie."""


TYPICAL_PHOTO = (640, 480)
"""Width and height in pixels of a typical photo; those of COCO."""


@dataclass(frozen=True)
class Extent:
    """How much a puzzle of a typical source shows, from which `--dry-run` computes tokens before any is built.

    Attributes:
        pieces: number of pieces.
        images: width and height in pixels of each image.
        clips: width, height and frames of each clip.
    """

    pieces: int
    images: Sequence[tuple[float, float]] = ()
    clips: Sequence[tuple[float, float, int]] = ()


class Task(ABC):
    """One kind of puzzle. A subclass declares its configuration and three pure methods.

    Everything else has a default that fits a task whose media are its pieces, so that building, loading, auditing,
    previewing, generalisation and reports work for a plug-in that declares nothing more.

    Class attributes:
        name: the registered name, stored in every row.
        source_kind: which items of a folder it reads.
        Config: a frozen, keyword-only dataclass; every field has a default, and a value that cannot be is refused when
            the configuration is made. Fields are the `KEY=VALUE` of the command line and the keys of a recipe.
        REASONS: every `Reject.reason` that `plan` may return, with what it means.
        LATER_KEYS: keys of the configuration that were added later. They enter the ids of puzzles only where they
            differ from their default, so that a new key changes no puzzle.
        PIECE: what a piece is called on pages.
        SIZE: the key of the configuration that sets the number of pieces, and the values that `jigsaw generalize`
            tries; None: it tries no other sizes.
        SMALL: the configuration with which a tiny model can train on its puzzles on a CPU: what
            `jigsaw launch RECIPE --tiny` builds, of the samples.
        VARIANTS: other ways to ask the question.
        REMEDIES: for each kind of leak what closes it, in this task's options; `jigsaw audit` prints it.
        FOREIGN: which rows of the paper's released data it can adopt; None: none.
        STORED: True where rows hold all of their media, or have none, and no source is read again.
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
        """Make the puzzle's media, the same pixels every time.

        Raises:
            OSError, ValueError: the source cannot be read, or is not the one that was planned for.
        """

    @abstractmethod
    def prompt(self, puzzle: Puzzle) -> list[Message]:
        """The chat messages, one placeholder part per rendered medium."""

    @property
    def pairing(self) -> str:
        """Layout of RGB-D pairs: `auto`, a name, or `COLOR::DEPTH` (`jigsaw.data.sources.depth_pairs`)."""
        return "auto"

    def extent(self) -> Extent:
        """How much a puzzle of a typical source shows.

        Optional; without it a puzzle counts as one photo.
        """
        return Extent(pieces=1, images=(TYPICAL_PHOTO,))

    def explain(self, puzzle: Puzzle, source: Source) -> Sequence[tuple[str, Image.Image]]:
        """Pictures for a person who checks the puzzle, each with a title: what the model is not shown.

        Optional; the preview puts them beside the puzzle.
        """
        return ()

    def notes(self, puzzle: Puzzle) -> Sequence[str]:
        """Sentences for a person who checks the puzzle, such as what the answer rests on.

        Optional; the preview prints them under the puzzle.
        """
        return ()

    def verify(self, puzzle: Puzzle, source: Source) -> Sequence[str]:
        """What is wrong with a puzzle's media, found by reading the source in a second, independent way.

        Optional; `jigsaw check` asks for it once per source and lists the sentences.
        """
        return ()

    def pieces(self, puzzle: Puzzle, media: Media) -> Pieces:
        """The pieces as they were rendered, in shown order.

        By default one clip, or an equal number of images, is one piece; any other media are not the pieces. The grid
        is that of the geometry where it has a cell per piece.
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
        """How much tells the pieces apart; the smaller, the harder. Compared between puzzles of one kind only.

        By default the mean over the pieces of the difference to the piece most like it: root mean square over 16x16
        pixels, 0 to 255, of the middle frame. None where there is nothing to compare.
        """
        frames = [Image.fromarray(piece[len(piece) // 2]) for piece in pieces.frames]
        if len(frames) < 2:
            return None
        apart = mean_differences(np.concatenate([signatures(frame, [(0, 0, *frame.size)]) for frame in frames]))
        np.fill_diagonal(apart, np.inf)
        return float(apart.min(axis=1).mean())

    def variants(self, puzzle: Puzzle) -> Sequence[PromptVariant]:
        """The other ways to ask this puzzle's question; by default `VARIANTS`."""
        return self.VARIANTS

    def adopt(self, source: Source, rng: Random, about: Mapping[str, Any], style: AnswerStyle) -> Puzzle | Reject:
        """A puzzle whose geometry a row of the paper's released data gives; the shown order is drawn here.

        Args:
            about: what the row says about its medium: `path`, sizes, points; see `FOREIGN`.
            style: the form in which the row's prompt asks for the answer.

        Raises:
            KeyError, TypeError, ValueError: the row lacks something, or holds something else.
        """
        raise TaskError(f"task {self.name} adopts no foreign puzzles")
