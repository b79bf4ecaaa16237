"""Conversations about images: further training data of the supervised stage.

In: a JSON, JSON Lines or Parquet file, or a folder of Parquet files, in one of two common forms::

    {"messages": [{"role": "user", "content": TEXT | PARTS}, {"role": "assistant", "content": ...}], "images": [...]}
    {"conversations": [{"from": "human", "value": TEXT}, {"from": "gpt", "value": ...}], "image": ...}

Images are paths below one folder, or bytes in Parquet. The placeholder is `<image>` in a text and `{"type": "image"}`
in parts, which may also have the image. A row may have no images. Out: a `datasets.Dataset` with everything before the
last answer as `prompt`, that answer as `completion`, and `images` in prompt order, which are opened when a row is read.
Earlier answers are learned too (`jigsaw.training.collate`); turns after the last answer are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from jigsaw.data.sources import below
from jigsaw.data.sources.paths import relative_to
from jigsaw.errors import JigsawError, first_line
from jigsaw.files import write_atomically
from jigsaw.tasks import PhotoError, read_photo
from jigsaw.text import json_value, read_text

PLACEHOLDER = "<image>"
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
FORMS = "a list `messages` (role, content) or `conversations` (from, value)"

_OTHER_MEDIA = re.compile(r"(video|audio|sound|speech|clip|movie)s?(_?(path|file|url|bytes|name|list)s?)?")
_OTHER_IMAGES = re.compile(r"(image|img|picture|photo)s?_?(path|file|url|bytes|base64|list)s?|(img|picture|photo)s?")
"""Keys of other media, and of images if `images` and `image` are empty."""

Row = dict[str, Any]


def load_conversations(path: str | Path, images: str | Path | None = None) -> Any:
    """Open a set of conversations.

    Args:
        path: a .json, .jsonl or .parquet file, or a folder with Parquet files below it.
        images: folder to which image paths are relative; None for the folder of the file.

    Returns:
        A `datasets.Dataset` of `id`, `prompt`, `completion` and `images` (PIL).

    Raises:
        JigsawError: there is no such file, it has another form, or a row is not a valid conversation.
    """
    where = Path(path)
    if not where.exists():
        raise JigsawError(f"{path}: no such set of conversations")
    root = Path(images) if images is not None else (where if where.is_dir() else where.parent)
    rows = _parquet(where) if where.is_dir() or where.suffix == ".parquet" else _json(where)
    if not len(rows):
        raise JigsawError(f"{path}: has no conversations")
    reader = Reader(str(path), str(root.resolve()))
    for stored in _without_images(rows):
        reader.conversation(stored)  # an error hours later would lose the run
    opened = rows.with_transform(reader)
    opened[0]  # checks that the folder has the images
    return opened


def _without_images(rows: Any) -> Iterator[Row]:
    """All stored rows with None for each image, so that the bytes of images are not read."""
    import pyarrow.compute as pc

    pictures = [name for name in ("images", "image") if name in rows.column_names]
    for table in rows.with_format("arrow").iter(batch_size=1000):
        counts = {}
        for name in pictures:
            is_list = "list" in str(table[name].type).partition("<")[0]
            counts[name] = (pc.list_value_length if is_list else pc.is_valid)(table[name]).to_pylist()
        for at, row in enumerate(table.drop_columns(pictures).to_pylist()):
            yield row | {name: [None] * int(count[at] or 0) for name, count in counts.items()}


def _parquet(where: Path) -> Any:
    import datasets
    import pyarrow.parquet as pq

    files = sorted(where.rglob("*.parquet")) if where.is_dir() else [where]
    if not files:
        raise JigsawError(f"{where}: no Parquet files in it; name the .json or .jsonl file itself")
    try:
        # With an image feature in the metadata of the file, `datasets` would open any path or address in a cell.
        features = datasets.Features.from_arrow_schema(pq.read_schema(files[0]).remove_metadata())
        rows = datasets.Dataset.from_parquet([str(file) for file in files], features=features)
    except (OSError, ValueError, TypeError, datasets.exceptions.DatasetGenerationError) as error:
        raise JigsawError(f"{where}: cannot be read as Parquet ({first_line(error)})") from error
    if not {"messages", "conversations"} & set(rows.column_names):
        raise JigsawError(f"{where}: columns {', '.join(rows.column_names)}; conversations need {FORMS}")
    return rows.add_column("row", range(len(rows)))


def _json(where: Path) -> Any:
    """Rows as JSON text: a table cannot have rows with and without images, or ids of several types."""
    import datasets

    try:
        text = read_text(where)
    except OSError as error:
        raise JigsawError(f"{where}: cannot be read ({error.strerror})") from error
    if where.suffix in (".jsonl", ".ndjson"):
        texts = [line.strip() for line in text.split("\n") if line.strip()]
    else:
        rows = json_value(text, f"{where}: cannot be read as a list of rows in JSON: it")
        if not isinstance(rows, list):
            raise JigsawError(f"{where}: cannot be read as a list of rows in JSON: it has one {type(rows).__name__}")
        texts = [json.dumps(row) for row in rows]
    return datasets.Dataset.from_dict({"json": texts, "row": list(range(len(texts)))})


@dataclass(frozen=True)
class Reader:
    """The transform of a set, from stored rows to rows with images.

    Attributes:
        path: of the set, for messages.
        root: folder to which image paths are relative.
    """

    path: str
    root: str

    def __call__(self, batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """Convert columns of stored rows to columns of conversations."""
        names = list(batch)
        rows = [self._read(dict(zip(names, values, strict=True))) for values in zip(*batch.values(), strict=True)]
        return {name: [row[name] for row in rows] for name in rows[0]}

    def _read(self, stored: Row) -> Row:
        place, row, turns, entries = self.conversation(stored)
        return {
            "id": str(row.get("id") or stored["row"]),
            "prompt": turns[:-1],
            "completion": turns[-1:],
            "images": [self._image(one, place) for one in entries],
        }

    def conversation(self, stored: Row) -> tuple[str, Row, list[Row], list[Any]]:
        """The name of the row for messages, the row itself, its turns, and its entries for images.

        Raises:
            JigsawError: the row is not a valid conversation.
        """
        place = f"{self.path}: row {stored['row']}"
        row = json_value(stored["json"], place) if "json" in stored else stored
        if not isinstance(row, dict):
            raise JigsawError(f"{place}: a {type(row).__name__}, not a conversation; it needs {FORMS}")
        try:
            stored_turns = row.get("messages") or row.get("conversations") or []
            if not isinstance(stored_turns, list):
                raise _FormError(f"its turns are a {type(stored_turns).__name__}, not a list")
            turns = [_turn(turn, number) for number, turn in enumerate(stored_turns, start=1)]
        except _FormError as error:
            raise JigsawError(f"{place}: not a conversation: {error}; it needs {FORMS}") from error
        while turns and turns[-1]["role"] != "assistant":
            turns.pop()
        if len(turns) < 2 or turns[0]["role"] == "assistant":
            raise JigsawError(f"{place}: a conversation needs a question and an answer of the assistant")
        shown = [part for turn in turns for part in turn["content"] if part["type"] == "image"]
        in_parts = [part.pop("image") for part in shown if "image" in part]
        entries = in_parts or row.get("images") or row.get("image") or ()
        entries = list(entries) if isinstance(entries, list | tuple) else [entries]
        _refuse_other_media(row, place, entries)
        if not shown and entries:  # without placeholders, images come before the first question
            first = next(turn for turn in turns if turn["role"] == "user")
            first["content"][:0] = [{"type": "image"}] * len(entries)
        elif len(shown) != len(entries):
            raise JigsawError(f"{place}: {len(shown)} placeholders for {len(entries)} images")
        if any(part["type"] == "image" for part in turns[-1]["content"]):
            raise JigsawError(f"{place}: an image in an answer")
        return place, row, turns, entries

    def _image(self, entry: Any, place: str) -> Image.Image:
        data, where = (entry.get("bytes"), entry.get("path")) if isinstance(entry, Mapping) else (entry, entry)
        if isinstance(data, bytes):
            try:
                return read_photo(data)
            except PhotoError as error:
                problem = f"the bytes of an image cannot be read ({first_line(error)})"
                raise JigsawError(f"{place}: {problem}; correct them or leave the row out") from error
        try:
            root = Path(self.root)
            return read_photo(below(root, str(relative_to(root, PurePosixPath(str(where))))))
        except (OSError, PhotoError) as error:
            raise JigsawError(
                f"{place}: image {where} cannot be opened ({error}); set `images` to the folder of the images"
            ) from error


class _FormError(ValueError):
    """A row has another form."""


def _refuse_other_media(row: Row, place: str, entries: list[Any]) -> None:
    """Refuse media under keys that are not read: the model would learn to answer without them."""
    for key, value in row.items():
        if value is None or value == "" or value == [] or value == {}:
            continue
        if _OTHER_MEDIA.fullmatch(key):
            raise JigsawError(f"{place}: `{key}` is not read; conversations are about images: leave the row out")
        if not entries and _OTHER_IMAGES.fullmatch(key):
            raise JigsawError(f"{place}: `{key}` is not read; name images by `images` or `image`")


def _turn(turn: Any, number: int) -> Row:
    """A turn for chat templates: a role, and text and image parts."""
    if not isinstance(turn, Mapping):
        raise _FormError(f"turn {number} is a {type(turn).__name__}, not an object")
    speaker = turn["role"] if "role" in turn else turn.get("from")
    if not isinstance(speaker, str) or speaker not in ROLES:
        raise _FormError(f"turn {number} has role {speaker!r}, not one of {', '.join(ROLES)}")
    content = turn["content"] if "content" in turn else turn.get("value")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list):
        raise _FormError(f"turn {number} has no content but {json.dumps(content)}")
    role = ROLES[speaker]
    # White space at the ends of an answer would merge with that of the template into other tokens.
    return {"role": role, "content": [one for part in parts for one in _parts(part, number, strip=role == "assistant")]}


def _parts(part: Any, number: int, *, strip: bool) -> Iterator[Row]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "image":
        yield {"type": "image"} | ({} if part.get("image") is None else {"image": part["image"]})
        return
    if kind != "text":
        raise _FormError(f"turn {number} has a part of type {kind!r}, which is not text or image")
    if not isinstance(part.get("text"), str):
        raise _FormError(f"turn {number} has a text that is {json.dumps(part.get('text'))}")
    for place, text in enumerate(part["text"].split(PLACEHOLDER)):
        if place:
            yield {"type": "image"}
        if text := text.strip() if strip else text:
            yield {"type": "text", "text": text}


def write_sample_conversations(photos: Path, out: Path) -> Path:
    """Write conversations about the sample photos, with answers from their names and sizes, for trials and tests.

    Args:
        photos: folder of photos named `SCENE-NN.*`.
        out: the file to write.
    """
    lines = []
    for photo in sorted(file for file in photos.rglob("*") if file.suffix in (".png", ".jpg", ".jpeg")):
        with Image.open(photo) as image:
            width, height = image.size
        shape = "wide" if width > height else "tall" if height > width else "square"
        texts = [f"{PLACEHOLDER}\nWhat does the photo show?", photo.stem.rpartition("-")[0].replace("-", " ")]
        texts += ["Is it wide, tall or square?", shape]
        turns = [{"from": ("human", "gpt")[number % 2], "value": text} for number, text in enumerate(texts)]
        lines.append({"id": photo.stem, "image": str(photo.resolve()), "conversations": turns})
    write_atomically(out, "".join(json.dumps(line) + "\n" for line in lines))
    return out
