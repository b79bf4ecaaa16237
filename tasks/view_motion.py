"""View motion: which view each of several motions of the camera leads to.

In: a scene of posed RGB-D frames. Out: an order. The prompt has the first view, motions in words and the other views;
the answer lists the view after each motion. Every view overlaps with the first. Visual Jigsaw tried this task in
addition to depth (appendix of the paper).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from random import Random
from typing import Annotated, Any, ClassVar

import numpy as np
from PIL import Image
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from jigsaw.tasks.contract import Media, Message, Pieces, PromptVariant, Puzzle, Source
from jigsaw.tasks.media.posed_scene import PosedScene
from jigsaw.tasks.media.poses import STILL, Motion, apart, difference, in_words
from jigsaw.tasks.posed import PosedConfig, PosedTask
from jigsaw.tasks.prompts import instruction_of, labelled_pieces, user_message

SAME_SPOT, SAME_SHARE = 0.1, 0.05
"""Depths of a point agree if they differ by less than these metres plus this share of the depth."""


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class ViewMotionConfig(PosedConfig):
    """The options of all tasks on posed frames, and the overlap of the views."""

    min_overlap: Annotated[
        float, Field(ge=0, lt=1, description="least share of the first view's measured points that each view sees")
    ] = 0.2


class ViewMotionTask(PosedTask):
    """Match motions of the camera, in words, to the views that they lead to."""

    name: ClassVar[str] = "view_motion"
    Config: ClassVar[type] = ViewMotionConfig
    REMEDIES: ClassVar = {
        "look": "set a larger min_overlap: all views then share more with the first; or use scenes with other light",
    }

    config: ViewMotionConfig

    def choose(self, source: Source, scene: PosedScene, rng: Random) -> tuple[list[int], dict[str, Any]] | None:
        """Draw a first view, and views that overlap with it and differ in the motion of the camera."""
        usable, config = scene.cameras.usable(), self.config
        if len(usable) <= config.views:
            return None
        first = rng.choice(usable)
        chosen: list[tuple[int, Motion]] = []
        for frame in rng.sample(usable, len(usable)):
            motion = scene.cameras.motion(first, frame)
            steps = [apart(motion, other) for other in (STILL, *(other for _, other in chosen))]
            if any(metres < config.min_move and degrees < config.min_turn for metres, degrees in steps):
                continue
            if frame != first and self._overlap(source, scene, first, frame) >= config.min_overlap:
                chosen.append((frame, motion))
            if len(chosen) == config.views:
                motions = [motion for _, motion in chosen]
                return [frame for frame, _ in chosen], {"first": scene.names[first], "motions": motions}
        return None

    def _overlap(self, source: Source, scene: PosedScene, one: int, other: int) -> float:
        """The share of a frame's measured points that are visible in another frame."""
        mine, theirs = (self.depth(source, scene, scene.names[frame]) for frame in (one, other))
        points = scene.points(one, mine)
        points = points[np.isfinite(points).all(axis=1)]
        if not len(points):
            return 0.0
        places, depths = scene.seen(other, points)
        rows, columns = theirs.shape
        inside = np.isfinite(depths) & ((places >= 0) & (places < 1)).all(axis=1)
        x, y = (places[inside] * (columns, rows)).astype(int).T
        gap = np.abs(theirs[y, x] - depths[inside])
        return float((gap < SAME_SPOT + SAME_SHARE * depths[inside]).sum() / len(points))

    def render(self, puzzle: Puzzle, source: Source) -> Media:
        """The first view, then the shuffled ones."""
        first = self.picture(source, self.scene(source), puzzle.geometry["first"])
        return Media(images=[first, *self.views(puzzle, source)])

    def prompt(self, puzzle: Puzzle) -> list[Message]:
        """The first view, the motions, every view after its number, and the question."""
        start = ("A camera is here in a room:", {"type": "image"})
        motions = f"From there it moves in one of these ways, turning as it goes:\n{_listed(puzzle)}"
        asked = f"Which view does it have after each motion? List the views for motions 1 to {puzzle.num_pieces}."
        return user_message([*start, motions, *labelled_pieces(puzzle, "View"), f"{asked} {instruction_of(puzzle)}"])

    def variants(self, puzzle: Puzzle) -> list[PromptVariant]:
        """Other ways to ask, each with the motions."""
        motions = _listed(puzzle)
        return [
            PromptVariant(
                "The first picture is a photographer's; the {count} others, numbered in their order, are of the place.",
                "",
                f"These are ways to walk from the first picture:\n{motions}\nWhich of the others is taken after each?",
            ),
            PromptVariant(
                "A robot starts at the first picture and may end at each of the {count} that follow, 1 to {count}.",
                "",
                f"Its commands, each from the start:\n{motions}\nGive the picture in which each command ends.",
            ),
        ]

    def pieces(self, puzzle: Puzzle, media: Media) -> Pieces:
        """The shuffled views, and the first one."""
        reach = [difference(*apart(motion, STILL)) for motion in puzzle.geometry["motions"]]
        return replace(super().pieces(puzzle, media), reach=reach)

    def difficulty(self, puzzle: Puzzle, pieces: Pieces) -> float:
        """The difference of the two most similar motions in degrees, with 60 degrees per metre."""
        return min(difference(*apart(*pair)) for pair in combinations(puzzle.geometry["motions"], 2))

    def explain(self, puzzle: Puzzle, source: Source) -> list[tuple[str, Image.Image]]:
        """The map, with the first camera as 1 and the cameras after the motions from 2 on."""
        names = [puzzle.geometry["first"], *puzzle.geometry["frames"]]
        return [("From above: the first camera is 1, motion 1 leads to 2 and so on", self.marked(source, names))]

    def notes(self, puzzle: Puzzle) -> list[str]:
        """The frames and the exact motions."""
        frames = zip(puzzle.answer, puzzle.geometry["frames"], puzzle.geometry["motions"], strict=True)
        listed = "; ".join(
            f"view {view} (frame {name}): {motion['right']:+.2f} m right, {motion['up']:+.2f} m up, "
            f"{motion['forward']:+.2f} m forward, {motion['turn']:+.1f} degrees to the right, {motion['tilt']:+.1f} up"
            for view, name, motion in frames
        )
        return [f"From frame {puzzle.geometry['first']}, in the order of the motions: {listed}"]


def _listed(puzzle: Puzzle) -> str:
    """The motions, one per line."""
    return "\n".join(f"{number}. {in_words(each)}" for number, each in enumerate(puzzle.geometry["motions"], start=1))
