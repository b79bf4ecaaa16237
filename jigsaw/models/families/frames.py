"""Converts videos to images, for models that do not take videos.

In: a row with clips. Out: the row with their frames as images, each after its text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jigsaw.models.families.base import Row


def with_frames(row: Row, parts_of_clip: Callable[[Any], Sequence[Mapping[str, Any]]]) -> Row:
    """The row with the frames of its clips as images.

    Args:
        row: a puzzle row with its media.
        parts_of_clip: returns the text and image parts of a `tasks.Clip`; an image part has its `image`.
    """
    if not row.get("videos"):
        return row
    images, clips = iter(row.get("images") or ()), iter(row["videos"])
    shown: list[Any] = []

    def parts_of(part: Mapping[str, Any]) -> list[dict[str, Any]]:
        if part["type"] == "image":
            shown.append(next(images))
        if part["type"] != "video":
            return [dict(part)]
        parts = parts_of_clip(next(clips))
        shown.extend(one["image"] for one in parts if one["type"] == "image")
        return [dict(one) if one["type"] == "text" else {"type": "image"} for one in parts]

    prompt = [
        {**turn, "content": [one for part in turn["content"] for one in parts_of(part)]} for turn in row["prompt"]
    ]
    return {**row, "prompt": prompt, "images": shown, "videos": []}
