"""The parts of RealUnify: whether generation helps understanding (GEU), and understanding helps generation (UEG).

In: the authors' JSON files in a folder of the user; their licence does not allow copies here. Out: a record per item.

| part | protocol |
|---|---|
| `GEU_direct` | the model answers a multiple-choice question about the picture |
| `GEU_step` | the editor changes the picture by the item's prompt, and the model answers about the edited picture |
| `GEU_oracle` | the same with a strong editor and a strong reader |
| `GEU_jigsaw` | built-in protocol: the model orders the tiles of the picture, and answers about the restored picture |
| `UEG_direct` | the generator draws the item's prompt; it is right if the judge's answers to all questions are |
| `UEG_step` | the same after the model rewrote the prompt |
| `UEG_oracle` | the same with a strong reader that rewrites and a strong generator |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops

from jigsaw.answering.generation import Generate
from jigsaw.data.sources import below
from jigsaw.errors import JigsawError, first_line
from jigsaw.pictures import mosaic
from jigsaw.realunify.endpoint import Endpoint
from jigsaw.realunify.judge import ask
from jigsaw.realunify.plugins import picture_of
from jigsaw.rewards import parse_order
from jigsaw.suites.scoring import cleaned, final_letter
from jigsaw.tasks import answer_instruction, user_message
from jigsaw.text import json_value, read_text

GEU_TASKS = {
    "mental_reconstruction": "MR-II",
    "mental_tracking": "MT",
    "attentional_focusing": "AF",
    "cognitive_navigation": "CN",
}
UEG_TASKS = {
    "world_knowledge": "WK",
    "commonsense_reasoning": "CR",
    "mathematical_reasoning": "MR-I",
    "logical_reasoning": "LR",
    "scientific_reasoning": "SR",
    "code_to_image": "C2I",
}
SHORT = GEU_TASKS | UEG_TASKS
"""Task -> its name in the paper's tables."""

FILES = {"GEU_direct": "GEU_direct", "GEU_step": "GEU_step", "GEU_oracle": "GEU_step", "GEU_jigsaw": "GEU_direct"}
FILES |= {"UEG_direct": "UEG_direct", "UEG_step": "UEG_step", "UEG_oracle": "UEG_step"}
"""Part -> its file."""

Record = dict[str, Any]
Drawer = Callable[[str], Image.Image]
Editor = Callable[[Image.Image, str], Image.Image]


@dataclass(frozen=True)
class Tools:
    """The models that answer, edit, draw and judge.

    Attributes:
        engine: the tested model; for the oracle the strong reader.
        editor: changes pictures.
        generator: draws pictures.
        judge: answers questions about pictures.
        grid: rows and columns of Mental Reconstruction's pictures.
        pictures: folder for drawn and edited pictures.
        options: prefix of the command-line options of these tools, for messages.
    """

    engine: Generate | None
    editor: Editor | None
    generator: Drawer | None
    judge: Endpoint | None
    grid: tuple[int, int]
    pictures: Path
    options: str = "--"


NEEDS: dict[str, tuple[str, ...]] = {
    "GEU_step": ("--editor",),
    "GEU_oracle": ("--oracle-reader", "--oracle-editor"),
    "UEG_direct": ("--generator", "--judge"),
    "UEG_step": ("--generator", "--judge"),
    "UEG_oracle": ("--oracle-reader", "--oracle-generator", "--judge"),
}
"""Part -> the options of the tools that it needs in addition to the model."""


def read_items(root: Path, part: str) -> list[dict[str, Any]]:
    """The checked items of a part.

    Raises:
        JigsawError: the file is missing or broken, an item lacks a key, or a picture is missing.
    """
    path = root / f"{FILES[part]}.json"
    if not path.is_file():
        raise JigsawError(f"{path} is missing; ask the authors of RealUnify for the file and put it there")
    try:
        items = json_value(read_text(path), path)
    except (OSError, JigsawError) as error:
        raise JigsawError(f"{path} cannot be read ({first_line(error)}): download it again") from error
    if not isinstance(items, list) or not items:
        raise JigsawError(f"{path} has no list of items")
    checked = [_checked(path, at, item, part) for at, item in enumerate(items)]
    if part == "GEU_jigsaw":
        checked = [item for item in checked if item["task_type"] == "mental_reconstruction"]
        if not checked:
            raise JigsawError(f"{path} has no item of mental_reconstruction")
    return checked


