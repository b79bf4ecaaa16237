"""Patch-fit: which of several patches fills a hole in a picture.

In: one photo. Out: a choice between patches of the same square: the patch from the hole, and others of graded
similarity to it. The task is self-supervised inpainting (Pathak et al., "Context encoders", CVPR 2016) as a choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Annotated, ClassVar, Literal

import numpy as np
from PIL import Image
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from jigsaw.tasks.contract import Extent, Media, Message, Pieces, PromptVariant, Puzzle, Question, Source
from jigsaw.tasks.media.grids import Box, overlap
from jigsaw.tasks.media.likeness import TOLERANCE, mean_differences, reduced, signatures
from jigsaw.tasks.media.marks import mark_boxes
from jigsaw.tasks.permutations import draw_shown
from jigsaw.tasks.prompts import instruction_of, labelled_pieces, numbered, user_message
from jigsaw.tasks.squares import GREY, SquareConfig, SquareTask

CANDIDATES = 64
"""Random patches of a square from which the wrong ones are chosen."""

LEAST = 14
"""Least side of a patch in pixels."""


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class PatchFitConfig(SquareConfig):
    """Size of the hole, and number and similarity of the patches."""

    patches: Annotated[int, Field(ge=2, le=8, description="how many patches there are to choose from")] = 4
    hole: Annotated[float, Field(ge=0.1, le=0.5, description="side of the hole, as a fraction of the square's")] = 0.25
    margin: Annotated[
        float,
        Field(ge=0, le=0.4, description="fraction of the hole that stays empty on each side, against edge matching"),
    ] = 0.0
    likeness: Annotated[
        Literal["near", "spread", "far"],
        Field(description="wrong patches: those most like the right one, evenly graded, or the least alike"),
    ] = "spread"

    def __post_init__(self) -> None:
        if self.patch_side < LEAST:
            raise ValueError(
                f"side={self.side}, hole={self.hole} and margin={self.margin} give patches of {self.patch_side} "
                f"pixels, but {LEAST} are needed; enlarge side or hole"
            )

    @property
    def hole_side(self) -> int:
        """Side of the hole in pixels."""
        return int(self.side * self.hole)

    @property
    def patch_side(self) -> int:
        """Side of a patch in pixels."""
        return self.hole_side - 2 * int(self.hole_side * self.margin)


class PatchFitTask(SquareTask):
    """Tell which of several patches fills the hole of a picture."""

    name: ClassVar[str] = "patch_fit"
    Config: ClassVar[type] = PatchFitConfig
    PIECE = "patch"
    SIZE = ("patches", ("3", "4", "6"))
    VARIANTS = (
        PromptVariant(
            "The first picture has a grey gap; the {count} others are candidates, numbered in their order.",
            "",
            "Which candidate completes the picture?",
        ),
        PromptVariant(
            "A piece was cut out of the first picture, where it is grey. Then come {count} pieces, 1 to {count}.",
            "",
            "Give the number of the piece that was cut out.",
        ),
    )
    REMEDIES: ClassVar = {
        "edges": "margin=0.1 or more leaves the hole empty around the patch",
        "look": "set likeness=near: the wrong patches then look more like the right one",
    }

    config: PatchFitConfig

    def ask(self, picture: Image.Image, rng: Random) -> Question | None:
        """Draw a hole and the patches; None if too few patches differ from the right one and each other."""
        config, side = self.config, picture.width
        left, top = (rng.randint(0, side - config.hole_side) for _ in range(2))
        hole = (left, top, left + config.hole_side, top + config.hole_side)
        patch, inset = config.patch_side, (config.hole_side - config.patch_side) // 2
        right = (left + inset, top + inset, left + inset + patch, top + inset + patch)
        corners = [(rng.randint(0, side - patch), rng.randint(0, side - patch)) for _ in range(CANDIDATES)]
        boxes = [(x, y, x + patch, y + patch) for x, y in corners]
        wrong = self._chosen(picture, right, [box for box in boxes if not overlap(box, hole)])
        if wrong is None:
            return None
        shown = draw_shown(config.patches, rng)
        patches = [[right, *wrong][number] for number in shown]
        geometry = {"hole": list(hole), "patches": [list(box) for box in patches]}
        return Question(answer=str(shown.index(0) + 1), geometry=geometry, args=numbered(config.patches))

    def _chosen(self, picture: Image.Image, right: Box, boxes: Sequence[Box]) -> list[Box] | None:
        """Wrong patches, graded by similarity to the right one, all different; None if there are too few."""
        count = self.config.patches - 1
        apart = mean_differences(signatures(picture, [right, *boxes]))
        unlike: list[int] = []
        for number in sorted(range(1, len(boxes) + 1), key=lambda number: apart[0, number]):
            if all(apart[number, other] >= TOLERANCE for other in (0, *unlike)):
                unlike.append(number)
        if len(unlike) < count:
            return None
        if self.config.likeness == "near":
            chosen = unlike[:count]
        elif self.config.likeness == "far":
            chosen = unlike[-count:]
        else:
            chosen = [unlike[round(step * (len(unlike) - 1) / max(1, count - 1))] for step in range(count)]
        return [boxes[number - 1] for number in chosen]

    def show(self, picture: Image.Image, puzzle: Puzzle) -> list[Image.Image]:
        """The square with its hole, then the patches."""
        holed = picture.copy()
        holed.paste(GREY, tuple(puzzle.geometry["hole"]))
        return [holed, *(picture.crop(tuple(box)) for box in puzzle.geometry["patches"])]

    def prompt(self, puzzle: Puzzle) -> list[Message]:
        """The square, every patch after its number, and the question."""
        hidden, asked = "A grey square hides a part of this picture:", "Which patch is the hidden part?"
        patches = labelled_pieces(puzzle, "Patch")
        return user_message([hidden, {"type": "image"}, *patches, f"{asked} {instruction_of(puzzle)}"])

    def extent(self) -> Extent:
        """The square and its patches."""
        config = self.config
        patches = ((config.patch_side, config.patch_side),) * config.patches
        return Extent(config.patches, images=((config.side, config.side), *patches))

    def pieces(self, puzzle: Puzzle, media: Media) -> Pieces:
        """The patches, and the picture with the hole."""
        picture, *patches = (np.asarray(image.convert("RGB")) for image in media.images)
        return Pieces(frames=[patch[None] for patch in patches], picture=picture, hole=tuple(puzzle.geometry["hole"]))

    def difficulty(self, puzzle: Puzzle, pieces: Pieces) -> float:
        """Difference of the right patch to the most similar wrong one: root mean square, 0 to 255."""
        right = int(puzzle.answer) - 1
        apart = mean_differences(reduced(Image.fromarray(piece[0]) for piece in pieces.frames))[right]
        return float(np.delete(apart, right).min())

    def explain(self, puzzle: Puzzle, source: Source) -> list[tuple[str, Image.Image]]:
        """The complete square, with every patch marked."""
        boxes = [tuple(box) for box in puzzle.geometry["patches"]]
        marked = mark_boxes(self.picture(puzzle, source), boxes, range(1, len(boxes) + 1))
        return [("The picture, and where the patches were cut", marked)]
