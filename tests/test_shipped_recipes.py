"""The shipped recipes: the header states the requirements, the dry run works, and the tiny preset trains.

The tiny presets train in this process. One per task is part of the default suite; `make test-slow` trains all of them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from PIL import Image
from rich.console import Console

from jigsaw.config.loading import find_recipe, load_recipe, read_recipe, recipe_names
from jigsaw.errors import JigsawError
from jigsaw.launch.checks import dry_run
from jigsaw.run import run as run_recipe
from jigsaw.tasks import find_task, task_names
from jigsaw.topology import Topology

NAMES = [name for name in recipe_names() if "neo" not in name]
"""The recipes of NEO are tested in `tests/models/neo/test_runs.py`."""
GENERATED = [name for name in task_names() if not find_task(name).STORED]
"""Tasks that generate puzzles from sources."""
LARGE = [name for name in recipe_names() if load_recipe(name).model.path is not None]
ALWAYS = {"image-lora-qwen2.5-vl-7b", "video-sft-qwen2.5-vl-7b", "depth-qwen2.5-vl-7b"}
"""Recipes whose tiny presets run in the default suite: the three tasks, both stages, adapters."""


@pytest.fixture(scope="module")
def home(sample_media, tmp_path_factory) -> Path:
    """The working folder of all tiny presets, with the samples and the puzzle sets that the presets share."""
    folder = tmp_path_factory.mktemp("presets")
    shutil.copytree(sample_media, folder / "data" / "samples")
    return folder


@pytest.mark.parametrize("name", LARGE)
def test_the_header_of_a_gpu_recipe_states_its_requirements(name):
    head = [line for line in find_recipe(name).read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    for word in ("Hardware", "Hours", "Data", "Target"):
        assert any(f"{word}" in line for line in head), word
    assert any("computed, not measured" in line for line in head)


@pytest.mark.parametrize("name", NAMES)
def test_a_dry_run_shows_the_resolved_recipe_and_writes_nothing(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(name)
    shown = dry_run(recipe)
    assert f"name: {recipe.name}" in shown
    assert ("jigsaw.launch.worker" in shown) == Topology.here(recipe.distributed).launched
    assert ("# DeepSpeed:" in shown) == (recipe.distributed.zero > 0)
    assert "# Computed, not measured" in shown
    assert ("#   memory per GPU" in shown) == (recipe.model.path is not None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", LARGE)
def test_a_recipe_is_refused_in_one_line_on_a_machine_without_its_requirements(name, monkeypatch, tmp_path):
    """Given a machine without GPUs or engines, this is reported before data and model are opened."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("jigsaw.launch.machine.find_spec", lambda name: None)
    with pytest.raises(JigsawError, match=r"^distributed\.(zero|gpus): |^rollout\.engine: ") as refused:
        run_recipe(load_recipe(name), Console(quiet=True))
    assert "\n" not in str(refused.value)
    monkeypatch.setattr("jigsaw.launch.machine.find_spec", lambda name: name)
    with pytest.raises(JigsawError, match=r"^distributed\.gpus: \d are required and this machine has 0; run on"):
        run_recipe(load_recipe(name), Console(quiet=True))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_the_tiny_preset_of_a_recipe_trains(name, home, monkeypatch):
    monkeypatch.chdir(home)
    tiny, recipe = load_recipe(name, tiny=True), load_recipe(name)
    assert [entry.build.task for entry in tiny.data.train] == [entry.build.task for entry in recipe.data.train]
    assert (tiny.sft is None, tiny.grpo is None) == (recipe.sft is None, recipe.grpo is None)
    run = run_recipe(tiny, Console(quiet=True))
    assert (run / "DONE").exists()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    for stage in ("sft", "grpo"):
        if getattr(tiny, stage) is not None:
            assert [line["step"] for line in lines if line["stage"] == stage and "loss" in line] == [1, 2]


def recipe_of(task, folder):
    """Writes a recipe of a user with a released model, an own source and any task; returns its path."""
    file = folder / "mine.yaml"
    file.write_text(
        f"defaults: image-qwen2.5-vl-7b\nname: mine-{Path(task).stem}\nrewards: [{{use: answer}}]\nmetrics: [exact]\n"
        f"data: {{train: [{{build: {{task: '{task}', source: my/own}}}}], eval: []}}\n"
    )
    return str(file)


@pytest.mark.parametrize("task", GENERATED)
def test_the_tiny_preset_of_a_task_has_small_puzzles_of_the_samples(task, tmp_path):
    (entry,) = load_recipe(recipe_of(task, tmp_path), tiny=True).data.train
    assert entry.build.source == "samples"
    assert entry.build.config.items() >= find_task(task).SMALL.items()
    assert find_task(task).SMALL


def test_the_tiny_preset_of_a_third_party_task_has_small_puzzles_of_the_samples(tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from jigsaw.tasks.image import ImageTask\n"
        "class Mine(ImageTask):\n    name = 'mine'\n    SMALL = {'tile': 28, 'grid': '1x2'}\n"
    )
    (entry,) = load_recipe(recipe_of(f"{plugin}:Mine", tmp_path), tiny=True).data.train
    assert (entry.build.source, entry.build.config["grid"]) == ("samples", "1x2")


@pytest.mark.parametrize("name", NAMES)
def test_an_override_of_the_source_applies_to_the_same_sets_with_the_tiny_preset(name):
    """Given another folder, the sets that refer to it change, with the preset as without it."""

    def changed_sets(key, *, tiny):
        data = load_recipe(name, [f"{key}=elsewhere", "output=runs/x"], tiny=tiny).data
        sides = {"train": data.train, "eval": data.eval}
        builds = {f"{side}.{i}": entry.build for side, entries in sides.items() for i, entry in enumerate(entries)}
        return {place for place, build in builds.items() if build is not None and build.source == "elsewhere"}

    sources = [f"data.train.{i}.build.source" for i, one in enumerate(load_recipe(name).data.train) if one.build]
    refers = "${data.photos}" in OmegaConf.to_yaml(read_recipe(find_recipe(name)), resolve=False)
    for key in [*sources, *["data.photos"] * refers]:
        assert changed_sets(key, tiny=True) == changed_sets(key, tiny=False) != set()


def test_the_tiny_preset_holds_out_sources_of_a_small_folder(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(30):
        Image.effect_noise((64, 64), number + 1).save(folder / f"{number}.png")
    overrides = [f"data.train.0.build.source={folder}", f"output={tmp_path}/run"]
    assert "heldout=0.01 leaves none" in dry_run(load_recipe("image-qwen2.5-vl-7b", overrides))
    assert "this run can start here" in dry_run(load_recipe("image-qwen2.5-vl-7b", overrides, tiny=True))


def test_the_tiny_preset_of_an_unknown_task_is_refused(tmp_path):
    with pytest.raises(JigsawError, match=r"^data\.train\.0\.build: no task is called 'imagge'; did you mean image\?"):
        load_recipe(recipe_of("imagge", tmp_path), tiny=True)


@pytest.mark.slow
@pytest.mark.parametrize("task", GENERATED)
def test_the_tiny_preset_of_a_task_trains(task, home, tmp_path, monkeypatch):
    monkeypatch.chdir(home)
    run = run_recipe(load_recipe(recipe_of(task, tmp_path), tiny=True), Console(quiet=True))
    assert (run / "DONE").exists()
