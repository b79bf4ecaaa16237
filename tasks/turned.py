"""Base class of `rotation` and `flip`: one change of a whole square, or of one of its tiles.

In: a square of a photo. Out: a choice between the changes in words, or between the numbers of the tiles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Annotated, ClassVar, Literal

import numpy as np
from PIL import Image
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from jigsaw.tasks.contract import Media, Message, Pieces, PromptVariant, Puzzle, Question, Source
from jigsaw.tasks.media.grids import Grid, parse_grid
from jigsaw.tasks.media.likeness import look_alike
from jigsaw.tasks.media.marks import mark_boxes
from jigsaw.tasks.prompts import instruction_of, lettered, numbered, options_in_words, user_message
from jigsaw.tasks.squares import SquareConfig, SquareTask, cells_of


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class TurnedConfig(SquareConfig):
    """What is changed."""

    what: Annotated[
        Literal["picture", "tile"],
        Field(description="picture: ask how the whole square was changed; tile: ask which of its tiles was changed"),
    ] = "picture"
    grid: Annotated[Grid, Field(description="rows x columns of the tiles (what=tile)")] = "2x2"

    def __post_init__(self) -> None:
        if self.what == "tile" and self.side // max(parse_grid(self.grid)) < 14:
            raise ValueError(f"grid={self.grid} cuts side={self.side} into tiles of less than 14 pixels; enlarge side")


class TurnedTask(SquareTask):
    """Tell how a picture, or which of its tiles, was changed."""

    Config: ClassVar[type] = TurnedConfig
    PIECE = "tile"
    CHANGES: ClassVar[Mapping[str, Image.Transpose | None]]
    """Changes in words -> transpose; the first is None and leaves the picture unchanged."""
    VERB: ClassVar[str]
    REMEDIES: ClassVar = {
        "look": "set a small crop_scale, or use photos of other subjects: the top of most photos is lighter",
        "edges": "set what=picture, which has no borders inside, or a coarser grid, which has fewer",
    }

    config: TurnedConfig

    def ask(self, picture: Image.Image, rng: Random) -> Question | None:
        """Draw a change, uniformly, and for `what=tile` a tile; a tile is always changed."""
        words = list(self.CHANGES)
        rows, columns = parse_grid(self.config.grid) if self.config.what == "tile" else (1, 1)
        boxes = cells_of(self.config.side, rows, columns)
        tile = rng.randrange(len(boxes))
        change = rng.choice(words if self.config.what == "picture" else words[1:])
        part = picture.crop(boxes[tile]) if self.config.what == "tile" else picture
        if look_alike([_changed(part, each) for each in self.CHANGES.values()]):
            return None
        if self.config.what == "picture":
            args = lettered(words)
            return Question(answer=args["options"][words.index(change)], geometry={"change": change}, args=args)
        geometry = {"change": change, "tile": tile, "grid": [rows, columns]}
        return Question(answer=str(tile + 1), geometry=geometry, args=numbered(len(boxes)))

    def show(self, picture: Image.Image, puzzle: Puzzle) -> list[Image.Image]:
        """The square, changed as a whole or in one tile."""
        change = self.CHANGES[puzzle.geometry["change"]]
        if "tile" not in puzzle.geometry:
            return [_changed(picture, change)]
        box = cells_of(picture.width, *puzzle.geometry["grid"])[puzzle.geometry["tile"]]
        shown = picture.copy()
        shown.paste(_changed(picture.crop(box), change), box[:2])
        return [shown]

    def prompt(self, puzzle: Puzzle) -> list[Message]:
        """The picture and the question."""
        if "tile" not in puzzle.geometry:
            asked = f"How was this picture {self.VERB}? {options_in_words(puzzle)}."
        else:
            rows, columns = puzzle.geometry["grid"]
            asked = (
                f"This picture is a grid of {rows} rows x {columns} columns of tiles, numbered from left to right, the "
                f"top row first. One tile was {self.VERB} in its place. Which?"
            )
        return user_message([{"type": "image"}, f"{asked} {instruction_of(puzzle)}"])

    def variants(self, puzzle: Puzzle) -> Sequence[PromptVariant]:
        """Other ways to ask how the picture was changed, or which tile."""
        if "tile" not in puzzle.geometry:
            return super().variants(puzzle)
        opening = "This picture is made of {rows} rows and {columns} columns of tiles."
        question = f"The number of the tile that was {self.VERB}, counted like words on a page?"
        return [PromptVariant(opening, "", question)]

    def pieces(self, puzzle: Puzzle, media: Media) -> Pieces:
        """The tiles if the question is about one of them; a whole picture has no pieces."""
        if "tile" not in puzzle.geometry:
            return Pieces()
        picture, (rows, columns) = media.images[0].convert("RGB"), puzzle.geometry["grid"]
        boxes = cells_of(picture.width, rows, columns)
        return Pieces(frames=[np.asarray(picture.crop(box))[None] for box in boxes], grid=(rows, columns))

    def explain(self, puzzle: Puzzle, source: Source) -> list[tuple[str, Image.Image]]:
        """The unchanged square, with the changed tile marked."""
        picture = self.picture(puzzle, source)
        if "tile" in puzzle.geometry:
            tile = puzzle.geometry["tile"]
            picture = mark_boxes(picture, [cells_of(picture.width, *puzzle.geometry["grid"])[tile]], [tile + 1])
        return [("The picture as it is in the photo", picture)]

    def notes(self, puzzle: Puzzle) -> list[str]:
        """The change in words."""
        which = f"Tile {puzzle.geometry['tile'] + 1}" if "tile" in puzzle.geometry else "The picture"
        return [f"{which}: {puzzle.geometry['change']}"]


def _changed(picture: Image.Image, change: Image.Transpose | None) -> Image.Image:
    return picture if change is None else picture.transpose(change)
