"""The experiment on reused pre-Buffers with tiny models: its three runs and the weights that they share."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from jigsaw.models.neo.groups import groups_of


@pytest.mark.slow
def test_the_pre_buffer_of_the_donor_is_copied_and_the_three_runs_are_compared(photos, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "experiments"))
    import pre_buffer

    build = f"{{task: image, source: {photos}, grid: 1x2, tile: 32, answer_style: direct, per_source: 4}}"
    data = f"data={{train: [{{build: {build}}}], eval: [{{build: {build}}}]}}"
    small = [data, "sft.per_device_train_batch_size=4", "evaluation.puzzles=4"]
    pre_buffer.main([str(tmp_path / "out"), "--steps", "2", "--pre-buffer", "1", *small])
    rows = json.loads((tmp_path / "out" / "pre-buffer.json").read_text())
    assert [row["run"] for row in rows] == ["donor", "new", "reused"]
    assert all(row["loss, last"] > 0 for row in rows)
    donor, reused, new = (
        load_file(tmp_path / "out" / place / "model.safetensors")
        for place in ("donor/model", "models/reused", "models/new")
    )
    for name, weight in reused.items():
        copied = groups_of(name, 1) != {"post-llm"}
        assert bool((weight == donor[name]).all()) is copied, name
        if name.endswith("proj.weight") and not copied:
            assert (weight == new[name]).all(), name
    assert "pre_buffer" in sys.modules
