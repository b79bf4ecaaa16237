"""Keys of configurations that several tasks share, with bounds and descriptions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from jigsaw.tasks.contract import AnswerStyle

AnswerStyleKey = Annotated[AnswerStyle, Field(description="how the prompt asks for the answer")]
DecoderKey = Annotated[
    Literal["auto", "decord", "pyav"],
    Field(description="auto: decord where it is installed and the file has an exact index (MP4), else PyAV"),
]
DepthUnitKey = Annotated[
    float | None, Field(gt=0, description="metres per stored unit; null: 0.001 for whole numbers, 1 for fractions")
]
FramePixelsKey = Annotated[int, Field(ge=784, description="most pixels per frame; larger frames are shrunk")]
FrameMultipleKey = Annotated[int, Field(ge=1, description="frame sides are multiples of this many pixels")]
