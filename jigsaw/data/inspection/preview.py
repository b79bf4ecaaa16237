"""`jigsaw preview`: puzzles of one or more sets as an HTML page.

In: sets. Out: one self-contained file. It shows each puzzle as the model sees it, in the order of its answer, with its
geometry and the explanation of its task (the cut photo, the depth map). It works offline, and all text is escaped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from jigsaw.data.building.build import reject_reasons
from jigsaw.data.loading.load import load_puzzles, opened, pieces_of, spread
from jigsaw.data.storage.manifest import read_manifest
from jigsaw.data.storage.parts import puzzle_of
from jigsaw.errors import JigsawError, first_line
from jigsaw.files import write_atomically
from jigsaw.pictures import data_uri, mosaic
from jigsaw.rewards.answers import written
from jigsaw.tasks import CHOICE, ORDER, get_task, task_named
from jigsaw.tasks.media.video_display import Frames
from jigsaw.text import json_lines

TILE_SIDE = 120
STRIP_HEIGHT = 84
STRIP_WIDTH = 600
PICTURE_SIDE = 360
WIDE_SIDE = 560
"""Largest sides in pixels: of tiles, clip strips, pictures, and pictures of which two are side by side."""

REJECT_SIDE = 110
REJECTS_SHOWN = 12
"""Number of rejected sources at the top of the page, each with a small picture."""

FRAMES_SHOWN = 6
TEMPLATE = "preview.html.j2"


@dataclass(frozen=True)
class Picture:
    """An image on the page: its data as a URL, its size in CSS pixels, and a description."""

    url: str
    width: int
    height: int
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Rejected:
    """A rejected source: its path, the reason, and a small picture if it is a picture."""

    source: str
    reason: str
    picture: Picture | None


@dataclass(frozen=True)
class SetSummary:
    """The summary of one set at the top of the page.

    Attributes:
        line: its name, and the numbers of shown and of all puzzles.
        prompt: of its first puzzle, which the page shows once.
        settings: names and values of the settings.
        rejects: meaning of each reject reason, and how often it occurred.
        rejected: the first rejected sources.
    """

    line: str
    prompt: str
    settings: list[tuple[str, str]]
    rejects: list[tuple[str, int]]
    rejected: list[Rejected]


@dataclass
class Card:
    """One puzzle on the page.

    Attributes:
        shown: the media, in the shown order.
        solved: the media in the order of the answer, as one picture or one per piece.
        explained: the pictures that explain the puzzle, with titles as captions.
        facts: names and values.
        across: columns of the grid of the pieces; 0 if they are in one row that wraps.
        solution: title of `solved`.
    """

    task: str
    title: str
    answer: str
    shown: list[Picture] = field(default_factory=list)
    solved: list[Picture] = field(default_factory=list)
    explained: list[Picture] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    prompt: str = ""
    geometry: str = ""
    across: int = 0
    solution: str = "In the order of the answer"

    @property
    def wide(self) -> bool:
        """Whether it has strips or large pictures, and needs the width of the page."""
        return any(item.width > 2 * item.height or item.width > PICTURE_SIDE for item in (*self.shown, *self.explained))


def preview_puzzles(
    paths: str | Path | Sequence[str | Path],
    out: str | Path = "preview.html",
    *,
    count: int = 24,
    source_root: str | Path | None = None,
    task: str | None = None,
) -> Path:
    """Write the page.

    Args:
        paths: one set or several.
        out: the HTML file.
        count: puzzles from each set, evenly spaced.
        source_root: where the sources are now, if they moved.
        task: spec of the plug-in task of the set, if it is one.

    Raises:
        JigsawError: a folder is not a set, a source is missing, or the page cannot be written.
    """
    from jigsaw.pages import page_environment

    if count < 1:
        raise JigsawError(f"count must be at least 1, not {count}")
    folders = [paths] if isinstance(paths, str | Path) else list(paths)
    cards, sets = [], []
    for folder in folders:
        rows = load_puzzles(folder, source_root, task=task)
        chosen = spread(len(rows), count)
        own = [_card(rows, number) for number in chosen]
        cards += own
        line = f"{Path(folder).name}: {len(chosen):,} of {len(rows):,} puzzles"
        sets.append(_summary(Path(folder), line, own[0].prompt if own else "", source_root, task))
    kinds = sorted({card.task for card in cards})
    page = page_environment(Path(__file__).parent).get_template(TEMPLATE).render(cards=cards, sets=sets, kinds=kinds)
    target = Path(out)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, page)
    except OSError as error:
        raise JigsawError(f"{target} cannot be written: {error.strerror}") from error
    return target


def _summary(folder: Path, line: str, prompt: str, source_root: str | Path | None, task: str | None) -> SetSummary:
    """The settings and the rejects of a set."""
    manifest = read_manifest(folder)
    settings = manifest.settings
    named = {"task": settings.task, **settings.config, "seed": settings.seed, "per_source": settings.per_source}
    if settings.split is not None:
        named |= {"split": settings.split, "heldout": settings.heldout}
    roots = [Path(source_root)] if source_root else [Path(manifest.source_root), folder / manifest.source_relative]
    return SetSummary(
        line=line,
        prompt=prompt,
        settings=[(name, str(value)) for name, value in named.items() if value is not None],
        rejects=list(
            reject_reasons(manifest.counts.rejects, get_task(task or settings.spec, **settings.config)).items()
        ),
        rejected=list(_rejected(folder, roots)),
    )


def _rejected(folder: Path, roots: Sequence[Path]) -> Iterator[Rejected]:
    """The first rejected sources, each once, with its picture if it exists below one of `roots`."""
    first: dict[str, str] = {}
    for path in sorted(folder.glob("rejects*.jsonl")):
        for number, row in json_lines(path):
            if not isinstance(row, dict) or "source" not in row:
                raise JigsawError(f"{path}: line {number} has no source; build the set again")
            first.setdefault(str(row["source"]), str(row.get("detail") or row.get("reason") or ""))
    for source, reason in islice(first.items(), REJECTS_SHOWN):
        pictures = (_source_picture(root, source) for root in roots)
        yield Rejected(source, reason, next((picture for picture in pictures if picture is not None), None))


def _source_picture(root: Path, source: str) -> Picture | None:
    """A small picture of a source file; None if it is missing or is not a picture."""
    path = (root / source).resolve()
    if not path.is_relative_to(root.resolve()) or not path.is_file():
        return None
    try:
        with Image.open(path) as opened_file:
            opened_file.draft("RGB", (2 * REJECT_SIDE, 2 * REJECT_SIDE))
            return _picture(ImageOps.exif_transpose(opened_file).convert("RGB"), REJECT_SIDE, f"Rejected: {source}")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def _card(rows: Any, number: int) -> Card:
    row = rows[number]
    stored = rows.with_format(None)[number]
    puzzle = puzzle_of(stored)  # valid, since `rows[number]` has read it
    card = Card(
        task=row["task"],
        title=row["source"]["path"],
        answer=written(row["answer"]),
        prompt="\n".join(part.get("text", f"<{part['type']}>") for turn in row["prompt"] for part in turn["content"]),
        geometry=json.dumps(row["geometry"]),
    )
    card.facts = [
        ("puzzle", row["id"]),
        ("pieces", str(row["num_pieces"])),
        ("answer style", row["answer_style"]),
        ("fingerprint", row["source"]["fingerprint"]),
    ]
    if row["answer_kind"] != ORDER:
        card.facts.append(("answer kind", f"{row['answer_kind']} {json.dumps(row['answer_args'])}"))
    if row["classes"] is not None:
        card.facts.append(("classes, in shown order", ", ".join(map(str, row["classes"]))))
    _show(card, row)
    card.notes += task_named(puzzle.task).notes(puzzle)
    if task_named(puzzle.task).STORED:
        return card
    try:
        made, source = opened(stored)
        for title, image in made.explain(puzzle, source):
            side = PICTURE_SIDE if card.solved else WIDE_SIDE
            card.explained.append(_picture(image, side, title, title))
    except Exception as error:  # a task may raise any error for a row of other people
        card.notes.append(f"The source cannot be shown: {first_line(error)}")
    return card


def _show(card: Card, row: dict[str, Any]) -> None:
    """Add the media in shown order, and in the order of the answer."""
    pieces, name = pieces_of(row), task_named(row["task"]).PIECE.capitalize()
    if row["answer_kind"] == ORDER:
        chosen = row["answer"]
    else:  # the chosen piece of a choice
        options = row["answer_args"].get("options", ())
        chosen = [options.index(row["answer"]) + 1] if row["answer_kind"] == CHOICE else []
        card.solution = "The answer"
    if not pieces.frames:
        card.shown = [_picture(image, WIDE_SIDE, "What the model is shown") for image in row.get("images") or ()]
        card.shown += [_strip(clip.frames, "What the model is shown", "") for clip in row.get("videos") or ()]
    elif pieces.times or len(pieces.frames[0]) > 1:
        card.shown = [_strip(frames, f"{name} {n}", f"{name} {n}") for n, frames in enumerate(pieces.frames, start=1)]
        for index in chosen:
            spans = [f": {times[0]:.2f} to {times[-1]:.2f} s of the video" for times in pieces.times[index - 1 : index]]
            card.solved.append(
                _strip(pieces.frames[index - 1], f"{name} {index}", "".join([f"{name} {index}", *spans]))
            )
    else:
        tiles = [Image.fromarray(frames[0]) for frames in pieces.frames]
        images = list(row.get("images") or ())
        others = images[: max(0, len(images) - len(tiles))]  # the picture to which the pieces belong
        card.shown = [_picture(image, WIDE_SIDE // 2, "What the model is shown first") for image in others]
        card.shown += [_picture(tile, TILE_SIDE, f"{name} {n}", str(n)) for n, tile in enumerate(tiles, start=1)]
        ordered = [tiles[index - 1] for index in chosen]
        if pieces.grid is not None and len(chosen) == len(tiles):
            card.across = pieces.grid[1]
            card.solved = [_picture(mosaic(ordered, *pieces.grid), PICTURE_SIDE, f"The {name.lower()}s put in order")]
        else:
            what = "Place" if row["answer_kind"] == ORDER else "Answer"
            card.solved = [_picture(tile, TILE_SIDE, f"{what} {n}", str(n)) for n, tile in enumerate(ordered, start=1)]


def _strip(frames: Frames, alt: str, caption: str) -> Picture:
    """Frames of a clip side by side."""
    chosen = [Image.fromarray(frame) for frame in frames[:: max(1, -(-len(frames) // FRAMES_SHOWN))]]
    return _picture(mosaic(chosen, 1, len(chosen)), STRIP_HEIGHT, alt, caption, by_height=True)


def _picture(image: Image.Image, side: int, alt: str, caption: str = "", *, by_height: bool = False) -> Picture:
    """An image as a data URL, reduced to `side`; an image smaller than half of it is enlarged on the page."""
    longest = image.height if by_height else max(image.size)
    if longest > 2 * side:
        shrink = 2 * side / longest  # twice the size on the page, for sharp screens
        image = image.resize((max(1, round(image.width * shrink)), max(1, round(image.height * shrink))))
    zoom = side / (image.height if by_height else max(image.size))
    zoom = min(zoom, 3.0) if zoom > 2 else min(zoom, 1.0)
    zoom = min(zoom, STRIP_WIDTH / image.width)
    size = (max(1, round(image.width * zoom)), max(1, round(image.height * zoom)))
    return Picture(data_uri(image, lossless=max(image.size) <= 96), *size, alt, caption)