def _checked(path: Path, at: int, item: Any, part: str) -> dict[str, Any]:
    wanted = {
        "GEU_direct": ("evaluation_prompt", "answer"),
        "GEU_step": ("evaluation_prompt", "answer", "edit_prompt"),
        "UEG_direct": ("prompt", "question_list"),
        "UEG_step": ("question_list", "new_prompt"),
    }[FILES[part]]
    missing = [key for key in ("task_type", *wanted) if not isinstance(item, Mapping) or key not in item]
    if missing:
        raise JigsawError(f"{path}: item {at} has no {missing[0]}")
    tasks = GEU_TASKS if part.startswith("GEU") else UEG_TASKS
    if item["task_type"] not in tasks:
        raise JigsawError(f"{path}: item {at}: task_type {item['task_type']!r} is not one of {', '.join(tasks)}")
    if part.startswith("UEG"):
        for question in item["question_list"]:
            if not isinstance(question, Mapping) or str(question.get("answer")).strip().lower() not in ("yes", "no"):
                raise JigsawError(f"{path}: item {at}: the answer to a question is not yes or no")
        return dict(item) | {"at": at}
    name = next((item[key] for key in ("input_image", "image", "image_path") if item.get(key)), None)
    try:
        picture = None if name is None else below(path.parent, str(name))
    except OSError as error:
        raise JigsawError(
            f"{path}: item {at}: its picture {name} leads out of that folder: download it again"
        ) from error
    if picture is None or not picture.is_file():
        raise JigsawError(f"{path}: item {at}: its picture {name or '(no key input_image or image)'} is missing")
    return dict(item) | {"at": at, "picture": str(picture)}


def run_part(part: str, items: Sequence[Mapping[str, Any]], tools: Tools, batch_size: int) -> Iterator[list[Record]]:
    """Answer a part, batch by batch.

    Args:
        part: one of `FILES`.
        items: from `read_items`.
        tools: the tools of the part, see `NEEDS`; for `GEU_oracle` and `UEG_oracle` the strong ones.
        batch_size: items per batch of the engine. Drawn items are stored one by one, because they are slow.

    Raises:
        JigsawError: a tool fails.
    """
    tools = replace(tools, pictures=tools.pictures / part)
    answer = {"GEU_direct": _direct, "GEU_jigsaw": _jigsaw}.get(part, _edited if part.startswith("GEU") else _drawn)
    size = 1 if part.startswith("UEG") else batch_size
    for start in range(0, len(items), size):
        yield answer(items[start : start + size], tools)


def _direct(items: Sequence[Mapping[str, Any]], tools: Tools) -> list[Record]:
    return _chosen(items, [_open(item) for item in items], tools)


def _edited(items: Sequence[Mapping[str, Any]], tools: Tools) -> list[Record]:
    """Edit the pictures and answer about the edited ones. An item that the editor declines is wrong."""
    assert tools.editor is not None
    originals = [_open(item) for item in items]
    edited = [
        picture_of(tools.editor, f"{tools.options}editor", image, item["edit_prompt"])
        for image, item in zip(originals, items, strict=True)
    ]
    for item, picture in zip(items, edited, strict=True):
        if picture is not None:
            _save(picture, tools, item)
    return [
        record | {"declined": picture is None, "unchanged": picture is not None and _same(original, picture)}
        for record, original, picture in zip(_chosen(items, edited, tools), originals, edited, strict=True)
    ]


def _same(one: Image.Image, other: Image.Image) -> bool:
    return one.size == other.size and ImageChops.difference(one, other).getbbox() is None


def _save(image: Image.Image, tools: Tools, item: Mapping[str, Any]) -> None:
    """Save a picture as `PART/NUMBER.png`, for an analysis of errors."""
    tools.pictures.mkdir(parents=True, exist_ok=True)
    image.save(tools.pictures / f"{item['at']}.png")


