"""`jigsaw import qa`: questions with verifiable answers, as a set that can be mixed with puzzles in training.

In: a Parquet, JSON or JSON Lines file, or a folder of Parquet files, in one of `question_layouts.LAYOUTS`. Out: a
puzzle set whose rows store prompt, answer and media, so that the foreign files are not needed later. Pictures are
stored unchanged; of a video some frames are stored. A row that is not a valid question stops the import with an error.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np

from jigsaw.data.building.build import BuildSummary
from jigsaw.data.building.planning import Planned
from jigsaw.data.building.writer import Outcome
from jigsaw.data.importing.folders import media_folder, parquet_errors, parquet_files, write_imported
from jigsaw.data.importing.question_layouts import LAYOUTS, Question, QuestionError
from jigsaw.data.sources import below
from jigsaw.data.sources.paths import relative_to
from jigsaw.data.storage.identity import digest_of
from jigsaw.data.storage.media import encoded_media
from jigsaw.data.storage.parts import Row, row_of
from jigsaw.data.storage.settings import BuildConfig, Settings
from jigsaw.errors import JigsawError, did_you_mean, first_line
from jigsaw.tasks import (
    AnswerStyle,
    Clip,
    Media,
    PhotoError,
    Puzzle,
    Source,
    get_task,
    instruction_of,
    read_photo,
)
from jigsaw.tasks.media import photos
from jigsaw.tasks.media.clips import frame_numbers, shown_size
from jigsaw.tasks.media.formats import format_of, head_of
from jigsaw.tasks.media.video_streams import VideoError
from jigsaw.tasks.media.videos import choose_decoder, read_frames, read_header
from jigsaw.tasks.questions import QuestionsTask
from jigsaw.text import json_lines, json_value, read_text

ROWS_PER_PART = 5000
STORED_AS_THEY_ARE = ("JPEG", "WebP")
"""Formats whose files are stored unchanged; other pictures are stored as PNG."""

FPS, MOST_FRAMES, MOST_PIXELS, MULTIPLE = 2.0, 16, 100352, 28
"""Limits of the stored frames of a video."""

STYLES = ("auto", "think", "direct", "boxed")


def import_questions(
    path: str | Path,
    out: str | Path,
    *,
    layout: str = "plain",
    media_root: str | Path | None = None,
    kind: str | None = None,
    answer_style: str = "auto",
    limit: int | None = None,
    progress: bool = True,
) -> BuildSummary:
    """Import a set of questions.

    Args:
        path: a .parquet, .json or .jsonl file, or a folder of Parquet files.
        out: a new or empty folder, or one in which the same import was interrupted.
        layout: one of `LAYOUTS`.
        media_root: folder to which the paths of media are relative; by default that of the file.
        kind: kind of all answers (`jigsaw.rewards.answers`); None to infer it for each row.
        answer_style: how the prompt asks for the answer; `auto`: boxed if the prompt asks for a box, else think.
        limit: largest number of rows.
        progress: show a progress bar on a terminal if the import takes more than two seconds.

    Raises:
        JigsawError: there is no such file or layout, the folder is not empty, or a row is not a valid question.
    """
    if layout not in LAYOUTS:
        raise JigsawError(f"layout {layout!r} is unknown; {did_you_mean(layout, LAYOUTS)}")
    if answer_style not in STYLES:
        raise JigsawError(f"answer style {answer_style!r} is unknown; {did_you_mean(answer_style, STYLES)}")
    where = Path(path)
    if not where.exists():
        raise JigsawError(f"{path}: no such file")
    root = media_folder(media_root, where)
    count = min(_count(where), limit or 2**53)
    if not count:
        raise JigsawError(f"{path} has no rows")
    task = get_task(QuestionsTask.name)
    settings = Settings.of_build(
        BuildConfig.of(task.name, heldout=None, materialize=True),
        task=task.name,
        parts=-(-count // ROWS_PER_PART),
        num_sources=count,
        listing="",
        imported=f"qa {layout}",
    )

    def outcomes() -> Iterator[Outcome]:
        for number, row in islice(_stored(where), count):
            source = f"{where.name}::{number}"
            try:
                rows = [_row(question, source, root, kind, answer_style) for question in LAYOUTS[layout](row)]
            except (QuestionError, VideoError, OSError) as error:
                raise JigsawError(f"{path}: row {number}: {first_line(error)}") from error
            yield Outcome(source, Planned(rows=rows))

    return write_imported(Path(out), root, settings, outcomes(), task, rows_per_part=ROWS_PER_PART, progress=progress)


def _row(question: Question, place: str, root: Path, kind: str | None, style: str) -> Row:
    """The row of a question, with its media.

    Raises:
        QuestionError, VideoError, OSError: the question is not valid, or a medium cannot be read.
    """
    turns = question.content()
    images = [_picture(one, root) for one in question.images]
    clips = [_clip(one, root) for one in question.videos]
    size = photos.read_header(images[0]).size if images else None  # upright, as it is shown
    name, args, answer = replace(question, kind=question.kind or kind).solved(size)
    words = "\n".join(part["text"] for turn in turns for part in turn["content"] if part["type"] == "text")
    asks_for_box = "\\boxed" in words
    way = cast(AnswerStyle, ("boxed" if asks_for_box else "think") if style == "auto" else style)
    puzzle = Puzzle(
        task=QuestionsTask.name,
        answer=answer,
        geometry={},
        answer_style=way,
        answer_kind=name,
        answer_args=args,
    )
    if not (asks_for_box and way == "boxed"):
        turns[-1]["content"].append({"type": "text", "text": _closing(puzzle)})
    media = digest_of("media", *(hashlib.sha256(one).hexdigest() for one in images), *map(str, question.videos))
    shown = Source(path=f"media/{media}" if images or clips else place, fingerprint=media, files={})
    prompt = json.dumps(turns, sort_keys=True)
    row = row_of(digest_of("question", prompt, json.dumps(answer), media), puzzle, turns, shown)
    row["images"] = [{"bytes": one, "path": None} for one in images] or None
    row["videos"] = encoded_media(Media(videos=clips))["videos"]
    return row


def _closing(puzzle: Puzzle) -> str:
    """The options, and the instruction for the answer."""
    options, texts = puzzle.answer_args.get("options", ()), puzzle.answer_args.get("texts", ())
    listed = [f"{label}. {text}" for label, text in zip(options, texts, strict=False)]
    return "\n".join(["", *listed, instruction_of(puzzle)])


def _bytes(medium: Any, root: Path) -> bytes:
    """The content of an image or a video, which a row stores or names."""
    data, path = (medium.get("bytes"), medium.get("path")) if isinstance(medium, Mapping) else (medium, medium)
    if isinstance(data, bytes) and data:
        return data
    if not isinstance(path, str) or not path:
        raise QuestionError("one of its media has neither bytes nor a path; add it, or leave the row out")
    try:
        return below(root, str(relative_to(root, PurePosixPath(path)))).read_bytes()
    except OSError as error:
        why = error.strerror or str(error)
        raise QuestionError(f"{path} cannot be read in {root} ({why}); --media-root names the folder") from error


def _picture(medium: Any, root: Path) -> bytes:
    """The stored bytes of an image: JPEG and WebP unchanged, others as PNG of their upright sRGB pixels."""
    data = _bytes(medium, root)
    try:
        picture = read_photo(data)
    except PhotoError as error:
        name = medium if isinstance(medium, str) else medium.get("path") or "an image"
        raise QuestionError(f"{name}: {first_line(error)}; correct it, or leave the row out") from error
    found = format_of(head_of(data))
    if found is not None and found.name in STORED_AS_THEY_ARE:
        return data
    stored: bytes = encoded_media(Media(images=[picture]))["images"][0]["bytes"]
    return stored


def _clip(medium: Any, root: Path) -> Clip:
    """Evenly spaced frames of a video."""
    data = _bytes(medium, root)
    header = read_header(data)
    count = max(1, min(MOST_FRAMES, round(header.duration * FPS), header.num_frames))
    numbers = frame_numbers(header.times, (0.0, header.duration), count)
    size = shown_size(header.size, MOST_PIXELS, MULTIPLE)
    frames = read_frames(data, header, numbers, size, choose_decoder("auto", header))
    return Clip(frames, np.asarray(header.times[numbers]), count / max(header.duration, 1e-6))


def _stored(where: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Number, from 0, and value of every row."""
    for number, value in enumerate(chain.from_iterable(_batches(where))):
        if not isinstance(value, Mapping):
            raise JigsawError(f"{where}: row {number} is a {type(value).__name__}, not an object")
        yield number, value


def _batches(where: Path) -> Iterator[list[Any]]:
    if where.is_file() and where.suffix in (".jsonl", ".ndjson"):
        for _, value in json_lines(where):
            yield [value]
    elif where.is_file() and where.suffix == ".json":
        rows = json_value(read_text(where), where)
        if not isinstance(rows, list):
            raise JigsawError(f"{where} has one {type(rows).__name__}, not a list of rows")
        yield rows
    else:
        import pyarrow.parquet as pq

        for file in parquet_files(where):
            with parquet_errors(file), pq.ParquetFile(file) as parquet:
                yield from (batch.to_pylist() for batch in parquet.iter_batches(batch_size=64))


def _count(where: Path) -> int:
    """Number of rows; does not read the media of a Parquet file."""
    import pyarrow.parquet as pq

    if where.is_file() and where.suffix in (".jsonl", ".ndjson", ".json"):
        return sum(len(values) for values in _batches(where))
    count = 0
    for file in parquet_files(where):
        with parquet_errors(file):
            count += pq.read_metadata(file).num_rows
    return count
