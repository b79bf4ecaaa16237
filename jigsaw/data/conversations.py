"""Conversations about images, other people's: what the supervised stage trains on beside puzzles.

In: a JSON, JSON Lines or Parquet file, or a folder of Parquet files, in one of the two forms that such sets have::

    {"messages": [{"role": "user", "content": TEXT | PARTS}, {"role": "assistant", "content": ...}], "images": [...]}
    {"conversations": [{"from": "human", "value": TEXT}, {"from": "gpt", "value": ...}], "image": ...}

Images are paths below one folder, or bytes in Parquet; in a text `<image>` stands for one, in parts `{"type":
"image"}`, which may also hold it themselves. Rows without images are rows. Out: a `datasets.Dataset` whose rows hold
everything before the last answer as `prompt`, that answer as `completion`, and `images` in prompt order, opened when
they are looked at. Earlier answers are learned too (`jigsaw.training.collate`); what a user says after the last answer
is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from jigsaw.data.sources import below, relative_to
from jigsaw.errors import JigsawError, first_line
from jigsaw.files import write_whole
from jigsaw.tasks import PhotoError, read_photo

PLACEHOLDER = "<image>"
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
FORMS = "a list `messages` (role, content) or `conversations` (from, value)"

Row = dict[str, Any]


def load_conversations(path: str | Path, images: str | Path | None = None) -> Any:
    """Open a set of conversations.

    Args:
        path: a .json, .jsonl or .parquet file, or a folder with Parquet files below it.
        images: folder that image paths are relative to; that of the file where None.

    Returns:
        A `datasets.Dataset` of `id`, `prompt`, `completion` and `images` (PIL).

    Raises:
        JigsawError: no such file, another form, or a first row that is none.
    """
    where = Path(path)
    if not where.exists():
        raise JigsawError(f"{path}: no such set of conversations")
    root = Path(images) if images is not None else (where if where.is_dir() else where.parent)
    rows = _parquet(where) if where.is_dir() or where.suffix == ".parquet" else _json(where)
    if not len(rows):
        raise JigsawError(f"{path}: holds no conversations")
    opened = rows.with_transform(Reader(str(path), str(root.resolve())))
    opened[0]  # a set of another form must not show hours later
    return opened


def _parquet(where: Path) -> Any:
    import datasets
    import pyarrow.parquet as pq

    files = sorted(where.rglob("*.parquet")) if where.is_dir() else [where]
    if not files:
        raise JigsawError(f"{where}: no Parquet files in it; name the .json or .jsonl file itself")
    try:
        # An image feature in the file's metadata would have `datasets` open any path or address that a cell holds.
        features = datasets.Features.from_arrow_schema(pq.read_schema(files[0]).remove_metadata())
        rows = datasets.Dataset.from_parquet([str(file) for file in files], features=features)
    except (OSError, ValueError, TypeError, datasets.exceptions.DatasetGenerationError) as error:
        raise JigsawError(f"{where}: cannot be read as Parquet ({first_line(error)})") from error
    if not {"messages", "conversations"} & set(rows.column_names):
        raise JigsawError(f"{where}: columns {', '.join(rows.column_names)}; conversations need {FORMS}")
    return rows.add_column("row", range(len(rows)))


def _json(where: Path) -> Any:
    """Rows kept as text: files mix rows with and without images, and ids of several types, which no table takes."""
    import datasets

    try:
        with where.open(encoding="utf-8") as file:
            lines = file if where.suffix == ".jsonl" else map(json.dumps, json.load(file))
            texts = [line.strip() for line in lines if line.strip()]
    except (OSError, UnicodeDecodeError, TypeError, json.JSONDecodeError) as error:
        raise JigsawError(f"{where}: cannot be read as a list of rows in JSON ({error})") from error
    return datasets.Dataset.from_dict({"json": texts, "row": list(range(len(texts)))})


@dataclass(frozen=True)
class Reader:
    """The transform of a set: stored rows to rows with images.

    Attributes:
        path: of the set, for messages.
        root: that image paths are relative to.
    """

    path: str
    root: str

    def __call__(self, batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """Turn columns of stored rows into columns of conversations."""
        names = list(batch)
        rows = [self._read(dict(zip(names, values, strict=True))) for values in zip(*batch.values(), strict=True)]
        return {name: [row[name] for row in rows] for name in rows[0]}

    def _read(self, stored: Row) -> Row:
        place = f"{self.path}: row {stored['row']}"
        try:
            row = json.loads(stored["json"]) if "json" in stored else stored
            turns = [_turn(turn) for turn in row.get("messages") or row.get("conversations") or ()]
        except (AttributeError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise JigsawError(f"{place}: no conversation ({error!r}); it needs {FORMS}") from error
        while turns and turns[-1]["role"] != "assistant":
            turns.pop()
        if len(turns) < 2 or turns[0]["role"] == "assistant":
            raise JigsawError(f"{place}: a conversation needs a question and an answer of the assistant")
        shown = [part for turn in turns for part in turn["content"] if part["type"] == "image"]
        given = [part.pop("image") for part in shown if "image" in part] or row.get("images") or row.get("image") or ()
        given = list(given) if isinstance(given, list | tuple) else [given]
        wanted = len(shown)
        if not wanted and given:  # no word about where they go: before the first question
            first = next(turn for turn in turns if turn["role"] == "user")
            first["content"][:0] = [{"type": "image"}] * len(given)
        elif wanted != len(given):
            raise JigsawError(f"{place}: {wanted} placeholders for {len(given)} images")
        if any(part["type"] == "image" for part in turns[-1]["content"]):
            raise JigsawError(f"{place}: an image in an answer")
        return {
            "id": str(row.get("id") or stored["row"]),
            "prompt": turns[:-1],
            "completion": turns[-1:],
            "images": [self._image(one, place) for one in given],
        }

    def _image(self, given: Any, place: str) -> Image.Image:
        data, where = (given.get("bytes"), given.get("path")) if isinstance(given, Mapping) else (given, given)
        if isinstance(data, bytes):
            try:
                return read_photo(data)
            except PhotoError as error:
                told = f"the bytes of an image cannot be read ({first_line(error)}); mend them or leave the row out"
                raise JigsawError(f"{place}: {told}") from error
        try:
            root = Path(self.root)
            return read_photo(below(root, str(relative_to(root, PurePosixPath(str(where))))))
        except (OSError, PhotoError) as error:
            raise JigsawError(
                f"{place}: image {where} cannot be opened ({error}); `images` names the folder that holds them all"
            ) from error


def _turn(turn: Mapping[str, Any]) -> Row:
    """A turn as chat templates take it: a role, and text and image parts."""
    speaker = turn["role"] if "role" in turn else turn["from"]
    if speaker not in ROLES:
        raise KeyError(f"role {speaker!r}, not one of {', '.join(ROLES)}")
    content = turn["content"] if "content" in turn else turn["value"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    role = ROLES[speaker]
    # An answer begins and ends where the template's own words do: white space there would merge with theirs.
    return {"role": role, "content": [one for part in parts for one in _parts(part, strip=role == "assistant")]}


def _parts(part: Mapping[str, Any], *, strip: bool) -> Iterator[Row]:
    if part["type"] == "image":
        yield {"type": "image"} | ({} if part.get("image") is None else {"image": part["image"]})
        return
    if part["type"] != "text":
        raise KeyError(f"a part of type {part['type']!r}; text and image are known")
    for number, text in enumerate(part["text"].split(PLACEHOLDER)):
        if number:
            yield {"type": "image"}
        if text := text.strip() if strip else text:
            yield {"type": "text", "text": text}


def write_sample_conversations(photos: Path, out: Path) -> Path:
    """Conversations about the sample photos, whose answers their names and sizes give: for trials and tests.

    Args:
        photos: folder of photos named `SCENE-NN.*`.
        out: the file to write.
    """
    lines = []
    for photo in sorted(file for file in photos.rglob("*") if file.suffix in (".png", ".jpg", ".jpeg")):
        with Image.open(photo) as image:
            width, height = image.size
        shape = "wide" if width > height else "tall" if height > width else "square"
        said = [f"{PLACEHOLDER}\nWhat does the photo show?", photo.stem.rpartition("-")[0].replace("-", " ")]
        said += ["Is it wide, tall or square?", shape]
        turns = [{"from": ("human", "gpt")[number % 2], "value": text} for number, text in enumerate(said)]
        lines.append({"id": photo.stem, "image": str(photo.resolve()), "conversations": turns})
    write_whole(out, "".join(json.dumps(line) + "\n" for line in lines))
    return out
