"""Run folders made up for tests: real puzzles, real scores, answers that are known to be right or wrong."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from jigsaw.data import load_puzzles
from jigsaw.evaluation.breakdown import figures_of
from jigsaw.evaluation.summary import Scored, gain, score
from jigsaw.report.page import write_report
from jigsaw.rewards import Composition, format_order


def answers(folder: Path, completions: list[Any]) -> list[Scored]:
    """Scored completions of the puzzles in turn; a callable makes one from the right order."""
    rows = [dict(row) for row in load_puzzles(folder).with_format(None)]
    for number, row in enumerate(rows):
        made = completions[number % len(completions)]
        row["completion"] = made(list(row["answer"])) if callable(made) else made
    return score(rows, Composition([{"use": "visual_jigsaw"}]))


def right(answer: list[int]) -> str:
    return format_order(answer, thinking="sky on top")


def swapped(answer: list[int]) -> str:
    return format_order([answer[1], answer[0], *answer[2:]])


def turned(answer: list[int]) -> str:
    return format_order([*answer[1:], answer[0]])


DUPLICATE = "<think></think><answer>1, 1, 2, 3, 4, 5</answer>"


def make_run(folder: Path, puzzles: Path, *, name: str = "small", completions: list[Any] | None = None) -> Path:
    """A run folder as `jigsaw launch` leaves it."""
    (folder / "predictions").mkdir(parents=True)
    after = answers(puzzles, completions or [right, right, swapped, turned, DUPLICATE])
    before = answers(puzzles, [swapped, turned])
    rows = [dict(row, completion="") for row in load_puzzles(puzzles).with_format(None)]
    composition = Composition([{"use": "visual_jigsaw"}])
    figures = {
        "heldout": figures_of(rows, after, composition),
        "warmup": figures_of(rows, before, composition),
        "gain": gain(before, after),
    }
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
    (folder / "evaluation.json").write_text(json.dumps(figures))
    for stage, items in (("model", after), ("warmup", before)):
        text = "".join(json.dumps(asdict(item)) + "\n" for item in items)
        (folder / "predictions" / f"{stage}.jsonl").write_text(text)
    return folder


def page_of(*runs: Path) -> str:
    out = runs[0].parent / "page.html"
    write_report(runs, out)
    assert [entry.name for entry in out.parent.iterdir() if "partial" in entry.name] == []
    return out.read_text(encoding="utf-8")
