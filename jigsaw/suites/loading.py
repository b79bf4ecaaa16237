"""Loads the eleven benchmarks that lmms-eval lacks, and MMVP with its own labels, from the authors' files.

In: a data root with one folder per benchmark. Out: rows of JSON values::

    {"id", "kind": "letter" | "word" | "box" | "boxes", "prompt", "media": [{"type", "path", ...}],
     "target", "category", "group", "part"}

`prompt` may have the placeholders `<image>` and `<video>`; without them media come first. Rows of a `group` are right
or wrong together. The schemas are those of the benchmarks; an error names the file and the row.

`find_benchmarks` checks which benchmarks of a suite are in a data root. Nothing is downloaded. The root has folders
from `hf download --local-dir ROOT/ORG/NAME`, or is a hub cache (`HF_HOME`).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jigsaw.data.sources import below
from jigsaw.errors import JigsawError, first_line
from jigsaw.progress import progress_bar
from jigsaw.suites.benchmarks import Benchmark
from jigsaw.suites.log import Job
from jigsaw.text import json_lines, json_value, read_text

Item = dict[str, Any]
LETTERS = "ABCDEFGH"
DIRECT = "\nAnswer with the option letter directly."


def lisa(root: Path) -> Iterator[Item]:
    """LISA-Grounding: `lisa_test.json` with image, problem, solution [x1, y1, x2, y2] in original pixels."""
    for at, row in _rows(root, "lisa_test.json", ("image", "problem", "solution")):
        prompt = f"{row['problem']} Please provide the bounding box coordinate in JSON format."
        yield _item(at, "box", prompt, _images(root, row["image"]), [float(side) for side in row["solution"]])


def ovdeval(root: Path) -> Iterator[Item]:
    """OVD-Eval: `all_data.json` with task, image_info, category_info; truth in `annotations/<task>.json` (COCO)."""
    for at, row in _rows(root, "all_data.json", ("task", "image_info", "category_info")):
        task, image, kind = row["task"], row["image_info"], row["category_info"]
        truth = _file(root, _inside(root, f"annotations/{task}.json"))
        prompt = f"Detect every {kind['name']} in the image. Output the detected bbox coordinates in JSON format."
        target = {"truth": str(truth), "image_id": image["id"], "category_id": kind["id"]}
        media = _images(root, image["file_name"], folders=("images", f"images/{task}", "."))
        yield _item(at, "boxes", prompt, media, target, task, size=[image["width"], image["height"]])


def vsr(root: Path) -> Iterator[Item]:
    """VSR, random split: `test.jsonl` with image, caption, label; pictures of COCO 2017 in `../coco`."""
    for at, row in _rows(root, "test.jsonl", ("image", "caption", "label")):
        prompt = f'Is this a correct description of the image: "{row["caption"]}"?\nAnswer Yes or No directly.'
        media = _images(root, row["image"], folders=("../coco/val2017", "../coco/train2017", "images", "."))
        yield _item(at, "word", prompt, media, "Yes" if row["label"] else "No", row.get("relation", ""))


def da2k(root: Path) -> Iterator[Item]:
    """DA-2K: image, points [[row, column], [row, column]], question, answer; the points are drawn on the picture."""
    for at, row in _rows(root, "da_2k.json", ("image", "points", "question", "answer")):
        media = _images(root, row["image"], folders=(".", "images"))
        media[0]["points"] = row["points"]
        yield _item(at, "letter", row["question"], media, row["answer"])


def winoground(root: Path) -> Iterator[Item]:
    """Winoground: image_name, question with placeholders, question_type, GT, idx `<k>_pos` or `<k>_neg`.

    The four rows with the same k are a group.
    """
    for at, row in _rows(root, "winoground.json", ("image_name", "question", "question_type", "GT", "idx")):
        names = row["image_name"] if isinstance(row["image_name"], list) else [row["image_name"]]
        media = [part for name in names for part in _images(root, name, folders=("images", "."))]
        group = str(row["idx"]).rpartition("_")[0]
        yield _item(at, "word", row["question"], media, row["GT"], row["question_type"], group)


def sugarcrepe(root: Path) -> Iterator[Item]:
    """SugarCrepe++: image, question, answer, category, id, q_type; two positives and one negative are a group."""
    for at, row in _rows(root, "sugarcrepe_pp.json", ("image", "question", "answer", "id", "q_type")):
        media = _images(root, row["image"], folders=("../coco/val2017", "../coco/train2017", "images", "."))
        group = f"{row.get('category', '')} {row['id']}"
        yield _item(at, "word", row["question"], media, row["answer"], row.get("category", ""), group)


def aotbench(root: Path) -> Iterator[Item]:
    """AoTBench: `valid_data.json` with video_name, question, ans, question_type."""
    for at, row in _rows(root, "valid_data.json", ("video_name", "question", "ans")):
        media = _videos(root, row["video_name"])
        yield _item(at, "letter", row["question"], media, row["ans"], row.get("question_type", ""))


def favor(root: Path) -> Iterator[Item]:
    """FAVOR-Bench, closed questions: video_name, question, options, correct_answer (its text), task_type."""
    for at, row in _rows(root, "question_perspective.json", ("video_name", "question", "options", "correct_answer")):
        options = list(row["options"])
        if row["correct_answer"] not in options:
            raise JigsawError(f"{root}/question_perspective.json: row {at}: correct_answer is not one of the options")
        right = LETTERS[options.index(row["correct_answer"])]
        prompt = _choices(row["question"], options)
        yield _item(at, "letter", prompt, _videos(root, row["video_name"]), right, row.get("task_type", ""))


def tuna(root: Path) -> Iterator[Item]:
    """TUNA-Bench, multiple choice: `TUNA-MCQ.json` with video (stem), question, candidates, answer, task."""
    for at, row in _rows(root, "TUNA-MCQ.json", ("video", "question", "candidates", "answer")):
        options, answer = list(row["candidates"]), row["answer"]
        right = LETTERS[options.index(answer)] if answer in options else str(answer)
        media = _videos(root, f"{str(row['video']).removesuffix('.mp4')}.mp4")
        yield _item(at, "letter", _choices(row["question"], options), media, right, row.get("task", ""))


def all_angles(root: Path) -> Iterator[Item]:
    """All-Angles: `data.json` with image_path (list), question, A, B, C, answer, category."""
    for at, row in _rows(root, "data.json", ("image_path", "question", "A", "B", "C", "answer")):
        media = [part for name in row["image_path"] for part in _images(root, name, folders=(".", "images"))]
        prompt = _choices(row["question"], [row[letter] for letter in "ABC"])
        yield _item(at, "letter", prompt, media, row["answer"], row.get("category", ""))


def cross_video(root: Path) -> Iterator[Item]:
    """CVBench for several videos: videos, question, answer, category; each clip has a quarter of the frames.

    Items with the answer yes or no are scored as words, even if they have options.
    """
    for at, row in _rows(root, "cvbench.json", ("videos", "question", "answer")):
        media = [dict(part, share=4) for name in row["videos"] for part in _videos(root, name)]
        answer = str(row["answer"]).strip()
        kind = "word" if answer.lower() in ("yes", "no") else "letter"
        slots = "".join(f"Video {number}: <video>\n" for number in range(1, len(media) + 1))
        yield _item(
            at, kind, slots + row["question"], media, answer[0] if kind == "letter" else answer, row.get("category", "")
        )


def mmvp(root: Path) -> Iterator[Item]:
    """MMVP: `Questions.csv` with Index, Question, Options, Correct Answer like (a); two consecutive rows are a pair."""
    path = _file(root, "Questions.csv")
    rows = list(csv.DictReader(io.StringIO(read_text(path), newline="")))
    for at, row in enumerate(rows):
        for key in ("Index", "Question", "Options", "Correct Answer"):
            if not row.get(key):
                raise JigsawError(f"{path}: row {at} has no {key}")
        tail = "Answer with the option letter with parenthesis directly."
        media = _images(root, f"{row['Index']}.jpg", folders=("MMVP Images", "images", "."))
        yield _item(
            at, "letter", f"{row['Question']}\n{row['Options']}\n{tail}", media, row["Correct Answer"], "", str(at // 2)
        )


LOADERS: Mapping[str, tuple[str, Callable[[Path], Iterator[Item]]]] = {
    "jigsaw_lisa_grounding": ("lisa", lisa),
    "jigsaw_ovdeval": ("ovdeval", ovdeval),
    "jigsaw_vsr": ("vsr", vsr),
    "jigsaw_da2k": ("da-2k", da2k),
    "jigsaw_winoground": ("winoground", winoground),
    "jigsaw_sugarcrepe_pp": ("sugarcrepe-pp", sugarcrepe),
    "jigsaw_aotbench": ("aotbench", aotbench),
    "jigsaw_favor": ("favor", favor),
    "jigsaw_tuna": ("tuna", tuna),
    "jigsaw_all_angles": ("all-angles", all_angles),
    "jigsaw_cvbench": ("cvbench", cross_video),
    "jigsaw_mmvp": ("mmvp", mmvp),
}
"""lmms-eval id -> folder in the data root, and the loader."""


def load_items(name: str, data_root: Path) -> list[Item]:
    """The rows of a benchmark. Each media file must exist.

    Raises:
        JigsawError: the folder or a file is missing, a row does not match its schema, or media files are missing.
    """
    folder, loader = LOADERS[name]
    root = data_root / folder
    if not root.is_dir():
        raise JigsawError(f"{root} is missing")
    items = list(loader(root))
    if not items:
        raise JigsawError(f"{root} has no rows")
    paths = dict.fromkeys(part["path"] for item in items for part in item["media"])
    missing = [path for path in paths if not Path(path).is_file()]
    if missing:
        raise JigsawError(f"{root}: {len(missing)} of {len(paths)} media files are missing, the first is {missing[0]}")
    return items


def _item(
    at: int,
    kind: str,
    prompt: str,
    media: Sequence[Mapping[str, Any]],
    target: Any,
    category: str = "",
    group: str = "",
    **more: Any,
) -> Item:
    shared = {"id": at, "kind": kind, "prompt": prompt, "media": [dict(part) for part in media], "target": target}
    return shared | {"category": str(category), "group": group} | more


def _choices(question: str, options: Sequence[str]) -> str:
    """A question with lettered options and the instruction to answer with a letter."""
    lines = [
        option if re.match(rf"\(?{letter}[).:]", option) else f"{letter}. {option}"
        for letter, option in zip(LETTERS, options, strict=False)
    ]
    return "\n".join([question, *lines]) + DIRECT


def _rows(root: Path, name: str, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    path = _file(root, name)
    try:
        lines = path.suffix == ".jsonl"
        rows = [row for _, row in json_lines(path)] if lines else json_value(read_text(path), path)
    except (OSError, JigsawError) as error:
        raise JigsawError(f"{path} cannot be read ({first_line(error)}): download it again") from error
    rows = list(rows.values()) if isinstance(rows, dict) else rows
    for at, row in enumerate(rows):
        missing = [key for key in needed if not isinstance(row, dict) or key not in row]
        if missing:
            raise JigsawError(f"{path}: row {at} has no {missing[0]}")
        yield at, row


def _file(root: Path, name: str) -> Path:
    """A file of a benchmark. If it has another name, the only JSON file of the folder is used."""
    path = root / name
    if path.is_file():
        return path
    others = [other for other in root.glob("*.json*") if other.is_file()]
    if "/" not in name and len(others) == 1:
        return others[0]
    raise JigsawError(f"{path} is missing")


def _images(root: Path, name: str, folders: Sequence[str] = ("test", "images", ".")) -> list[dict[str, Any]]:
    return [{"type": "image", "path": _find(root, name, folders)}]


def _videos(root: Path, name: str) -> list[dict[str, Any]]:
    return [{"type": "video", "path": _find(root, name, ("videos", "."))}]


def _find(root: Path, name: str, folders: Sequence[str]) -> str:
    """The path of a media file in one of the folders; in the first folder if it does not exist."""
    places = [root / folder / _inside(root, name) for folder in folders]
    return str(next((place for place in places if place.is_file()), places[0]))


def _inside(root: Path, name: str) -> str:
    """A file name from a row, which is not trusted.

    Raises:
        JigsawError: the name leads out of the benchmark's folder.
    """
    try:
        below(root, name)
    except OSError as error:
        raise JigsawError(f"{root}: a row names {name!r}, which leads out of that folder: download it again") from error
    return name


TABLES = (".parquet", ".jsonl", ".json", ".csv", ".tsv", ".arrow")


def find_benchmarks(
    benchmarks: Sequence[Benchmark], root: Path, frames: Sequence[int]
) -> tuple[list[Job], dict[str, str]]:
    """The jobs of the benchmarks that can run, and the names of the others with the reason why they cannot.

    A job has one run for each maximum number of `frames` of a clip.

    Raises:
        JigsawError: the root is not a folder.
    """
    if not root.is_dir():
        raise JigsawError(
            f"--data-root: {root} is not a folder; download the benchmarks into one (see docs/evaluation.md)"
        )
    jobs, missing = [], {}
    with progress_bar("checking benchmarks", len(benchmarks)) as bar:
        for benchmark in benchmarks:
            try:
                jobs.append(_job(benchmark, root, frames))
            except JigsawError as error:
                missing[benchmark.name] = str(error)
            bar.advance()
    return jobs, missing


def _job(benchmark: Benchmark, root: Path, frames: Sequence[int]) -> Job:
    """The job of a benchmark: the rows of a built-in definition, or the folder of the data set."""
    own = benchmark.own
    rows = load_items(benchmark.task, root) if own else []
    folder = None if own else repo_folder(benchmark.repo, root)
    if benchmark.media and not any(path.is_file() for path in (root / benchmark.media).rglob("*")):
        raise JigsawError(f"{root / benchmark.media} has no videos; unpack those of {benchmark.repo} there")
    video = benchmark.media or any(part["type"] == "video" for row in rows[:1] for part in row["media"])
    return Job(
        benchmark=benchmark,
        key="".join(sign if sign.isalnum() else "-" for sign in benchmark.name.lower()).strip("-"),
        names=benchmark.tasks if own else [f"suite_{Path(task).stem}" for task in benchmark.tasks],
        folder=None if folder is None else str(folder.resolve()),
        rows=rows,
        frames=list(frames) if video else [None],
    )


def repo_folder(repo: str, root: Path) -> Path:
    """The folder of a complete data set of the hub in the root.

    Raises:
        JigsawError: the data set is missing, or its download is incomplete.
    """
    plain, cached = root / repo, root / "hub" / f"datasets--{repo.replace('/', '--')}"
    folder = plain if plain.is_dir() else _snapshot(cached)
    if folder is None:
        raise JigsawError(
            f"{plain} is missing; download it with: hf download --repo-type dataset {repo} --local-dir {plain}"
        )
    started = [*(cached / "blobs").glob("*.incomplete"), *(plain / ".cache").rglob("*.incomplete")]
    broken = [path for path in folder.rglob("*") if path.is_symlink() and not path.exists()]
    if started or broken:
        raise JigsawError(f"{folder} is incomplete ({(started or broken)[0].name}); run hf download again")
    if not any(path.suffix in TABLES and ".cache" not in path.parts for path in folder.rglob("*") if path.is_file()):
        raise JigsawError(f"{folder} has no tables; run hf download again")
    return folder


def _snapshot(cached: Path) -> Path | None:
    """The snapshot of a hub cache that `main` names, else the last one."""
    reference = cached / "refs" / "main"
    snapshots = sorted((cached / "snapshots").glob("*"))
    if reference.is_file():
        snapshots = [path for path in snapshots if path.name == reference.read_text().strip()] or snapshots
    return snapshots[-1] if snapshots else None
