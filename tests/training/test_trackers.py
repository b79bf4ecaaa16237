"""Trackers: metrics and completions are logged to the trackers that a recipe names."""

from __future__ import annotations

import pytest
from accelerate import PartialState

from jigsaw.config.schema import Recipe
from jigsaw.training.trackers import Trackers

ROWS = [{"id": "a", "completion": "2, 1\n", "total": 0.5}, {"id": "b", "completion": "1, 2", "total": None}]


def recipe(*trackers: str) -> Recipe:
    sections = {
        "name": "followed",
        "model": {"path": "unused"},
        "data": {"train": [{"path": "unused"}]},
        "grpo": {},
        "logging": {"report_to": trackers, "project": "puzzles"},
        "output": "unused",
    }
    return Recipe.model_validate(sections)


def log_to(tracker: str, folder) -> None:
    PartialState()  # a trainer creates it before its trackers start
    trackers = Trackers(recipe(tracker), folder, "grpo")
    trackers.log({"reward": 0.25, "loss": None}, 1)
    trackers.log({"reward": 0.75}, 2)
    trackers.table("completions", ROWS, 2)
    trackers.finish()


def test_tensorboard_gets_metrics_by_stage_and_step_and_completions(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log_to("tensorboard", tmp_path)
    written = EventAccumulator(str(tmp_path / "tensorboard" / "grpo"))
    written.Reload()
    assert [(event.step, event.value) for event in written.Scalars("grpo/reward")] == [(1, 0.25), (2, 0.75)]
    assert "grpo/loss" not in written.Tags()["scalars"]
    (table,) = written.Tensors("grpo/completions/text_summary")
    assert b"a|2, 1 |0.5" in table.tensor_proto.string_val[0]


@pytest.mark.slow
def test_wandb_gets_metrics_and_completions_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    log_to("wandb", tmp_path)
    assert wandb.run is None
    assert list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    assert list(tmp_path.glob("wandb/offline-run-*/files/media/table/grpo/completions_*.table.json"))