def _jigsaw(items: Sequence[Mapping[str, Any]], tools: Tools) -> list[Record]:
    """Ask for the order of the tiles, and answer about the picture that is restored in this order."""
    rows, columns = tools.grid
    tiles = [cut(_open(item), tools.grid) for item in items]
    prompts = []
    for own in tiles:
        parts: list[Any] = [f"These {len(own)} tiles were cut from one picture, {rows} rows by {columns} columns."]
        for number in range(1, len(own) + 1):
            parts += [f"Tile {number}:", {"type": "image"}]
        parts.append(f"List the tiles place by place, row by row. {answer_instruction('direct', len(own))}")
        prompts.append({"id": "tiles", "prompt": user_message(parts), "images": own})
    assert tools.engine is not None
    replies = [texts[0] for texts in tools.engine(prompts)]
    orders = [parse_order(cleaned(text), rows * columns, "direct").order for text in replies]
    pictures = [
        _open(item) if order is None else mosaic([own[piece - 1] for piece in order], *tools.grid)
        for item, own, order in zip(items, tiles, orders, strict=True)
    ]
    records = _chosen(items, pictures, tools)
    return [
        record | {"order": order, "order_text": text}
        for record, order, text in zip(records, orders, replies, strict=True)
    ]


def cut(image: Image.Image, grid: tuple[int, int]) -> list[Image.Image]:
    """The tiles of a picture in raster order. Remaining pixels at the right and below are cut off."""
    rows, columns = grid
    width, height = image.width // columns, image.height // rows
    boxes = [(x * width, y * height, (x + 1) * width, (y + 1) * height) for y in range(rows) for x in range(columns)]
    return [image.crop(box) for box in boxes]


def _chosen(items: Sequence[Mapping[str, Any]], pictures: Sequence[Image.Image | None], tools: Tools) -> list[Record]:
    """Answer multiple-choice questions. A reply without an option is wrong, and so is an item without a picture."""
    assert tools.engine is not None
    rows = [
        {"id": str(item["at"]), "prompt": user_message([{"type": "image"}, item["evaluation_prompt"]]), "images": [one]}
        for item, one in zip(items, pictures, strict=True)
        if one is not None
    ]
    texts = iter(tools.engine(rows) if rows else ())
    records: list[Record] = []
    for item, picture in zip(items, pictures, strict=True):
        text = "" if picture is None else next(texts)[0]
        letter = final_letter(text, "ABCD")
        gold = str(item["answer"]).strip().strip("().").upper()
        record = {"at": item["at"], "task": item["task_type"], "text": text, "letter": letter, "right": letter == gold}
        records.append(record)
    return records


def _drawn(items: Sequence[Mapping[str, Any]], tools: Tools) -> list[Record]:
    """Draw the item's prompt, or the prompt that the engine rewrote, and ask the judge all questions of the item."""
    assert tools.generator is not None and tools.judge is not None
    prompts = [str(item.get("new_prompt") or item["prompt"]) for item in items]
    if any("new_prompt" in item for item in items):
        assert tools.engine is not None
        texts = tools.engine([{"id": str(item["at"]), "prompt": user_message([item["new_prompt"]])} for item in items])
        prompts = [cleaned(own[0]) or str(item["new_prompt"]) for own, item in zip(texts, items, strict=True)]
    records = []
    for item, prompt in zip(items, prompts, strict=True):
        picture = picture_of(tools.generator, f"{tools.options}generator", prompt)
        record = {"at": item["at"], "task": item["task_type"], "prompt": prompt, "declined": picture is None}
        if picture is None:
            records.append(record | {"verdicts": [], "right": False, "unjudged": False, "answered": 0})
            continue
        _save(picture, tools, item)
        verdicts = [ask(tools.judge, picture, str(question["question"])) for question in item["question_list"]]
        gold = [str(question["answer"]).strip().lower() == "yes" for question in item["question_list"]]
        answered = sum(one is other for one, other in zip(verdicts, gold, strict=True))
        record |= {"verdicts": verdicts, "right": verdicts == gold, "unjudged": None in verdicts, "answered": answered}
        records.append(record)
    return records


def _open(item: Mapping[str, Any]) -> Image.Image:
    with Image.open(item["picture"]) as opened:
        return opened.convert("RGB")
