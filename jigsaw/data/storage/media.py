"""Media in rows: encoding as PNG, decoding, and the check against the placeholders of the prompt.

In: rendered media, or a row that stores media. Out: columns, media, sizes. PNG is lossless.
"""

from __future__ import annotations

import io
from collections import Counter
from typing import Any

import numpy as np
from PIL import Image

from jigsaw.data.storage.parts import Row
from jigsaw.errors import JigsawError
from jigsaw.tasks import Clip, Media, read_photo

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MEDIA_COLUMNS = {"image": "images", "video": "videos"}
"""Type of a placeholder -> the column of its media."""


def encoded_media(media: Media) -> Row:
    """The media columns of a row that stores its media, as PNG."""
    images = [{"bytes": _png(image), "path": None} for image in media.images]
    videos = [
        {
            "frames": [_png(Image.fromarray(frame)) for frame in clip.frames],
            "times": clip.times.tolist(),
            "fps": clip.fps,
        }
        for clip in media.videos
    ]
    return {"images": images or None, "videos": videos or None}


def _png(image: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format="PNG", compress_level=1)
    return stream.getvalue()


def media_of(row: Row) -> Media:
    """The media that a row stores; the inverse of `encoded_media`."""
    images = [_image(stored["bytes"]) for stored in row["images"] or ()]
    clips = [
        Clip(
            frames=np.stack([np.asarray(_image(frame)) for frame in stored["frames"]]),
            times=np.asarray(stored["times"], dtype=np.float64),
            fps=stored["fps"],
        )
        for stored in row["videos"] or ()
    ]
    return Media(images=images, videos=clips)


def _image(data: bytes) -> Any:
    """Rendered media are PNG; pictures of imported questions are stored in their own format."""
    if not data.startswith(PNG_SIGNATURE):
        return read_photo(data)
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        return image.convert("RGB")


def same_media(one: Media, other: Media) -> bool:
    """Whether two renderings have the same pixels and times."""
    if len(one.images) != len(other.images) or len(one.videos) != len(other.videos):
        return False
    images = zip(one.images, other.images, strict=True)
    clips = zip(one.videos, other.videos, strict=True)
    return all(a.size == b.size and a.tobytes() == b.tobytes() for a, b in images) and all(
        np.array_equal(a.frames, b.frames) and np.array_equal(a.times, b.times) for a, b in clips
    )


def media_bytes(media: Media) -> int:
    """Size of rendered media in memory, in bytes."""
    pixels = sum(3 * image.width * image.height for image in media.images)
    return pixels + sum(int(clip.frames.nbytes) for clip in media.videos)


def placeholders(prompt: Any) -> Counter[str]:
    """Numbers of the placeholders of a prompt, by type."""
    return Counter(part["type"] for turn in prompt for part in turn["content"] if part["type"] != "text")


def media_columns(row: Row, media: Media) -> dict[str, list[Any]]:
    """The media as columns of a loaded row, one medium for each placeholder of the prompt.

    Raises:
        JigsawError: their numbers differ, so that the model would not see what the prompt says.
    """
    columns: dict[str, list[Any]] = {"images": [*media.images], "videos": [*media.videos]}
    for kind, column in MEDIA_COLUMNS.items():
        asked = placeholders(row["prompt"])[kind]
        if asked != len(columns[column]):
            found = f"{asked} {kind} placeholders for {len(columns[column])} {column}"
            raise JigsawError(f"puzzle {row['id']}: {found}; build the set again")
    return {column: values for column, values in columns.items() if values}
