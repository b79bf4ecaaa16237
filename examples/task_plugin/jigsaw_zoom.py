"""The zoom jigsaw: order views of one photo from the widest to the closest.

The pieces are crops around the same point, each smaller than the previous one, all shown at the same size. In: a photo.
Out: a puzzle whose places are the views, widest first. Geometry: `{"centre": [0.4, 0.6], "shown": [2, 0, 1]}`, the
centre in fractions of the photo and the views in shown order.
"""

from __future__ import annotations

from random import Random
from typing import Annotated, ClassVar

from PIL import Image
from pydantic import Field
from pydantic.dataclasses import dataclass

from jigsaw.tasks import (
    PHOTO_REASONS,
    AnswerStyle,
    Media,
    Message,
    PhotoError,
    Puzzle,
    Reject,
    Source,
    SourceKind,
    Task,
    answer_instruction,
    answer_of,
    draw_shown,
    read_photo,
    user_message,
)


@dataclass(frozen=True, kw_only=True)
class ZoomConfig:
    """Number of views and their sizes."""

    views: Annotated[int, Field(ge=2, le=8, description="number of views, 2 to 8")] = 4
    step: Annotated[float, Field(gt=0, lt=1, description="side of a view divided by that of the next wider one")] = 0.7
    side: Annotated[int, Field(ge=14, description="width and height of a shown view, in px")] = 112
    answer_style: Annotated[AnswerStyle, Field(description="how the prompt asks for the answer")] = "think"


class ZoomTask(Task):
    """Order views of a photo from the widest to the closest."""

    name: ClassVar[str] = "zoom"
    source_kind: ClassVar[SourceKind] = "image"
    Config: ClassVar[type] = ZoomConfig
    REASONS = PHOTO_REASONS | {"too_small": "the closest view has fewer pixels than the size at which it is shown"}

    config: ZoomConfig

    def plan(self, source: Source, rng: Random) -> Puzzle | Reject:
        """Choose the centre and the shown order; reject photos that are too small."""
        try:
            photo = read_photo(source.files["image"])
        except PhotoError as error:
            return Reject(error.reason, str(error))
        closest = round(min(photo.size) * self.config.step**self.config.views)
        if closest < self.config.side:
            return Reject("too_small", f"the closest view has {closest} px, but is shown with {self.config.side}")
        shown = draw_shown(self.config.views, rng)
        centre = [round(rng.random(), 4), round(rng.random(), 4)]
        return Puzzle(
            task=self.name,
            answer=answer_of(shown),
            geometry={"centre": centre, "shown": list(shown)},
            answer_style=self.config.answer_style,
        )

    def render(self, puzzle: Puzzle, source: Source) -> Media:
        """The views in shown order."""
        photo = read_photo(source.files["image"])
        return Media(images=[self._view(photo, puzzle.geometry["centre"], view) for view in puzzle.geometry["shown"]])

    def prompt(self, puzzle: Puzzle) -> list[Message]:
        """Every view after its number, then the question and the form of the answer."""
        parts: list[str | dict[str, str]] = ["These are views of one photo from several distances."]
        for number in range(1, puzzle.num_pieces + 1):
            parts += [f"View {number}:", {"type": "image"}]
        asked = "List them from the widest view to the closest."
        return user_message([*parts, f"{asked} {answer_instruction(puzzle.answer_style, puzzle.num_pieces)}"])

    def _view(self, photo: Image.Image, centre: list[float], view: int) -> Image.Image:
        """A square around the centre, moved to stay inside the photo."""
        side = min(photo.size) * self.config.step ** (view + 1)
        left, top = (fraction * (length - side) for fraction, length in zip(centre, photo.size, strict=True))
        box = (left, top, left + side, top + side)
        return photo.resize((self.config.side, self.config.side), Image.Resampling.BICUBIC, box=box)
