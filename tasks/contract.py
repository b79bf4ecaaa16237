"""What a puzzle task is: the types that every task reads and returns, and nothing that touches a file.

A task turns a `Source` (one photo, one video, one RGB-D frame pair) into a `Puzzle` (a small record, no pixels),
renders the puzzle into `Media` (what the model sees) and writes its `prompt` (what the model is told). Planning and
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

AnswerStyle = Literal["think", "direct", "boxed"]
ANSWER_STYLES: tuple[str, ...] = get_args(AnswerStyle)
"""How a completion carries its answer; `jigsaw.rewards.parse_order` reads the same three."""

SourceKind = Literal["image", "video", "rgbd"]

Message = dict[str, Any]
"""One chat turn: `{"role": "user", "content": [{"type": "text", "text": ...}, {"type": "image"}, ...]}`."""


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
            image has the role `image`, a video `video`, an RGB-D pair `color` and `depth`.
    """

    path: str
    fingerprint: str
    files: Mapping[str, Path | bytes]


@dataclass(frozen=True)
class Puzzle:
    """One question made from one source. Small, immutable, JSON-able; no pixels.

    Attributes:
        task: registered name of the task that made it and can render it.
        answer: `answer[i]` is the 1-based shown index of the piece that belongs at place `i`; a permutation of 1..K.
        geometry: what rendering needs beside the source (grid, crop, spans, points, shown order); JSON values only.
        answer_style: the form in which the prompt asks for the answer.
        classes: None, or one class number per piece in *shown* order (`classes[j]` is of the piece shown as `j + 1`);
            pieces of one class look the same and may be exchanged.
    """

    task: str
    answer: tuple[int, ...]
    geometry: Mapping[str, Any]
    answer_style: AnswerStyle = "think"
    classes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if sorted(self.answer) != list(range(1, len(self.answer) + 1)):
            raise TaskError(f"answer {list(self.answer)} is no permutation of 1..{len(self.answer)}")
        if self.answer_style not in ANSWER_STYLES:
            raise TaskError(f"answer_style {self.answer_style!r} is none of {', '.join(ANSWER_STYLES)}")
        if self.classes is not None and len(self.classes) != len(self.answer):
            raise TaskError(f"{len(self.classes)} classes for {len(self.answer)} pieces")

    @property
    def num_pieces(self) -> int:
        """`K`, the number of pieces."""
        return len(self.answer)


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
            puzzle about time: they serve checks and people, a model is told `moments`.
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


class Task(ABC):
    """One kind of puzzle. A subclass declares its configuration and three pure methods.

    Class attributes:
        name: the registered name, stored in every row.
        source_kind: which items of a folder it reads.
        Config: a frozen, keyword-only dataclass; every field has a default, and a value that cannot be is refused when
            the configuration is made. Fields are the `KEY=VALUE` of the command line and the keys of a recipe.
        REASONS: every `Reject.reason` that `plan` may return, with what it means.
        LATER_KEYS: keys of the configuration that were added later. They enter the ids of puzzles only where they
            differ from their default, so that a new key changes no puzzle.
    """

    name: ClassVar[str]
    source_kind: ClassVar[SourceKind]
    Config: ClassVar[type]
    REASONS: ClassVar[Mapping[str, str]] = {}
    LATER_KEYS: ClassVar[tuple[str, ...]] = ()

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

    def explain(self, puzzle: Puzzle, source: Source) -> Sequence[tuple[str, Image.Image]]:
        """Pictures for a person who checks the puzzle, each with a title: what the model is not shown.

        Optional; the preview puts them beside the puzzle.
        """
        return ()

    def verify(self, puzzle: Puzzle, source: Source) -> Sequence[str]:
        """What is wrong with a puzzle's media, found by reading the source in a second, independent way.

        Optional; `jigsaw check` asks for it once per source and lists the sentences.
        """
        return ()
