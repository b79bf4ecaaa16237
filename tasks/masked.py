"""Masked jigsaw: some cells of a grid are empty, and their tiles must be put back.

In: one photo. Out: an order. The media are the picture with k grey cells and the k tiles in a shuffled order; the
answer lists the tile of each empty cell in raster order. The released code of Visual Jigsaw has such puzzles.
"""

from __future__ import annotations

from random import Random
from typing import Annotated, ClassVar

import numpy as np
from PIL import Image
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from jigsaw.tasks.contract import ORDER, Extent, Media, Message, Pieces, PromptVariant, Puzzle, Question, Source
from jigsaw.tasks.media.grids import Grid, parse_grid
from jigsaw.tasks.media.likeness import look_alike
from jigsaw.tasks.media.marks import mark_boxes
from jigsaw.tasks.permutations import answer_of, draw_shown
from jigsaw.tasks.prompts import instruction_of, labelled_pieces, user_message
from jigsaw.tasks.squares import GREY, SquareConfig, SquareTask, cells_of


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class MaskedConfig(SquareConfig):
    """The grid of the square, and the number of empty cells."""

    grid: Annotated[Grid, Field(description="rows x columns, from 1x2 to 8x8")] = "3x3"
    masked: Annotated[int, Field(ge=2, le=12, description="how many cells are empty")] = 3

    def __post_init__(self) -> None:
        rows, columns = parse_grid(self.grid)
        if self.masked > rows * columns:
            raise ValueError(f"masked={self.masked}, but grid={self.grid} has {rows * columns} cells")
        if self.side // max(rows, columns) < 14:
            raise ValueError(f"grid={self.grid} cuts side={self.side} into tiles of less than 14 pixels; enlarge side")


class MaskedTask(SquareTask):
    """Put the missing tiles of a picture back into its empty cells."""

    name: ClassVar[str] = "masked"
    Config: ClassVar[type] = MaskedConfig
    PIECE = "tile"
    SIZE = ("masked", ("2", "3", "4"))
    VARIANTS = (
        PromptVariant(
            "The first picture lacks {count} tiles; the others are those tiles, numbered 1 to {count} in their order.",
            "",
            "Which tile belongs into each grey cell, row by row?",
        ),
        PromptVariant(
            "{count} parts of a picture were cut out, where it is grey, and follow it in a random order.",
            "",
            "Fill the grey places as one reads a page: which part comes first, which next?",
        ),
    )
    REMEDIES: ClassVar = {
        "edges": "set a finer grid or more masked cells: fewer borders then belong to shown tiles",
        "look": "set crop=random with a small crop_scale, or use photos of other subjects",
    }

    config: MaskedConfig

    def ask(self, picture: Image.Image, rng: Random) -> Question | None:
        """Draw the empty cells and the shown order; None if two of the tiles look the same."""
        rows, columns = parse_grid(self.config.grid)
        cells = cells_of(picture.width, rows, columns)
        masked = sorted(rng.sample(range(len(cells)), self.config.masked))
        shown = draw_shown(len(masked), rng)
        if look_alike([picture.crop(cells[cell]) for cell in masked]):
            return None
        geometry = {"cells": [rows, columns], "masked": masked, "shown": list(shown)}
        return Question(answer=answer_of(shown), geometry=geometry, kind=ORDER)

    def show(self, picture: Image.Image, puzzle: Puzzle) -> list[Image.Image]:
        """The square with its empty cells, then the tiles in shown order."""
        cells = cells_of(picture.width, *puzzle.geometry["cells"])
        boxes = [cells[cell] for cell in puzzle.geometry["masked"]]
        holed = picture.copy()
        for box in boxes:
            holed.paste(GREY, box)
        return [holed, *(picture.crop(boxes[place]) for place in puzzle.geometry["shown"])]

    def prompt(self, puzzle: Puzzle) -> list[Message]:
        """The square, every tile after its number, and the question."""
        rows, columns = puzzle.geometry["cells"]
        missing = (
            f"{puzzle.num_pieces} of the {rows} rows x {columns} columns of tiles of this picture are missing (grey):"
        )
        asked = "Which tile belongs into each grey cell? Go through the grey cells from left to right, top row first."
        tiles = labelled_pieces(puzzle, "Tile")
        return user_message([missing, {"type": "image"}, *tiles, f"{asked} {instruction_of(puzzle)}"])

    def extent(self) -> Extent:
        """The square and its tiles."""
        config = self.config
        rows, columns = parse_grid(config.grid)
        tiles = ((config.side // columns, config.side // rows),) * config.masked
        return Extent(config.masked, images=((config.side, config.side), *tiles))

    def pieces(self, puzzle: Puzzle, media: Media) -> Pieces:
        """The tiles."""
        return Pieces(frames=[np.asarray(image.convert("RGB"))[None] for image in media.images[1:]])

    def explain(self, puzzle: Puzzle, source: Source) -> list[tuple[str, Image.Image]]:
        """The complete square, with the number of the tile on every empty cell."""
        picture = self.picture(puzzle, source)
        cells = cells_of(picture.width, *puzzle.geometry["cells"])
        boxes = [cells[cell] for cell in puzzle.geometry["masked"]]
        return [("The picture, and which tile belongs where", mark_boxes(picture, boxes, puzzle.answer))]
