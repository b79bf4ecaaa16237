"""Functions that lmms-eval calls for the built-in definitions: questions with their media, and scores of answers.

In: lmms-eval's `doc`, here `{"id", "row"}` with a row of `loading` as JSON. Out: messages, targets, records, figures.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageOps

from jigsaw.suites.scoring import Record, figure_of, record_of

Doc = Mapping[str, Any]
MARKS = ("#00ff00", "#ff0000")
"""DA-2K's first point is green, its second red."""

RADIUS, WIDTH = 30, 4


def row_of(doc: Doc) -> dict[str, Any]:
    """The row of a doc."""
    row: dict[str, Any] = json.loads(doc["row"])
    return row


def doc_to_text(doc: Doc) -> str:
    """The question without its placeholders."""
    return re.sub(r"<(image|video)>", "", row_of(doc)["prompt"]).strip()


def doc_to_visual(doc: Doc) -> list[Any]:
    """Pictures, and paths of clips."""
    return [_medium(part) for part in row_of(doc)["media"]]


def doc_to_target(doc: Doc) -> str:
    """The right answer as text."""
    target = row_of(doc)["target"]
    return target if isinstance(target, str) else json.dumps(target)


def doc_to_messages(doc: Doc) -> list[dict[str, Any]]:
    """One user turn. Media replace their placeholders, or come first if there are none."""
    row = row_of(doc)
    media = [{"type": part["type"], "url": _medium(part)} for part in row["media"]]
    pieces = re.split(r"<image>|<video>", row["prompt"])
    if len(pieces) - 1 != len(media):
        pieces = [""] * len(media) + [re.sub(r"<(image|video)>", "", row["prompt"])]
    content: list[dict[str, Any]] = []
    for at, text in enumerate(pieces):
        content += [{"type": "text", "text": text}] if text.strip() else []
        content += media[at : at + 1] if at < len(pieces) - 1 else []
    return [{"role": "user", "content": content}]


def _medium(part: Mapping[str, Any]) -> Any:
    if part["type"] == "video":
        return {"path": part["path"], "share": part["share"]} if "share" in part else part["path"]
    with Image.open(part["path"]) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    return marked(image, part["points"]) if "points" in part else image


def marked(image: Image.Image, points: Sequence[Sequence[float]]) -> Image.Image:
    """A picture with a ring and a cross at each point `[row, column]`."""
    image = image.copy()
    draw = ImageDraw.Draw(image)
    for (y, x), colour in zip(points, MARKS, strict=False):
        draw.ellipse((x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS), outline=colour, width=WIDTH)
        draw.line((x - RADIUS, y, x + RADIUS, y), fill=colour, width=WIDTH)
        draw.line((x, y - RADIUS, x, y + RADIUS), fill=colour, width=WIDTH)
    return image


def process_results(doc: Doc, results: Sequence[str]) -> dict[str, Record]:
    """The record of an answer, for both rules."""
    record = record_of(row_of(doc), results[0])
    return {"right": record, "flexible": record}


def right(records: Sequence[Record]) -> float:
    """The figure by the paper's rule, 0 to 1."""
    return figure_of(records)


def flexible(records: Sequence[Record]) -> float:
    """The figure with flexible answer extraction, 0 to 1."""
    return figure_of(records, "flexible")
