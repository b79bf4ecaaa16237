"""Checks before training that every row has the media of its prompt; errors name the set and the row."""

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
    """A set of three questions with two pictures, one picture and none."""
    for name in ("a", "b"):
        Image.new("RGB", (30, 20), (name == "a" and "red") or "blue").save(tmp_path / f"{name}.png")
    rows = [("Same?", ["a.png", "b.png"]), ("Red?", ["a.png"]), ("2 + 3?", [])]
    lines = "".join(f'{{"question": "{question}", "answer": "5", "images": {files}}}\n' for question, files in rows)
    (tmp_path / "rows.jsonl").write_text(lines.replace("'", '"'))
    import_questions(tmp_path / "rows.jsonl", tmp_path / "set", progress=False)
    return tmp_path / "set"


def rewrite_rows(folder, change):
    """Changes the rows of a set and loads it."""
    (file,) = folder.glob("*.parquet")
    table = pq.read_table(file)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), file)
    return load_puzzles(folder)


def test_rows_with_all_media_pass(questions, puzzles):
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
def test_a_question_with_a_missing_or_additional_picture_is_refused(questions, row, images, message):
    def change(rows):
        rows[row]["images"] = images(rows[row]["images"])

    changed = rewrite_rows(questions, change)
    identity = changed.with_format(None)[row]["id"]
    with pytest.raises(JigsawError, match=rf"data.train.2: row {identity}: its prompt {message}; import or build"):
        require_media(changed, "data.train.2")


def test_a_stored_puzzle_with_missing_pictures_is_refused(photos, tmp_path):
    config = {"grid": "2x2", "tile": 28}
    build_puzzles("image", photos, tmp_path / "set", config=config, materialize=True, workers=1, progress=False)

    def change(rows):
        rows[4]["images"] = rows[4]["images"][:3]

    with pytest.raises(JigsawError, match="placeholders for 4 images, but it has 3"):
        require_media(rewrite_rows(tmp_path / "set", change), "data.eval.0")


def test_a_missing_source_is_refused_before_training(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    config = {"grid": "2x2", "tile": 28}
    build_puzzles("image", tmp_path / "photos", tmp_path / "set", config=config, workers=1, progress=False)
    rows = load_puzzles(tmp_path / "set")
    missing = rows.with_format(None)[2]["source"]["path"]
    (tmp_path / "photos" / missing).unlink()
    with pytest.raises(JigsawError, match=rf"data.train.0: row .*: its source {missing} is not in .*; put the file"):
        require_media(rows, "data.train.0")


@pytest.mark.parametrize(
    ("path", "missing"),
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
def test_every_file_of_a_source_is_checked(tmp_path, path, missing):
    for name in ("a.png", "b.png", "x.tar", "t.parquet"):
        (tmp_path / name).touch()
    (tmp_path / "scene" / "pose").mkdir(parents=True)
    assert missing_file(tmp_path, path) == missing
