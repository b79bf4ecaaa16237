"""Run folders for the tests of reports: real puzzles and scores, and completions that are right or wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from jigsaw.answering.answers import AnsweredPuzzle
from jigsaw.data import build_puzzles, load_puzzles
from jigsaw.evaluation.figures import set_log
from jigsaw.evaluation.log import EvalLog, Sample, write_log
from jigsaw.evaluation.scoring import score
from jigsaw.report.page import write_report
from jigsaw.results.log_file import versions
from jigsaw.rewards import Composition, format_order

COMPOSITION = Composition([{"use": "visual_jigsaw"}])


def answered(folder: Path, completions: list[Any]) -> list[AnsweredPuzzle]:
    """Answered puzzles of a set; a callable in `completions` gets the right order and returns the text."""
    answers = []
    for number, row in enumerate(load_puzzles(folder).with_format(None)):
        completion = completions[number % len(completions)]
        puzzle = {key: value for key, value in row.items() if key not in ("prompt", "images", "videos")}
        text = completion(list(row["answer"])) if callable(completion) else completion
        answers.append(AnsweredPuzzle(puzzle, [text]))
    return answers


def samples(folder: Path, completions: list[Any]) -> list[Sample]:
    """Scored samples of the answered puzzles of a set."""
    return score(answered(folder, completions), COMPOSITION)


def right(answer: list[int]) -> str:
    return format_order(answer, thinking="sky on top")


def swapped(answer: list[int]) -> str:
    return format_order([answer[1], answer[0], *answer[2:]])


def rotated(answer: list[int]) -> str:
    return format_order([*answer[1:], answer[0]])


DUPLICATE = "<think></think><answer>1, 1, 2, 3, 4, 5</answer>"


def make_run(folder: Path, puzzles: Path, *, name: str = "small", completions: list[Any] | None = None) -> Path:
    """Writes the folder of a finished run, as `jigsaw launch` writes it."""
    folder.mkdir(parents=True)
    after = answered(puzzles, completions or [right, right, swapped, rotated, DUPLICATE])
    before = answered(puzzles, [swapped, rotated])
    log = EvalLog(
        argv=["jigsaw", "launch", f"{name}.yaml"],
        versions=versions(),
        settings={"data": [str(puzzles)]},
        rewards=["visual_jigsaw"],
        sets=[set_log("", after, COMPOSITION, warmup=before)],
    )
    recipe = {
        "name": name,
        "description": "a trial",
        "model": {"tiny": "qwen2_5_vl", "path": None, "dtype": "float32"},
        "data": {"train": [{"path": "data/train"}], "eval": [{"path": str(puzzles)}]},
        "rewards": [{"use": "visual_jigsaw"}],
        "metrics": ["exact", "place_accuracy", "valid", "format"],
        "sft": {"max_steps": 30},
        "grpo": {"max_steps": 40, "prompts_per_step": 4, "num_generations": 8},
        "output": str(folder),
    }
    lines = [{"stage": "sft", "step": step, "loss": 3 / step, "seconds": step} for step in range(1, 31)]
    for step in range(41):
        if step % 20 == 0:
            lines.append(
                {"stage": "grpo", "step": step, "heldout/place_accuracy": 0.3, "heldout/exact": 0.1, "seconds": 30}
            )
        lines.append(
            {
                "stage": "grpo",
                "step": step,
                "reward": 0.3 + 0.1 * math.sin(step),
                "reward/visual_jigsaw": 0.3 + 0.1 * math.sin(step),
                "place_accuracy": 0.4,
                "entropy": None if step == 3 else 1.0 - step / 100,
                "equal_reward_groups": 0.2,
                "seconds": 30 + step,
            }
        )
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "data.json").write_text(json.dumps({"train": [], "eval": [str(puzzles)]}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_log(log, folder)
    return folder


def page_of(*runs: Path) -> str:
    out = runs[0].parent / "page.html"
    write_report(runs, out)
    assert [entry.name for entry in out.parent.iterdir() if "partial" in entry.name] == []
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def puzzle_set(tmp_path_factory) -> Path:
    """A set of eight puzzles of 2x3 tiles from four photos with smooth gradients, so that all tiles differ."""
    root = tmp_path_factory.mktemp("report")
    photos = root / "photos"
    photos.mkdir()
    down, across = np.mgrid[0:120, 0:180] / 180
    for number in range(4):
        waves = np.sin(8 * across + number) + np.cos(5 * down * (number + 1))
        pixels = np.stack([255 * across, 255 * down, 60 + 30 * waves], axis=-1)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(photos / f"photo-{number}.png")
    build_puzzles("image", photos, root / "set", config={"grid": "2x3", "tile": 40}, per_source=2, progress=False)
    return root / "set"


@pytest.fixture
def run(tmp_path, puzzle_set) -> Path:
    return make_run(tmp_path / "runs" / "small", puzzle_set)
