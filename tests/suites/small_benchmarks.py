"""Small benchmarks in the schemas of their authors: one to four rows each, with synthetic pictures and clips."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image


def picture(path: Path, size: tuple[int, int] = (84, 56)) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path.name


def clip(path: Path, frames: int = 8) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            pixels = np.full((48, 64, 3), number * 20, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path.name


def write_rows(path: Path, content: Sequence[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row) for row in content]
    path.write_text("\n".join(lines) if path.suffix == ".jsonl" else f"[{','.join(lines)}]", encoding="utf-8")


def own_benchmarks(root: Path) -> None:
    """Writes the benchmarks that jigsaw defines itself."""
    name = picture(root / "lisa" / "test" / "a.png")
    write_rows(
        root / "lisa" / "lisa_test.json",
        [{"image": name, "problem": "Where is the cat?", "solution": [10, 10, 50, 40]}] * 2,
    )
    name = picture(root / "ovdeval" / "images" / "b.png")
    info = {"file_name": name, "id": 1, "width": 84, "height": 56}
    kind = {"id": 3, "name": "red car"}
    write_rows(
        root / "ovdeval" / "all_data.json",
        [{"task": task, "image_info": info, "category_info": kind} for task in ("color", "logo")],
    )
    truth = {
        "images": [{**info, "text": ["red car"], "neg_text": []}],
        "categories": [kind],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "bbox": [10, 10, 40, 30], "area": 1200, "iscrowd": 0}
        ],
    }
    for task in ("color", "logo"):
        path = root / "ovdeval" / "annotations" / f"{task}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(truth))
    name = picture(root / "coco" / "val2017" / "000000000001.jpg")
    captions = [("A cat is under a table.", 1), ("A table is under a cat.", 0)]
    write_rows(
        root / "vsr" / "test.jsonl",
        [{"image": name, "caption": caption, "label": label, "relation": "under"} for caption, label in captions],
    )
    write_rows(
        root / "sugarcrepe-pp" / "sugarcrepe_pp.json",
        [
            {
                "image": name,
                "question": f"<image>\nDoes '{caption}' fit the picture? Answer Yes or No.",
                "answer": answer,
                "category": "replace_obj",
                "id": 0,
                "q_type": part,
            }
            for caption, answer, part in [
                ("A cat", "Yes", "positive_1"),
                ("A kitten", "Yes", "positive_2"),
                ("A dog", "No", "negative"),
            ]
        ],
    )
    name = picture(root / "da-2k" / "images" / "c.png")
    write_rows(
        root / "da-2k" / "da_2k.json",
        [
            {
                "image": f"images/{name}",
                "points": [[10, 20], [40, 60]],
                "question": "Which point is nearer? A. green B. red",
                "answer": "A",
            }
        ],
    )
    pictures = [picture(root / "winoground" / "images" / f"ex_0_img_{number}.png") for number in (0, 1)]
    questions = [
        ("0_pos", "text", "Yes"),
        ("0_neg", "text", "No"),
        ("0_pos", "image", "first"),
        ("0_neg", "image", "second"),
    ]
    write_rows(
        root / "winoground" / "winoground.json",
        [
            {
                "image_name": pictures if kind == "image" else pictures[:1],
                "question": "First <image> second <image>: which?"
                if kind == "image"
                else "<image> A man sits. Yes or No?",
                "question_type": kind,
                "GT": answer,
                "idx": idx,
            }
            for idx, kind, answer in questions
        ],
    )
    pictures = [picture(root / "all-angles" / "scene" / f"view_{number}.png") for number in (0, 1)]
    write_rows(
        root / "all-angles" / "data.json",
        [
            {
                "image_path": [f"scene/{name}" for name in pictures],
                "question": "How many people are there?",
                "A": "1",
                "B": "2",
                "C": "3",
                "answer": "B",
                "category": "counting",
            }
        ],
    )
    picture(root / "mmvp" / "MMVP Images" / "1.jpg")
    picture(root / "mmvp" / "MMVP Images" / "2.jpg")
    with (root / "mmvp" / "Questions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Index", "Question", "Options", "Correct Answer"])
        writer.writerow([1, "Is the bird in flight?", "(a) Yes (b) No", "(a)"])
        writer.writerow([2, "Is the bird in flight?", "(a) Yes (b) No", "(b)"])
    clip(root / "aotbench" / "videos" / "x.mp4")
    write_rows(
        root / "aotbench" / "valid_data.json",
        [{"video_name": "x.mp4", "question": "Forward? A. yes B. no", "ans": "B", "question_type": "direction"}],
    )
    clip(root / "favor" / "videos" / "y.mp4")
    write_rows(
        root / "favor" / "question_perspective.json",
        [
            {
                "video_name": "y.mp4",
                "question": "What moves?",
                "options": ["the car", "the dog"],
                "correct_answer": "the dog",
                "task_type": "AS",
            }
        ],
    )
    clip(root / "tuna" / "videos" / "z.mp4")
    write_rows(
        root / "tuna" / "TUNA-MCQ.json",
        [
            {
                "video": "z",
                "question": "What happens?",
                "candidates": ["A. it rains", "B. it snows"],
                "answer": "A",
                "task": "action",
            }
        ],
    )
    clip(root / "cvbench" / "1.mp4")
    clip(root / "cvbench" / "2.mp4")
    write_rows(
        root / "cvbench" / "cvbench.json",
        [
            {
                "videos": ["1.mp4", "2.mp4"],
                "question": "Same person? Yes or No",
                "answer": "Yes",
                "category": "identity",
            },
            {"videos": ["1.mp4", "2.mp4"], "question": "Which is first? A. 1 B. 2", "answer": "B", "category": "order"},
        ],
    )


def hub_benchmarks(root: Path) -> None:
    """Writes MMStar and POPE in the format of lmms-eval's data sets on the hub."""
    import datasets

    image = Image.fromarray(np.full((56, 56, 3), 90, np.uint8))
    star = [
        {
            "index": number,
            "question": "What is it?\nOptions: A: cat, B: dog, C: cow, D: owl",
            "image": image,
            "answer": "A",
            "category": "fine-grained perception",
            "l2_category": "recognition",
            "meta_info": {"source": "made", "split": "val", "image_path": "x"},
        }
        for number in range(2)
    ]
    pope = [
        {
            "id": str(number),
            "question_id": str(number),
            "question": "Is there a cat in the image?",
            "answer": ("yes", "no")[number],
            "image_source": "made",
            "image": image,
            "category": "random",
        }
        for number in range(2)
    ]
    for repo, split, content in (("Lin-Chen/MMStar", "val", star), ("lmms-lab-encoder/POPE", "test", pope)):
        folder = root / repo / "data"
        folder.mkdir(parents=True)
        datasets.Dataset.from_list(content).cast_column("image", datasets.Image()).to_parquet(
            folder / f"{split}-00000-of-00001.parquet"
        )
