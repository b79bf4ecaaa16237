"""Rows without the media that their prompts ask for are found before training, by set and row."""

import shutil

import pyarrow.parquet as pq
import pytest
from PIL import Image

from jigsaw.data import build_puzzles, import_questions, load_puzzles
from jigsaw.data.inspection.required_media import require_media
from jigsaw.data.sources import missing_file
from jigsaw.errors import JigsawError


@pytest.fixture
def questions(tmp_path):
    """Three questions: with two pictures, with one, with none."""
    for name in ("a", "b"):
        Image.new("RGB", (30, 20), (name == "a" and "red") or "blue").save(tmp_path / f"{name}.png")
    rows = [("Same?", ["a.png", "b.png"]), ("Red?", ["a.png"]), ("2 + 3?", [])]
    lines = "".join(f'{{"question": "{asked}", "answer": "5", "images": {files}}}\n' for asked, files in rows)
    (tmp_path / "rows.jsonl").write_text(lines.replace("'", '"'))
    import_questions(tmp_path / "rows.jsonl", tmp_path / "set", progress=False)
    return tmp_path / "set"


def rewritten(folder, change):
    """The set with its rows changed, loaded."""
    (file,) = folder.glob("*.parquet")
    table = pq.read_table(file)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), file)
    return load_puzzles(folder)


def test_complete_rows_pass(questions, puzzles):
    require_media(load_puzzles(questions), "data.train.0")
    require_media(puzzles, "data.train.1")


@pytest.mark.parametrize(
    ("row", "images", "message"),
    [
        (0, lambda images: images[:1], "has placeholders for 2 images, but it has 1"),
        (1, lambda images: None, "has placeholders for 1 images, but it has 0"),
        (2, lambda images: [{"bytes": b"", "path": None}], "has placeholders for 0 images, but it has 1"),
    ],
)
def test_a_question_that_lost_or_gained_a_picture_is_named(questions, row, images, message):
    def change(rows):
        rows[row]["images"] = images(rows[row]["images"])

    changed = rewritten(questions, change)
    identity = changed.with_format(None)[row]["id"]
    with pytest.raises(JigsawError, match=rf"data.train.2: row {identity}: its prompt {message}; import or build"):
        require_media(changed, "data.train.2")


def test_a_stored_puzzle_without_its_pictures_is_named(photos, tmp_path):
    config = {"grid": "2x2", "tile": 28}
    build_puzzles("image", photos, tmp_path / "set", config=config, materialize=True, workers=1, progress=False)

    def change(rows):
        rows[4]["images"] = rows[4]["images"][:3]

    with pytest.raises(JigsawError, match="placeholders for 4 images, but it has 3"):
        require_media(rewritten(tmp_path / "set", change), "data.eval.0")


def test_a_source_that_is_gone_is_named_before_training(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    config = {"grid": "2x2", "tile": 28}
    build_puzzles("image", tmp_path / "photos", tmp_path / "set", config=config, workers=1, progress=False)
    rows = load_puzzles(tmp_path / "set")
    gone = rows.with_format(None)[2]["source"]["path"]
    (tmp_path / "photos" / gone).unlink()
    with pytest.raises(JigsawError, match=rf"data.train.0: row .*: its source {gone} is not in .*; put the file"):
        require_media(rows, "data.train.0")


@pytest.mark.parametrize(
    ("path", "gone"),
    [
        ("a.png", None),
        ("gone.png", "gone.png"),
        ("a.png::and::b.png", None),
        ("a.png::and::gone.png", "gone.png"),
        ("a.png::gone.npy", "gone.npy"),
        ("x.tar::7/b.jpg", None),
        ("gone.tar::7/b.jpg", "gone.tar"),
        ("t.parquet::12/0", None),
        ("scene/pose", None),
        ("other/pose", "other/pose"),
    ],
)
def test_every_file_of_a_source_is_looked_for(tmp_path, path, gone):
    for name in ("a.png", "b.png", "x.tar", "t.parquet"):
        (tmp_path / name).touch()
    (tmp_path / "scene" / "pose").mkdir(parents=True)
    assert missing_file(tmp_path, path) == gone
