"""Run folders made up for tests: real puzzles, real scores, answers that are known to be right or wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import yaml

from jigsaw.answering.answers import Answered
from jigsaw.data import load_puzzles
from jigsaw.evaluation.figures import score, set_log
from jigsaw.evaluation.log import EvalLog, Sample, versions, write_log
from jigsaw.report.page import write_report
from jigsaw.rewards import Composition, format_order

COMPOSITION = Composition([{"use": "visual_jigsaw"}])


def answered(folder: Path, completions: list[Any]) -> list[Answered]:
    """Completions of the puzzles in turn; a callable makes one from the right order."""
    found = []
    for number, row in enumerate(load_puzzles(folder).with_format(None)):
        made = completions[number % len(completions)]
        puzzle = {key: value for key, value in row.items() if key not in ("prompt", "images", "videos")}
        found.append(Answered(puzzle, [made(list(row["answer"])) if callable(made) else made]))
    return found


def samples(folder: Path, completions: list[Any]) -> list[Sample]:
    """The same, scored."""
    return score(answered(folder, completions), COMPOSITION)


def right(answer: list[int]) -> str:
    return format_order(answer, thinking="sky on top")


def swapped(answer: list[int]) -> str:
    return format_order([answer[1], answer[0], *answer[2:]])


def turned(answer: list[int]) -> str:
    return format_order([*answer[1:], answer[0]])


DUPLICATE = "<think></think><answer>1, 1, 2, 3, 4, 5</answer>"


def make_run(folder: Path, puzzles: Path, *, name: str = "small", completions: list[Any] | None = None) -> Path:
    """A run folder as `jigsaw launch` leaves it."""
    folder.mkdir(parents=True)
    after = answered(puzzles, completions or [right, right, swapped, turned, DUPLICATE])
    before = answered(puzzles, [swapped, turned])
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
