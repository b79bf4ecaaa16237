"""Runs on a mixture of six tasks and of questions, with orders, choices and numbers as answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from synthetic_media import photo_pixels

from jigsaw.config.loading import load_recipe
from jigsaw.data import build_puzzles, import_questions
from jigsaw.errors import JigsawError
from jigsaw.evaluation.log import read_log
from jigsaw.report.page import write_report
from jigsaw.run import run as run_recipe

pytestmark = pytest.mark.slow

TASKS = {
    "rotation": {"side": 56, "what": "tile", "grid": "2x2"},
    "patch_fit": {"side": 56, "hole": 0.5, "patches": 3},
    "relative_place": {"side": 56, "tile": 0.4, "directions": 4},
    "masked": {"side": 56, "grid": "2x2", "masked": 2},
    "odd_crop": {"side": 28, "crops": 3},
    "nearer": {"max_side": 84, "radius": 8, "min_distance": 20},
}
RECIPE = """
name: mixture
seed: 3
model: {path: CHECKPOINT}
data:
  train: [SETS, {path: FOLDER/questions, weight: 2.0}]
  eval: [SETS, {path: FOLDER/questions}]
sft: {max_steps: 2, prompts_per_step: 8, learning_rate: 1.0e-3, gradient_checkpointing: false, optim: adamw_torch,
      adam_epsilon: 1.0e-4}
grpo: {max_steps: 3, prompts_per_step: 8, num_generations: 3, max_completion_length: 4, learning_rate: 1.0e-3,
       per_device_train_batch_size: 3, gradient_checkpointing: false, optim: adamw_torch, adam_epsilon: 1.0e-4}
rewards: [{use: answer}, {use: "FOLDER/reward.py:by_text"}]
evaluation: {every: 2, puzzles: 8, batch_size: 4}
output: FOLDER/${name}
"""
REWARD = """
def by_text(completions, **columns):
    return [sum(map(ord, text[0]["content"])) % 7 / 7 for text in completions]
"""


@pytest.fixture(scope="module")
def folder(checkpoint, tmp_path_factory) -> Path:
    """A folder with a recipe, a puzzle set of each task and one of questions."""
    folder = tmp_path_factory.mktemp("mixture")
    (folder / "photos").mkdir()
    (folder / "scenes").mkdir()
    depth = (1 + np.arange(112) // 28).astype(np.float32)[None].repeat(84, axis=0)
    for number in range(3):
        Image.fromarray(photo_pixels(120, 100, seed=number)[:: (-1) ** number]).save(folder / f"photos/{number}.png")
        Image.fromarray(photo_pixels(112, 84, seed=number)).save(folder / f"scenes/{number}_color.png")
        np.save(folder / f"scenes/{number}_depth.npy", depth)
    for task, config in TASKS.items():
        source = folder / ("scenes" if task == "nearer" else "photos")
        options = {"config": {**config, "answer_style": "direct"}, "per_source": 2, "workers": 1, "progress": False}
        build_puzzles(task, source, folder / task, **options)
    rows = [{"question": f"What is {number} + 2?", "answer": number + 2} for number in range(4)]
    options = ["light", "dark"]
    rows += [
        {"question": "<image>Light?", "options": options, "answer": "A", "image": f"photos/{n}.png"} for n in (0, 1)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    import_questions(folder / "rows.jsonl", folder / "questions", answer_style="direct", progress=False)
    (folder / "reward.py").write_text(REWARD, encoding="utf-8")
    sets = ", ".join(f"{{path: {folder}/{task}}}" for task in TASKS)
    text = RECIPE.replace("CHECKPOINT", checkpoint).replace("SETS", sets).replace("FOLDER", str(folder))
    (folder / "mixture.yaml").write_text(text, encoding="utf-8")
    return folder


def run(folder: Path, name: str, *overrides: str) -> Path:
    recipe = load_recipe(str(folder / "mixture.yaml"), [f"name={name}", *overrides])
    return run_recipe(recipe, Console(quiet=True))


def lines(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def single_process(folder) -> Path:
    return run(folder, "single")


def test_a_run_logs_the_metrics_of_each_task_and_kind_of_answer(single_process):
    steps = [line for line in lines(single_process) if line["stage"] == "grpo" and "reward" in line]
    assert [line["step"] for line in steps] == [1, 2, 3]
    logged = {name.rpartition("/")[0] for line in steps for name in line if name.startswith("task/")}
    assert len(logged) > 3 and logged <= {
        *("task/rotation/choice", "task/patch_fit/choice", "task/relative_place/choice", "task/masked/order"),
        *("task/odd_crop/choice", "task/nearer/choice", "task/questions/number", "task/questions/choice"),
    }
    for line in steps:
        for name in logged:
            if f"{name}/reward" in line:
                assert 0 <= line[f"{name}/exact"] <= 1 and 0 <= line[f"{name}/zero_variance"] <= 1
                assert (f"{name}/chance" in line) == (name != "task/questions/number")


def test_the_evaluation_and_the_report_have_a_line_for_each_task_and_kind_of_answer(single_process, tmp_path):
    groups = {str(group) for group in read_log(single_process).main.model.groups if group.difficulty is None}
    assert groups >= {"rotation, choice of 4", "masked, 2 pieces", "questions, number", "questions, choice of 2"}
    write_report([single_process], tmp_path / "page.html")
    assert "questions, choice of 2" in (tmp_path / "page.html").read_text()


def test_a_reward_that_scores_only_orders_is_refused_before_anything_is_trained(folder):
    with pytest.raises(JigsawError, match=r"data\.train\.0: reward visual_jigsaw scores orders only, but the answer"):
        run(folder, "refused", "rewards=[{use: visual_jigsaw}]")
    assert not (folder / "refused" / "metrics.jsonl").exists()


def test_two_processes_train_the_same_weights_as_one(folder, single_process):
    spread = lines(run(folder, "spread", "distributed.cpu_processes=2"))
    names = ("loss", "reward", "heldout/exact")
    figures = [
        [line[name] for line in log for name in names if name in line] for log in (lines(single_process), spread)
    ]
    assert figures[1] == pytest.approx(figures[0], abs=1e-5)


def test_a_run_on_the_mixture_with_vllm_in_colocate_mode(folder):
    pytest.importorskip("vllm")
    rollout = "rollout={engine: vllm, max_model_len: 2048, max_logp_difference: 1.0e-5}"
    steps = [line for line in lines(run(folder, "vllm", rollout)) if "reward" in line and line["stage"] == "grpo"]
    assert [line["step"] for line in steps] == [1, 2, 3]
    assert max(line["logp_difference"] for line in steps) < 1e-5
