"""The zoom jigsaw: one photo looked at from several distances, to be ordered from the widest view to the closest.

Every piece is a crop around the same point, each smaller than the one before, all shown at one size. In: a photo. Out:
a puzzle whose places are the views, widest first. Geometry: `{"centre": [0.4, 0.6], "shown": [2, 0, 1]}`, the centre in
fractions of the photo and the views in the order in which they are shown.
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
    """How many views, and how far apart."""

    views: Annotated[int, Field(ge=2, le=8, description="how many views, 2 to 8")] = 4
    step: Annotated[float, Field(gt=0, lt=1, description="sides of a view over those of the next wider one")] = 0.7
    side: Annotated[int, Field(ge=14, description="width and height of a shown view, in px")] = 112
    answer_style: Annotated[AnswerStyle, Field(description="how the prompt asks for the answer")] = "think"


class ZoomTask(Task):
    """Order views of a photo from the widest to the closest."""

    name: ClassVar[str] = "zoom"
    source_kind: ClassVar[SourceKind] = "image"
    Config: ClassVar[type] = ZoomConfig
    REASONS = PHOTO_REASONS | {"too_small": "the closest view would have fewer pixels than it is shown with"}

    config: ZoomConfig

    def plan(self, source: Source, rng: Random) -> Puzzle | Reject:
        """Choose where to look and the shown order; too small a photo is rejected."""
        try:
            photo = read_photo(source.files["image"])
        except PhotoError as error:
            return Reject(error.reason, str(error))
        closest = round(min(photo.size) * self.config.step**self.config.views)
        if closest < self.config.side:
            return Reject("too_small", f"the closest view has {closest} px, it is shown with {self.config.side}")
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
        """Every view after its number, then what is asked and in what form."""
        parts: list[str | dict[str, str]] = ["These are views of one photo from several distances."]
        for number in range(1, puzzle.num_pieces + 1):
            parts += [f"View {number}:", {"type": "image"}]
        asked = "List them from the widest view to the closest."
        return user_message([*parts, f"{asked} {answer_instruction(puzzle.answer_style, puzzle.num_pieces)}"])

    def _view(self, photo: Image.Image, centre: list[float], view: int) -> Image.Image:
        """A square around the centre, moved into the photo where it would leave it."""
        side = min(photo.size) * self.config.step ** (view + 1)
        left, top = (fraction * (length - side) for fraction, length in zip(centre, photo.size, strict=True))
        box = (left, top, left + side, top + side)
        return photo.resize((self.config.side, self.config.side), Image.Resampling.BICUBIC, box=box)
