"""A row's prompt as text with placeholders, and its media in the order of those: what every engine is given.

In: a row of a puzzle set. Out: the chat template's text, the media, and what a processor must know of a clip. Every
medium must have its placeholder and the other way round; a mismatch is an error, never a puzzle with a missing piece.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from jigsaw.errors import JigsawError

Kind = Literal["image", "video"]


def media_of(row: Mapping[str, Any], kind: Kind) -> list[Any]:
    """The row's images or clips, in prompt order.

    Raises:
        JigsawError: placeholders and media do not match in number.
    """
    given = list(row.get(f"{kind}s") or ())
    wanted = sum(part["type"] == kind for message in row["prompt"] for part in message["content"])
    if wanted != len(given):
        article = "an" if kind == "image" else "a"
        missing, left = max(wanted - len(given), 0), max(len(given) - wanted, 0)
        raise JigsawError(
            f"puzzle {row.get('id')}: {missing} placeholders without {article} {kind}, {left} {kind}s without one"
        )
    return given


def prompt_text(processor: Any, row: Mapping[str, Any]) -> str:
    """The prompt as the chat template writes it, one placeholder per medium, the assistant's turn opened."""
    return str(processor.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False))


def video_metadata(clip: Any) -> dict[str, Any]:
    """What transformers and vLLM want to know of a `tasks.Clip`: its frames are all there are, at its own rate."""
    count = len(clip.frames)
    return {
        "fps": clip.fps,
        "duration": count / clip.fps,
        "total_num_frames": count,
        "frames_indices": list(range(count)),
        "video_backend": "jigsaw",
    }
