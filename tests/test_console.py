"""The console output of a run: numbered steps, few lines in a log file, metrics beside chance, and the result."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from jigsaw import step_progress as module
from jigsaw.answering.answers import AnsweredPuzzle
from jigsaw.config.loading import load_recipe
from jigsaw.console import show_result, titles
from jigsaw.evaluation.figures import set_log
from jigsaw.evaluation.log import EvalLog, write_log
from jigsaw.rewards import Composition
from jigsaw.step_progress import StepProgress
from jigsaw.training.logs import MetricsLog, PeriodicEvaluation, StageCallback


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def log_file() -> Console:
    return Console(file=io.StringIO(), width=80)


def lines(console: Console) -> list[str]:
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).splitlines()


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((), ["1/5 Data", "2/5 Model", "3/5 Warm-up (supervised)", "4/5 GRPO", "5/5 Evaluation and report"]),
        (("grpo=null",), ["1/4 Data", "2/4 Model", "3/4 Supervised training", "4/4 Evaluation and report"]),
        (("sft=null", "data.eval=[]"), ["1/4 Data", "2/4 Model", "3/4 GRPO", "4/4 Report"]),
    ],
)
def test_the_steps_of_a_recipe_are_numbered(overrides, expected):
    assert list(titles(load_recipe("quickstart", list(overrides))).values()) == expected


def test_a_log_file_gets_a_line_at_the_start_and_one_per_minute(clock):
    console = log_file()
    progress = StepProgress(console, "4/5 GRPO")
    progress.start(1000, detail="8 parameters are trained")
    progress.figures(["reward 0.61 (guessing 0.08)", ""])
    for step in range(1, 401):
        clock.now += 0.5
        progress.update(step)
    progress.stop()
    first, *rest = lines(console)
    assert first == "4/5 GRPO  1,000 steps; 8 parameters are trained"
    assert len(rest) == 3  # after 200 s
    assert rest[1] == ("4/5 GRPO: step 240 of 1,000, 0.5 s/step, 6 min 20 s left; reward 0.61 (guessing 0.08)")


def test_the_time_left_of_a_resumed_stage_counts_only_the_steps_of_this_process(clock):
    progress = StepProgress(log_file(), "4/5 GRPO")
    progress.start(200, done=100)
    assert progress.pace() == ""
    clock.now += 20
    progress.update(110)
    assert progress.pace() == "2.0 s/step, 3 min 0 s left"


def test_a_terminal_gets_a_progress_bar_with_time_and_metrics_that_stays_when_finished():
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with StepProgress(console, "4/5 GRPO") as progress:
        progress.start(2)
        progress.figures(["reward 0.61 (guessing 0.08)", "held-out 52% solved at step 1 (96 of 1,344 puzzles)"])
        progress.update(1)
        progress.update(2)
    bar, figures, heldout = lines(console)[-3:]
    assert "━━━" in bar and "2/2" in bar and "s/step, took" in bar
    assert figures.strip() == "reward 0.61 (guessing 0.08)"
    assert heldout.strip() == "held-out 52% solved at step 1 (96 of 1,344 puzzles)"


def train(stage: str, logs: dict[str, float], folder: Any, **more: Any) -> list[str]:
    """Returns the lines of a log file after one logged step of more than a minute."""
    console = log_file()
    callback = StageCallback(stage, MetricsLog(folder / "metrics.jsonl"), StepProgress(console, stage), **more)
    state = SimpleNamespace(global_step=0, max_steps=10, is_world_process_zero=True)
    callback.on_train_begin(None, state, None)
    module.time.now += 61
    state.global_step = 1
    callback.on_log(None, state, None, logs=logs)
    callback.on_step_end(None, state, None)
    callback.on_train_end(None, state, None)
    return lines(console)


def test_grpo_shows_reward_and_solved_puzzles_beside_chance_and_no_loss(clock, tmp_path):
    shown = train(
        "grpo",
        {"loss": 0.0, "reward": 0.61, "exact": 0.47},
        tmp_path,
        metrics=("exact",),
        chance={"reward": 0.083, "exact": 1 / 24},
        evaluate=lambda step: PeriodicEvaluation({"exact": 0.12, "reward": 0.2}, {"exact": 1 / 24}, 96, 1344),
        every=5,
    )
    assert shown[-1] == (
        "grpo: step 1 of 10, 61 s/step, 9 min 9 s left; reward 0.61 (guessing 0.08), solved 47% (guessing 4%);"
        " held-out 12% solved at step 0 (96 of 1,344 puzzles)"
    )
    assert not any("loss" in line for line in shown)
    row = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    assert row.items() >= {"heldout/exact": 0.12, "heldout_puzzles": 96, "heldout_total": 1344}.items()
    assert row["heldout_chance/exact"] == pytest.approx(1 / 24)


def test_a_recipe_without_the_metric_exact_shows_place_accuracy(clock, tmp_path):
    logs = {"reward": 0.61, "place_accuracy": 0.7}
    shown = train("grpo", logs, tmp_path, metrics=("place_accuracy",), chance={"place_accuracy": 0.25})
    assert shown[-1].endswith("reward 0.61, pieces in place 70% (guessing 25%)")


def test_the_warm_up_shows_the_token_accuracy(clock, tmp_path):
    shown = train("sft", {"loss": 0.0, "mean_token_accuracy": 0.54}, tmp_path)
    assert shown[-1].endswith("answer tokens right 54%")
    assert not any("loss" in line for line in shown)


@pytest.mark.parametrize(("steps", "warned"), [(2, True), (400, False)])
def test_a_run_ends_with_its_result_in_a_sentence(tmp_path, steps, warned):
    puzzle = {"id": "a", "task": "image", "source": {"path": "a"}, "answer": [1, 2, 3, 4], "answer_style": "direct"}
    right, wrong = (AnsweredPuzzle(puzzle, [text]) for text in ("1, 2, 3, 4", "2, 1, 3, 4"))
    rows = [replace(right, puzzle=puzzle | {"id": f"{i}", "source": {"path": f"{i}"}}) for i in range(20)]
    before = [replace(one, completions=wrong.completions) for one in rows]
    composition = Composition(["exact"])
    sets = [set_log(name, rows, composition, warmup=before) for name in ("", "real photos")]
    write_log(EvalLog(argv=["jigsaw"], versions={}, settings={}, rewards=["exact"], sets=sets), tmp_path)
    console = Console(file=io.StringIO(), width=200)
    show_result(console, load_recipe("quickstart", [f"sft.max_steps={steps}", f"grpo.max_steps={steps}"]), tmp_path)
    shown = lines(console)
    assert shown[1] == "GRPO raised solved puzzles from 0% to 100%; guessing solves 4%."
    assert "On real photos: GRPO raised solved puzzles from 0% to 100%; guessing solves 4%." in shown
    assert shown[-1] == f"Report: {tmp_path / 'report.html'}"
    assert ("only 4 steps" in " ".join(shown)) == warned
