"""The puzzle sets of a run: recorded when it begins, and the same when it is resumed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from jigsaw.config.loading import load_recipe
from jigsaw.config.schema import Recipe
from jigsaw.data import build_puzzles
from jigsaw.errors import JigsawError
from jigsaw.launch.provenance import record_start
from jigsaw.launch.puzzle_sets import prepare_sets
from jigsaw.run_folder import RunFolder

RECIPE = """
name: sets
seed: 3
model: {path: somewhere}
data:
  folder: FOLDER/data
  train: [{path: FOLDER/puzzles}, {conversations: FOLDER/said.jsonl, stage: sft}]
  eval: [{build: {task: image, source: FOLDER/photos, grid: 2x2, tile: 28, per_source: 2, seed: 5, materialize: true}}]
sft: {max_steps: 1}
output: FOLDER/run
"""

SAID = '{"messages": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "ANSWER"}]}\n'


@pytest.fixture
def work(tmp_path, photos, puzzle_folder) -> Path:
    shutil.copytree(photos, tmp_path / "photos")
    shutil.copytree(puzzle_folder, tmp_path / "puzzles")
    (tmp_path / "said.jsonl").write_text(SAID, encoding="utf-8")
    (tmp_path / "sets.yaml").write_text(RECIPE.replace("FOLDER", str(tmp_path)), encoding="utf-8")
    (tmp_path / "run").mkdir()
    return tmp_path


@pytest.fixture
def recipe(work) -> Recipe:
    return load_recipe(str(work / "sets.yaml"))


def test_a_source_that_changed_does_not_change_what_a_resumed_run_holds_out(work, recipe):
    """Given one photo less, then a resumed run has the puzzles that it began with, and a new one others."""
    lines: list[str] = []
    _, before = prepare_sets(recipe, RunFolder(work / "run"), lines.append)
    photo = next((work / "photos").iterdir())
    photo.rename(work / "photo-elsewhere.png")
    _, after = prepare_sets(recipe, RunFolder(work / "run"), lines.append)
    assert after.ids == before.ids
    assert "(as before)" in lines[-1]
    (work / "another").mkdir()
    _, others = prepare_sets(recipe, RunFolder(work / "another"), lines.append)
    assert len(others) == len(before) - 2


def change_puzzles(work: Path) -> None:
    shutil.rmtree(work / "puzzles")
    config = {"grid": "2x2", "tile": "28", "crop": "random", "answer_style": "direct"}
    build_puzzles("image", work / "photos", work / "puzzles", config=config, per_source=3, workers=1, progress=False)


def test_a_set_that_holds_other_puzzles_is_refused_by_name(work, recipe):
    prepare_sets(recipe, RunFolder(work / "run"), lambda line: None)
    (work / "said.jsonl").write_text(SAID.replace("ANSWER", "Goodbye."), encoding="utf-8")
    told = rf"^data\.train\.1: {work}/said\.jsonl has other puzzles than when this run began \(1 then, 1 now\); restore"
    with pytest.raises(JigsawError, match=told):
        prepare_sets(recipe, RunFolder(work / "run"), lambda line: None)
    change_puzzles(work)
    with pytest.raises(JigsawError, match=r"data\.train\.0: .*/puzzles has other puzzles .* \(24 then, 18 now\)"):
        prepare_sets(recipe, RunFolder(work / "run"), lambda line: None)
    shutil.rmtree(work / "puzzles")
    with pytest.raises(
        JigsawError, match=r"data\.train\.0: the set .*/puzzles of this run cannot be opened: .*; restore it"
    ):
        prepare_sets(recipe, RunFolder(work / "run"), lambda line: None)


def test_run_json_says_what_a_run_was_made_with(work, recipe):
    folder = RunFolder(work / "run")
    for _ in range(2):
        record_start(recipe, folder)
    record = json.loads(folder.info.read_text(encoding="utf-8"))
    assert record["seeds"] == {"run": 3, "data": [5]}
    assert record["packages"]["torch"] and record["packages"]["visual-jigsaw"] == record["version"]
    assert record["machine"]["cores"] >= 1 and record["argv"]
    assert [resumed["seeds"] for resumed in record["resumed"]] == [record["seeds"]]
