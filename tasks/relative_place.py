"""Relative place: in which direction one tile of a picture is from another.

In: one photo. Out: a choice between directions in words. The task is from Doersch et al., "Unsupervised visual
representation learning by context prediction" (ICCV 2015). A gap between the tiles prevents matching of their edges.
"""

from __future__ import annotations

from random import Random
from typing import Annotated, ClassVar

from PIL import Image
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from jigsaw.tasks.contract import Extent, Message, PromptVariant, Puzzle, Question, Source
from jigsaw.tasks.media.grids import Box
from jigsaw.tasks.media.likeness import look_alike
from jigsaw.tasks.media.marks import mark_boxes
from jigsaw.tasks.prompts import instruction_of, lettered, options_in_words, user_message
from jigsaw.tasks.squares import SquareConfig, SquareTask

DIRECTIONS = {
    "above": (0, -1),
    "below": (0, 1),
    "to the left": (-1, 0),
    "to the right": (1, 0),
    "above and to the left": (-1, -1),
    "above and to the right": (1, -1),
    "below and to the left": (-1, 1),
    "below and to the right": (1, 1),
}
"""Directions in words -> steps to the right and down; the first four are straight."""


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class RelativePlaceConfig(SquareConfig):
    """Size and distance of the tiles."""

    directions: Annotated[int, Field(description="4: straight; 8: oblique too")] = 8
    tile: Annotated[float, Field(ge=0.1, le=0.45, description="side of a tile, as a fraction of the square's")] = 0.3
    gap: Annotated[
        float, Field(ge=0, le=1, description="distance of the tiles, as a fraction of a tile, against edge matching")
    ] = 0.25

    def __post_init__(self) -> None:
        if self.directions not in (4, 8):
            raise ValueError(f"directions={self.directions} is neither 4 nor 8")
        if self.tile_side + self.step > self.side:
            raise ValueError(f"tile={self.tile} and gap={self.gap}: two tiles do not fit into the square; reduce one")
        if self.tile_side < 14:
            raise ValueError(f"tile={self.tile} of side={self.side} is less than 14 pixels; enlarge one")

    @property
    def tile_side(self) -> int:
        """Side of a tile in pixels."""
        return int(self.side * self.tile)

    @property
    def step(self) -> int:
        """Pixels from a tile to the next one."""
        return self.tile_side + int(self.tile_side * self.gap)


class RelativePlaceTask(SquareTask):
    """Tell in which direction one tile of a picture is from another."""

    name: ClassVar[str] = "relative_place"
    Config: ClassVar[type] = RelativePlaceConfig
    SIZE = ("directions", ("4", "8"))
    VARIANTS = (
        PromptVariant("Two neighbouring parts of one picture.", "", "In which direction from the first is the second?"),
        PromptVariant(
            "A photograph was cut up; these are two parts that were next to each other.",
            "",
            "Starting at the first, where would one find the second?",
        ),
    )
    REMEDIES: ClassVar = {
        "edges": "gap=0.5 or more leaves out more between the tiles",
        "look": "set a small crop_scale, or use photos of other subjects: the top of most photos is lighter",
    }

    config: RelativePlaceConfig

    def ask(self, picture: Image.Image, rng: Random) -> Question | None:
        """Draw a direction, uniformly, and the positions of the tiles; None if the tiles look the same."""
        words = list(DIRECTIONS)[: self.config.directions]
        where = rng.choice(words)
        tile, step = self.config.tile_side, self.config.step
        starts = []
        for along in DIRECTIONS[where]:
            low = rng.randint(0, picture.width - tile - abs(along) * step)
            starts.append((low, low + step) if along > 0 else (low + step, low) if along < 0 else (low, low))
        (x1, x2), (y1, y2) = starts
        boxes: list[Box] = [(x, y, x + tile, y + tile) for x, y in ((x1, y1), (x2, y2))]
        if look_alike([picture.crop(box) for box in boxes]):
            return None
        args = lettered(words)
        geometry = {"tiles": [list(box) for box in boxes]}
        return Question(answer=args["options"][words.index(where)], geometry=geometry, args=args)

    def show(self, picture: Image.Image, puzzle: Puzzle) -> list[Image.Image]:
        """The first tile and the second."""
        return [picture.crop(tuple(box)) for box in puzzle.geometry["tiles"]]

    def prompt(self, puzzle: Puzzle) -> list[Message]:
        """Both tiles and the question."""
        asked = (
            "Where does the second lie in the photo, seen from the first? "
            f"{options_in_words(puzzle)}. {instruction_of(puzzle)}"
        )
        first, second = "These tiles were cut from one photo. The first:", "The second:"
        return user_message([first, {"type": "image"}, second, {"type": "image"}, asked])

    def extent(self) -> Extent:
        """The two tiles."""
        tile = (self.config.tile_side, self.config.tile_side)
        return Extent(self.config.directions, images=(tile, tile))

    def explain(self, puzzle: Puzzle, source: Source) -> list[tuple[str, Image.Image]]:
        """The square with both tiles marked."""
        boxes = [tuple(box) for box in puzzle.geometry["tiles"]]
        return [("The picture: tile 1 and tile 2", mark_boxes(self.picture(puzzle, source), boxes, (1, 2)))]
