"""Flip: whether and how a picture was mirrored, or which of its tiles was.

In: one photo. Out: a choice. Only writing, hands and clocks show that a whole picture was mirrored left to right, so
that many such puzzles have no certain answer. A mirrored tile can be recognised from its neighbours.
"""

from __future__ import annotations

from typing import ClassVar

from PIL import Image

from jigsaw.tasks.contract import PromptVariant
from jigsaw.tasks.turned import TurnedTask


class FlipTask(TurnedTask):
    """Tell how a picture, or which of its tiles, was mirrored."""

    name: ClassVar[str] = "flip"
    VERB = "mirrored"
    CHANGES: ClassVar = {
        "not mirrored": None,
        "left to right": Image.Transpose.FLIP_LEFT_RIGHT,
        "upside down": Image.Transpose.FLIP_TOP_BOTTOM,
    }
    VARIANTS = (
        PromptVariant("Look at this photograph.", "", "Is it a mirror image, and of which kind?"),
        PromptVariant("Here is a picture.", "", "Which reflection turns it into the picture as it was taken?"),
    )
