"""Complete small runs: their files and metrics, reproducibility, and resuming."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from jigsaw.answering import generation
from jigsaw.cli import command as cli
from jigsaw.config.loading import Recipe, load_recipe
from jigsaw.data import load_puzzles
from jigsaw.data.building.listing import source_digest
from jigsaw.errors import JigsawError
from jigsaw.evaluation.log import read_log
from jigsaw.run import run as run_recipe
from jigsaw.run_folder import RunFolder

SMALL = """
name: small
seed: 3
model: {tiny: qwen2_5_vl, sizes: {hidden_size: 64, num_layers: 1, vision_hidden_size: 64, initializer_range: 0.1}}
data:
  photos: samples
  folder: FOLDER/data
  train: [{build: {task: image, source: "${data.photos}", split: train, heldout: 0.5, grid: 2x2, crop: random, tile: 28,
                   answer_style: direct, per_source: 8, materialize: true}}]
  eval: [{build: {task: image, source: "${data.photos}", split: heldout, heldout: 0.5, grid: 2x2, crop: random,
                  tile: 28, answer_style: direct, per_source: 3}}]
rewards: [{use: visual_jigsaw}, {use: length, weight: 0.1, args: {minimum: 2, maximum: 4}}]
sft: {max_steps: 3, per_device_train_batch_size: 8, learning_rate: 1.0e-3, gradient_checkpointing: false}
grpo: {max_steps: 2, prompts_per_step: 2, num_generations: 3, max_completion_length: 6, gradient_checkpointing: false}
evaluation: {every: 1, puzzles: 2, batch_size: 8}
output: FOLDER/runs/${name}
"""


def small_recipe(folder: Path, photos: Path, *overrides: str) -> Recipe:
    file = folder / "small.yaml"
    file.write_text(SMALL.replace("FOLDER", str(folder)), encoding="utf-8")
    return load_recipe(str(file), [f"data.photos={photos}", *overrides])


def quiet() -> Console:
    return Console(quiet=True)


def metrics(run: Path) -> list[dict[str, object]]:
    """Returns the lines of the log without the times."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def test_a_run_writes_checkpoints_metrics_and_a_report_and_is_reproducible(photos, tmp_path, monkeypatch):
    models = []
    monkeypatch.setattr(generation, "on_device", lambda model: models.append(model) or model)
    first = run_recipe(small_recipe(tmp_path, photos), quiet())
    assert len(models) == 2  # the final evaluation uses the GPU, if there is one
    assert {entry.name for entry in first.iterdir() if not entry.name.startswith(".")} == {
        "DONE",
        "completions.jsonl",
        "data.json",
        "evaluation.json",
        "metrics.jsonl",
        "model",
        "predictions",
        "recipe.yaml",
        "report.html",
        "run.json",
        "start",
        "warmup",
    }
    assert not (RunFolder(first).answers).exists(), "a finished run has only its predictions"
    heldout = load_puzzles(json.loads((first / "data.json").read_text())["eval"][0])
    main = read_log(first).main
    for evaluation in (main.model, main.warmup):
        assert evaluation.num_puzzles == len(heldout)
        estimates = evaluation.estimates
        for figure in ("exact", "place_accuracy", "valid", "reward"):
            assert estimates[figure].low <= estimates[figure].value <= estimates[figure].high
        assert estimates["exact"].chance == pytest.approx(1 / 24)
        assert estimates["place_accuracy"].chance == pytest.approx(1 / 4)
        assert estimates["valid"].chance is None
    assert set(main.compared.changes) == {"exact", "place_accuracy", "reward"}
    assert {line["stage"] for line in metrics(first)} == {"sft", "grpo"}
    assert any("heldout/place_accuracy" in line for line in metrics(first))
    kept = [json.loads(line) for line in (first / "completions.jsonl").read_text().splitlines()]
    assert all(0 <= row["total"] <= 1.1 for row in kept) and any(row["total"] > 0 for row in kept)

    overrides = [f"output={tmp_path}/again", f"data.folder={tmp_path}/other"]
    again = run_recipe(small_recipe(tmp_path, photos, *overrides), quiet())
    assert metrics(again) == metrics(first)
    assert read_log(again).sets == read_log(first).sets
    assert (again / "predictions/model.jsonl").read_bytes() == (first / "predictions/model.jsonl").read_bytes()

    # Plain transformers opens the checkpoint and generates the same completion.
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(first / "model")
    model = AutoModelForImageTextToText.from_pretrained(first / "model")
    row = heldout[0]
    images = iter(row["images"])
    messages = [
        {**turn, "content": [{**part, "image": next(images)} if part["type"] == "image" else part for part in parts]}
        for turn in row["prompt"]
        for parts in [turn["content"]]
    ]
    inputs = processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    output = model.generate(**inputs, max_new_tokens=6, do_sample=False)
    line = json.loads((first / "predictions/model.jsonl").read_text().splitlines()[0])
    text = processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert text == line["completion"]

    # A finished run is not overwritten; an unfinished one is resumed at the stage that is not complete.
    with pytest.raises(JigsawError, match="finished run"):
        run_recipe(small_recipe(tmp_path, photos), quiet())
    (again / "DONE").unlink()
    (again / "report.html").unlink()
    (again / "evaluation.json").unlink()
    for file in (again / "model").iterdir():
        file.unlink()
    (again / "model").rmdir()
    stamp = (again / "warmup/model.safetensors").stat().st_mtime_ns
    with pytest.raises(JigsawError, match="--resume"):
        run_recipe(small_recipe(tmp_path, photos, *overrides), quiet())
    run_recipe(small_recipe(tmp_path, photos, *overrides), quiet(), resume=True)
    assert (again / "warmup/model.safetensors").stat().st_mtime_ns == stamp
    assert metrics(again) == metrics(first)
    assert read_log(again).sets == read_log(first).sets


