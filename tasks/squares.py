"""Base class of the tasks on one square of a photo: chooses the square, decodes it and rejects unsuitable photos.

In: one photo. Out: a puzzle about a square of it with `side` pixels. A subclass decides the question (`ask`) and the
images (`show`). A photo is never enlarged.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Annotated, Any, ClassVar, Literal

from PIL import Image
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from jigsaw.tasks.contract import (
    Extent,
    Media,
    PromptVariant,
    Puzzle,
    Question,
    Reject,
    Source,
    SourceKind,
    Task,
    first_usable,
)
from jigsaw.tasks.keys import AnswerStyleKey
from jigsaw.tasks.media.caching import BoundedCache, picture_cache
from jigsaw.tasks.media.grids import Box, Region
from jigsaw.tasks.media.photos import PHOTO_REASONS, SCALES, PhotoHeader, read_header, read_photo
from jigsaw.tasks.prompts import options_in_words

CACHED_HEADERS = 1000

GREY = (127, 127, 127)
"""Colour of hidden parts of a picture."""


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class SquareConfig:
    """The square of a photo that is shown, and its size."""

    side: Annotated[int, Field(ge=28, le=2048, description="pixels a side with which the square is shown")] = 336
    crop: Annotated[
        Literal["center", "random"],
        Field(description="center: the largest centred square; random: random size and place"),
    ] = "random"
    crop_scale: Annotated[
        float, Field(gt=0, le=1, description="smallest random square, as a fraction of the largest side")
    ] = 0.6
    answer_style: AnswerStyleKey = "think"


class SquareTask(Task):
    """A question about one square of a photo."""

    source_kind: ClassVar[SourceKind] = "image"
    SMALL: ClassVar[Mapping[str, Any]] = {"side": 84}
    Config: ClassVar[type] = SquareConfig
    REASONS: ClassVar[Mapping[str, str]] = PHOTO_REASONS | {
        "too_small": "the photo is smaller than `side` pixels; photos are not enlarged",
        "ambiguous": "the parts to distinguish look the same, so that more than one answer is right",
    }

    config: SquareConfig

    def __init__(self, config: SquareConfig | None = None) -> None:
        super().__init__(config)
        self._photos = picture_cache()
        self._headers: BoundedCache[PhotoHeader] = BoundedCache(CACHED_HEADERS, lambda _: 1)

    def extent(self) -> Extent:
        """The square."""
        return Extent(pieces=1, images=((self.config.side, self.config.side),))

    @abstractmethod
    def ask(self, picture: Image.Image, rng: Random) -> Question | None:
        """Draw the question about a square; None if the answers cannot be distinguished."""

    @abstractmethod
    def show(self, picture: Image.Image, puzzle: Puzzle) -> list[Image.Image]:
        """The images of a puzzle, in the order of the prompt's placeholders."""

    def plan(self, source: Source, rng: Random) -> Puzzle | Reject:
        """Choose a square and its question; photos that are damaged, too small or ambiguous are rejected."""
        return first_usable(lambda: self._plan(source, rng))

    def _plan(self, source: Source, rng: Random) -> Puzzle | Reject:
        side = self.config.side
        header = self._headers.get(source.fingerprint, lambda: read_header(source.files["image"]))
        if min(header.size) < side:
            detail = f"the photo is {header.size[0]}x{header.size[1]} pixels; side={side} needs at least {side}"
            return Reject("too_small", detail)
        square = self._square(header, rng)
        asked = self.ask(self._cut(source, square), rng)
        if asked is None:
            detail = "the square looks the same for every answer"
            return Reject("ambiguous", detail, final=self.config.crop != "random")
        return asked.puzzle(self, {"square": square})

    def render(self, puzzle: Puzzle, source: Source) -> Media:
        """The images of `show`."""
        return Media(images=self.show(self.picture(puzzle, source), puzzle))

    def picture(self, puzzle: Puzzle, source: Source) -> Image.Image:
        """The unchanged square of a puzzle."""
        return self._cut(source, puzzle.geometry["square"])

    def variants(self, puzzle: Puzzle) -> Sequence[PromptVariant]:
        """The task's variants, each followed by the options if they have texts."""
        words = options_in_words(puzzle)
        return [replace(each, question=f"{each.question} {words}".rstrip()) for each in self.VARIANTS]

    def _square(self, header: PhotoHeader, rng: Random) -> dict[str, Any]:
        """A square in pixels of the photo decoded at `1/scale`, and its size as shown."""
        side, largest = self.config.side, min(header.size)
        smallest = largest if self.config.crop == "center" else max(side, round(largest * self.config.crop_scale))
        scale = max(each for each in SCALES if each == 1 or smallest // each >= side)
        width, height = header.scaled_size(scale)
        largest, smallest = min(width, height), max(side, smallest // scale)
        cut = largest if self.config.crop == "center" else rng.randint(min(smallest, largest), largest)
        spare = (width - cut, height - cut)
        left, top = (each // 2 if self.config.crop == "center" else rng.randint(0, each) for each in spare)
        return {"scale": scale, "size": [width, height], "left": left, "top": top, "cut": cut, "side": side}

    def _cut(self, source: Source, square: Mapping[str, Any]) -> Image.Image:
        scale, side = square["scale"], square["side"]
        photo = self._photos.get((source.fingerprint, scale), lambda: read_photo(source.files["image"], scale))
        if photo.size != tuple(square["size"]):
            raise ValueError(f"{source.path}: the photo is {photo.size}, the puzzle was cut from {square['size']}")
        left, top, cut = square["left"], square["top"], square["cut"]
        box = (left, top, left + cut, top + cut)
        return photo.crop(box) if cut == side else photo.resize((side, side), Image.Resampling.BICUBIC, box=box)


def cells_of(side: int, rows: int, columns: int) -> list[Box]:
    """The cells of a grid over a square in raster order, all of one size.

    >>> cells_of(5, 1, 2)
    [(0, 0, 2, 5), (2, 0, 4, 5)]
    """
    return Region(left=0, top=0, rows=rows, columns=columns, cell=(side // columns, side // rows)).boxes()
