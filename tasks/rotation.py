"""Rotation: by how many quarter turns a picture was turned, or which of its tiles was turned.

In: one photo. Out: a choice between four turns of the whole square, or between the numbers of its tiles. The task is
from RotNet (Gidaris et al., "Unsupervised representation learning by predicting image rotations", ICLR 2018).
"""

from __future__ import annotations

from typing import ClassVar

from PIL import Image

from jigsaw.tasks.contract import PromptVariant
from jigsaw.tasks.turned import TurnedTask


class RotationTask(TurnedTask):
    """Tell how a picture, or which of its tiles, was turned by quarter turns."""

    name: ClassVar[str] = "rotation"
    VERB = "turned"
    CHANGES: ClassVar = {
        "not turned": None,
        "a quarter turn clockwise": Image.Transpose.ROTATE_270,
        "a half turn": Image.Transpose.ROTATE_180,
        "a quarter turn counterclockwise": Image.Transpose.ROTATE_90,
    }
    VARIANTS = (
        PromptVariant("Look at this photograph.", "", "Was it rotated, and how?"),
        PromptVariant("Here is a picture.", "", "By which rotation does it differ from the picture as it was taken?"),
    )