def test_an_output_folder_with_other_files_is_refused_and_not_changed(photos, tmp_path):
    folder = tmp_path / "runs/small"
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("precious", encoding="utf-8")
    with pytest.raises(JigsawError, match="is not a run folder"):
        run_recipe(small_recipe(tmp_path, photos), quiet())
    assert [entry.name for entry in folder.iterdir()] == ["thesis.tex"]
    assert not (tmp_path / "data").exists()


def test_an_unknown_key_of_a_stage_is_reported_before_anything_is_built(photos, tmp_path):
    with pytest.raises(JigsawError, match=r"grpo\.num_generation.*did you mean num_generations"):
        run_recipe(small_recipe(tmp_path, photos, "grpo.num_generation=3"), quiet())
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / "runs").exists()


def test_too_few_puzzles_for_a_step_are_reported_before_the_warm_up(photos, tmp_path):
    recipe = small_recipe(tmp_path, photos, "grpo.prompts_per_step=2000")
    with pytest.raises(JigsawError, match=r"grpo\.prompts_per_step: a step needs 2000 puzzles and the training set"):
        run_recipe(recipe, quiet())
    assert not (Path(recipe.output) / "start").exists()


def test_launch_with_json_prints_only_its_result_to_stdout(photos, tmp_path, monkeypatch, capsys):
    small_recipe(tmp_path, photos)
    command = ["jigsaw", "launch", str(tmp_path / "small.yaml"), f"data.photos={photos}", "sft=null", "--json"]
    monkeypatch.setattr("sys.argv", command)
    monkeypatch.setattr(cli, "_quiet_libraries", lambda debug: None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    assert ended.value.code == 0
    answer, run = json.loads(printed.out), tmp_path / "runs" / "small"
    assert answer.pop("run") == str(run)
    assert answer.pop("report") == str(run / "report.html")
    assert answer == json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    assert "GRPO" in printed.err


def test_the_digest_of_a_source_that_is_a_file_depends_on_its_size(tmp_path):
    file = tmp_path / "shards.tar"
    file.write_bytes(b"one")
    before = source_digest(file, "image")
    file.write_bytes(b"three")
    assert source_digest(file, "image") != before


def test_an_optional_package_that_breaks_the_import_of_trl_is_named_in_one_line(photos, tmp_path, monkeypatch):
    class Broken:
        def __getattr__(self, name):
            cause = ModuleNotFoundError("No module named 'gradio_client.serializing'")
            raise RuntimeError("Failed to import trl.trainer.grpo_trainer") from cause

    monkeypatch.setitem(sys.modules, "trl", Broken())
    with pytest.raises(JigsawError) as refused:
        run_recipe(small_recipe(tmp_path, photos), quiet())
    assert str(refused.value) == (
        "TRL cannot be imported: No module named 'gradio_client.serializing'; "
        "reinstall or remove the package that is named"
    )
