"""Camera poses: which view belongs to each of several cameras on a bird's-eye view.

In: a scene of posed RGB-D frames. Out: an order. The media are a map of the scene with numbered cameras and the views;
the answer lists the view of each camera. Visual Jigsaw tried this task in addition to depth (appendix of the paper).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from random import Random
from typing import Annotated, Any, ClassVar

import numpy as np
from PIL import Image
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from jigsaw.tasks.contract import Extent, Media, Message, Pieces, PromptVariant, Puzzle, Source
from jigsaw.tasks.media.posed_scene import PosedScene
from jigsaw.tasks.media.poses import STILL, apart, difference
from jigsaw.tasks.posed import PosedConfig, PosedTask, TurnKey
from jigsaw.tasks.prompts import instruction_of, labelled_pieces, user_message

APART = 0.08
"""Least distance of two cameras on the map, as a share of its side, so that their discs and arrows are legible."""


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class CameraPosesConfig(PosedConfig):
    """The options of all tasks on posed frames, and the size of the map."""

    min_turn: TurnKey = 40.0
    map_side: Annotated[int, Field(ge=168, le=2048, description="width and height of the map, in px")] = 448


class CameraPosesTask(PosedTask):
    """Match cameras on a bird's-eye view to what they see."""

    name: ClassVar[str] = "camera_poses"
    SMALL: ClassVar[Mapping[str, Any]] = {**PosedTask.SMALL, "map_side": 224}
    Config: ClassVar[type] = CameraPosesConfig
    VARIANTS = (
        PromptVariant(
            "First a plan of a place with {count} numbered cameras, then {count} pictures, numbered in their order.",
            "",
            "An arrow shows where a camera looks. Which picture did each camera take?",
        ),
        PromptVariant(
            "Somebody walked through the place on the first picture, a map, and stopped {count} times; then come the "
            "{count} photos that were taken, 1 to {count}, mixed up.",
            "",
            "For each stop on the map, which photo was taken there in the direction of its arrow?",
        ),
    )
    REMEDIES: ClassVar = {"look": "use scenes with different lighting; no option closes this leak"}

    config: CameraPosesConfig

    def choose(self, source: Source, scene: PosedScene, rng: Random) -> tuple[list[int], dict[str, Any]] | None:
        """Draw cameras that differ and whose marks do not overlap."""
        usable, config, cameras = scene.cameras.usable(), self.config, scene.cameras
        if len(usable) < config.views:
            return None
        plan, _ = self.map(source, config.map_side)
        spots = plan.at(cameras.places)
        chosen: list[int] = []
        for frame in rng.sample(usable, len(usable)):
            steps = [apart(cameras.motion(other, frame), STILL) for other in chosen]
            near = any(metres < config.min_move and degrees < config.min_turn for metres, degrees in steps)
            hidden = any(np.linalg.norm(spots[other] - spots[frame]) < APART * config.map_side for other in chosen)
            if not near and not hidden:
                chosen.append(frame)
            if len(chosen) == config.views:
                return chosen, {"map_side": config.map_side, "apart": _nearest(scene, chosen)}
        return None

    def render(self, puzzle: Puzzle, source: Source) -> Media:
        """The map with the cameras, then the shuffled views."""
        marked = self.marked(source, puzzle.geometry["frames"], puzzle.geometry["map_side"])
        return Media(images=[marked, *self.views(puzzle, source)])

    def prompt(self, puzzle: Puzzle) -> list[Message]:
        """The map, every view after its number, and the question."""
        count = puzzle.num_pieces
        opening = f"This is a room seen from above, with {count} cameras. The arrow of each shows where it looks:"
        asked = f"Which view does each camera have? List the views of cameras 1 to {count}."
        views = labelled_pieces(puzzle, "View")
        return user_message([opening, {"type": "image"}, *views, f"{asked} {instruction_of(puzzle)}"])

    def extent(self) -> Extent:
        """The map and the views."""
        views = super().extent()
        side = self.config.map_side
        return Extent(views.pieces, images=((side, side), *views.images[1:]))

    def difficulty(self, puzzle: Puzzle, pieces: Pieces) -> float:
        """The difference of the two most similar cameras in degrees, with 60 degrees per metre."""
        return difference(*puzzle.geometry["apart"])

    def explain(self, puzzle: Puzzle, source: Source) -> list[tuple[str, Image.Image]]:
        """The map with each camera numbered as its view."""
        names = [puzzle.geometry["frames"][place] for place in puzzle.geometry["shown"]]
        return [("From above: every camera has the number of its view", self.marked(source, names))]

    def notes(self, puzzle: Puzzle) -> list[str]:
        """The frame of each camera."""
        frames = enumerate(zip(puzzle.answer, puzzle.geometry["frames"], strict=True), start=1)
        return [", ".join(f"camera {at}: view {view} (frame {name})" for at, (view, name) in frames).capitalize()]


def _nearest(scene: PosedScene, frames: list[int]) -> list[float]:
    """Metres and degrees between the two most similar cameras."""
    steps = [apart(scene.cameras.motion(one, other), STILL) for one, other in combinations(frames, 2)]
    return [round(each, 3) for each in min(steps, key=lambda step: difference(*step))]
