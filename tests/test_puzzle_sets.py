"""The puzzle sets of a run: they are recorded at its start and verified when it is resumed, and dry runs check them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from jigsaw.config.loading import load_recipe
from jigsaw.config.schema import Recipe
from jigsaw.data import build_puzzles
from jigsaw.data.building import selection
from jigsaw.errors import JigsawError
from jigsaw.launch.checks import checklist
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


def test_a_changed_source_does_not_change_the_puzzles_of_a_resumed_run(work, recipe):
    """Given a removed photo, a resumed run keeps its puzzles and a new run has others."""
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


def test_a_set_with_other_puzzles_than_at_the_start_is_refused_by_name(work, recipe):
    prepare_sets(recipe, RunFolder(work / "run"), lambda line: None)
    (work / "said.jsonl").write_text(SAID.replace("ANSWER", "Goodbye."), encoding="utf-8")
    message = (
        rf"^data\.train\.1: {work}/said\.jsonl has other puzzles than when this run began \(1 then, 1 now\); restore"
    )
    with pytest.raises(JigsawError, match=message):
        prepare_sets(recipe, RunFolder(work / "run"), lambda line: None)
    change_puzzles(work)
    with pytest.raises(JigsawError, match=r"data\.train\.0: .*/puzzles has other puzzles .* \(24 then, 18 now\)"):
        prepare_sets(recipe, RunFolder(work / "run"), lambda line: None)
    shutil.rmtree(work / "puzzles")
    with pytest.raises(
        JigsawError, match=r"data\.train\.0: the set .*/puzzles of this run cannot be opened: .*; restore it"
    ):
        prepare_sets(recipe, RunFolder(work / "run"), lambda line: None)


def test_run_json_records_seeds_packages_machine_and_command(work, recipe):
    folder = RunFolder(work / "run")
    for _ in range(2):
        record_start(recipe, folder)
    record = json.loads(folder.info.read_text(encoding="utf-8"))
    assert record["seeds"] == {"run": 3, "data": [5]}
    assert record["packages"]["torch"] and record["packages"]["visual-jigsaw"] == record["version"]
    assert record["machine"]["cores"] >= 1 and record["argv"]
    assert [resumed["seeds"] for resumed in record["resumed"]] == [record["seeds"]]


def data_checks(source: Path, *overrides: str) -> dict[str, str]:
    """Returns the failed data checks of a dry run of the quickstart with a source: key -> detail."""
    recipe = load_recipe("quickstart", [f"data.photos={source}", f"output={source.parent}/run", *overrides])
    return {check.what: check.detail for check in checklist(recipe) if check.status == "missing"}


def build_error(source: Path, out: Path, split: str) -> str:
    with pytest.raises(JigsawError) as caught:
        build_puzzles("image", source, out, split=split, config={"grid": "2x2", "tile": 28})
    return str(caught.value)


def test_a_dry_run_reports_a_folder_without_photos_as_the_build_does(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "notes.txt").write_text("no photo", encoding="utf-8")
    message = build_error(folder, tmp_path / "set", "train")
    assert "has no pictures" in message and "1 .txt" in message
    assert data_checks(folder) == {"data.train.0.build and 1 more": message}


def test_a_dry_run_reports_a_file_that_is_not_a_source_as_the_build_does(tmp_path):
    file = tmp_path / "a.jpg"
    file.write_bytes(b"not a photo")
    message = build_error(file, tmp_path / "set", "train")
    assert "is neither a folder" in message
    assert data_checks(file) == {"data.train.0.build and 1 more": message}


@pytest.mark.parametrize(
    "heldout, empty, key", [(0.999, "train", "data.train.0.build"), (0.001, "heldout", "data.eval.0.build")]
)
def test_a_dry_run_reports_a_split_without_photos_as_the_build_does(work, tmp_path, heldout, empty, key):
    """Given one photo, the error of the empty split names the number of photos and the key to change."""
    folder = tmp_path / "one"
    folder.mkdir()
    shutil.copy(min((work / "photos").iterdir()), folder)
    shares = [f"data.{side}.0.build.heldout={heldout}" for side in ("train", "eval")]
    message = f"there is only 1 photo in {folder}, and heldout={heldout} leaves none for split {empty}; "
    message += "add photos, or change heldout"
    assert data_checks(folder, *shares) == {key: message}
    with pytest.raises(JigsawError) as caught:
        build_puzzles("image", folder, tmp_path / "set", split=empty, heldout=heldout)
    assert str(caught.value) == message


def test_a_dry_run_reports_a_folder_whose_photos_are_unreadable(tmp_path):
    folder = tmp_path / "packed"
    folder.mkdir()
    (folder / "photos.zip").write_bytes(b"PK")
    ((key, detail),) = data_checks(folder).items()
    assert key == "data.train.0.build and 1 more"
    assert detail.endswith("can be read (1 of 1): .zip archives are not read; unpack it")


def test_a_dry_run_reports_sets_inside_their_source(work):
    (detail,) = data_checks(work / "photos", f"data.folder={work}/photos/data").values()
    assert "is inside the source" in detail


def test_a_dry_run_opens_only_a_few_of_many_photos_and_decodes_none(tmp_path, monkeypatch):
    """Given many photos with invalid content, the check opens files until each split has one."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(3000):
        (folder / f"{number}.jpg").write_bytes(str(number).encode())
    opened: list[str] = []

    def recording(root, path, kind, real=selection.open_source):
        opened.append(path)
        return real(root, path, kind)

    monkeypatch.setattr(selection, "open_source", recording)
    assert data_checks(folder) == {}
    assert 2 <= len(opened) < 60


def test_a_dry_run_of_a_resumed_run_does_not_list_the_sources_again(work, recipe):
    prepare_sets(recipe, RunFolder(work / "run"), lambda line: None)
    for photo in (work / "photos").iterdir():
        photo.unlink()
    (work / "photos" / "notes.txt").write_text("no photo", encoding="utf-8")
    checks = checklist(recipe, resume=True)
    assert not [check for check in checks if check.status == "missing" and check.what.startswith("data.")]
