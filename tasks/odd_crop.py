"""Odd crop: which of several crops is from another photo.

In: two photos. Out: a choice between crops, all but one from the first photo. The crops of a photo do not overlap, but
share its light, colours and subject.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Annotated, Any, ClassVar

from PIL import Image
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from jigsaw.tasks.contract import (
    DRAWS,
    Extent,
    Media,
    Message,
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
from jigsaw.tasks.media.caching import picture_cache
from jigsaw.tasks.media.grids import Box, overlap
from jigsaw.tasks.media.likeness import look_alike
from jigsaw.tasks.media.marks import mark_boxes
from jigsaw.tasks.media.photos import PHOTO_REASONS, SCALES, read_header, read_photo
from jigsaw.tasks.prompts import instruction_of, labelled_pieces, numbered, user_message

PLACES = 60
"""Positions that are tried for a crop that overlaps no other."""


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class OddCropConfig:
    """Number and size of the crops."""

    crops: Annotated[int, Field(ge=3, le=8, description="how many crops there are to choose from")] = 4
    side: Annotated[int, Field(ge=28, le=1024, description="pixels a side with which a crop is shown")] = 112
    share: Annotated[
        float, Field(gt=0, le=0.5, description="side of a crop, as a fraction of the photo's shorter side")
    ] = 0.3
    answer_style: AnswerStyleKey = "think"


class OddCropTask(Task):
    """Tell which of several crops is from another photo."""

    name: ClassVar[str] = "odd_crop"
    source_kind: ClassVar[SourceKind] = "pair"
    SMALL: ClassVar[Mapping[str, Any]] = {"side": 56}
    Config: ClassVar[type] = OddCropConfig
    REASONS: ClassVar[Mapping[str, str]] = PHOTO_REASONS | {
        "too_small": "a crop would be smaller than `side` pixels; crops are not enlarged",
        "no_room": "the photo has no space for `crops` separate crops",
        "ambiguous": "two crops look the same, or both photos are copies of one",
    }
    PIECE = "crop"
    SIZE = ("crops", ("3", "4", "5"))
    VARIANTS = (
        PromptVariant("{count} details.", "Detail {number}", "All but one belong to a single photograph. Which not?"),
        PromptVariant(
            "Somebody put a stranger among {count} parts of a picture.", "({number})", "Which part is the stranger?"
        ),
    )
    REMEDIES: ClassVar = {
        "look": "use photos with similar light and colour, such as photos of one place",
        "form": "set a smaller side: it makes crops of different photos equally sharp",
    }

    config: OddCropConfig

    def __init__(self, config: OddCropConfig | None = None) -> None:
        super().__init__(config)
        self._photos = picture_cache()

    def plan(self, source: Source, rng: Random) -> Puzzle | Reject:
        """Choose crops of both photos and their order; photos that are damaged, too small or alike are rejected."""
        if len(set(source.contents)) == 1:
            return Reject("ambiguous", "both photos are the same")
        return first_usable(lambda: self._plan(source, rng))

    def _plan(self, source: Source, rng: Random) -> Puzzle | Reject:
        config = self.config
        cuts = {role: self._scaled(source, role) for role in ("image", "other")}
        for role, (_, size, cut) in cuts.items():
            if cut < config.side:
                detail = f"{role}: a photo of {size[0]}x{size[1]} pixels gives crops of {cut}"
                return Reject("too_small", f"{detail}; side={config.side} needs at least {config.side}")
        boxes = self._boxes(*cuts["image"][1:], config.crops - 1, rng)
        odd_box = self._boxes(*cuts["other"][1:], 1, rng)
        detail = f"no {config.crops - 1} different crops in {DRAWS} samples; crops={config.crops}"
        if boxes is None or odd_box is None:
            return Reject("no_room" if boxes is None else "ambiguous", detail, final=False)
        odd = rng.randrange(config.crops)
        places = [("image", box) for box in boxes]
        places.insert(odd, ("other", odd_box[0]))
        geometry = {
            "scales": {role: scale for role, (scale, _, _) in cuts.items()},
            "crops": [[role, list(box)] for role, box in places],
            "side": config.side,
        }
        if look_alike(self._crops(geometry, source)):
            return Reject("ambiguous", detail, final=False)
        return Question(answer=str(odd + 1), geometry=geometry, args=numbered(config.crops)).puzzle(self, {})

    def _scaled(self, source: Source, role: str) -> tuple[int, tuple[int, int], int]:
        """The scale at which a photo is decoded, its size there, and the side of a crop."""
        header = read_header(source.files[role])
        cut = int(min(header.size) * self.config.share)
        scale = max(each for each in SCALES if each == 1 or cut // each >= self.config.side)
        size = header.scaled_size(scale)
        return scale, size, int(min(size) * self.config.share)

    def _boxes(self, size: tuple[int, int], cut: int, count: int, rng: Random) -> list[Box] | None:
        """Random boxes that do not overlap, `count` of them; None if there is no space for them."""
        boxes: list[Box] = []
        for _ in range(PLACES):
            left, top = rng.randint(0, size[0] - cut), rng.randint(0, size[1] - cut)
            box: Box = (left, top, left + cut, top + cut)
            if not any(overlap(box, other) for other in boxes):
                boxes.append(box)
            if len(boxes) == count:
                return boxes
        return None

    def _photo(self, source: Source, role: str, scale: int) -> Image.Image:
        return self._photos.get((source.fingerprint, role, scale), lambda: read_photo(source.files[role], scale))

    def _crops(self, geometry: Mapping[str, Any], source: Source) -> list[Image.Image]:
        side = (geometry["side"], geometry["side"])
        return [
            self._photo(source, role, geometry["scales"][role]).resize(side, Image.Resampling.BICUBIC, box=tuple(box))
            for role, box in geometry["crops"]
        ]

    def render(self, puzzle: Puzzle, source: Source) -> Media:
        """The crops."""
        return Media(images=self._crops(puzzle.geometry, source))

    def prompt(self, puzzle: Puzzle) -> list[Message]:
        """Every crop after its number, and the question."""
        asked = "All crops but one are of the same photo. Which one is of another?"
        return user_message([*labelled_pieces(puzzle, "Crop"), f"{asked} {instruction_of(puzzle)}"])

    def extent(self) -> Extent:
        """The crops."""
        return Extent(self.config.crops, images=((self.config.side, self.config.side),) * self.config.crops)

    def explain(self, puzzle: Puzzle, source: Source) -> list[tuple[str, Image.Image]]:
        """Both photos with the crops marked."""
        shown = []
        for role, title in (("image", "The photo"), ("other", "The other photo")):
            photo = self._photo(source, role, puzzle.geometry["scales"][role])
            crops = [(tuple(box), at) for at, (of, box) in enumerate(puzzle.geometry["crops"], 1) if of == role]
            shown.append((title, mark_boxes(photo, [box for box, _ in crops], [at for _, at in crops])))
        return shown
