"""`jigsaw check`: an intact set passes, and changed rows, sources and parts are reported."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jigsaw.data import build_puzzles, check_puzzles
from jigsaw.data.building.planning import Job
from jigsaw.data.inspection.check import check_rows
from jigsaw.data.storage.settings import BuildConfig
from jigsaw.errors import JigsawError
from jigsaw.tasks import get_task

CONFIG = {"grid": "2x2", "crop": "random"}


@pytest.fixture
def built(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    build_puzzles("image", tmp_path / "photos", tmp_path / "set", config=CONFIG, per_source=2, parts=2, workers=2)
    return tmp_path / "set"


def tamper(folder, change):
    """Changes the rows of the first part and keeps its metadata."""
    file = sorted(folder.glob("data-*"))[0]
    table = pq.read_table(file)
    rows = table.to_pylist()
    change(rows)
    metadata = pq.read_metadata(file).metadata
    changed = pa.Table.from_pylist(rows, schema=table.schema.remove_metadata())
    pq.write_table(changed.replace_schema_metadata({b"jigsaw": metadata[b"jigsaw"]}), file)
    return rows


def test_an_intact_set_passes(built, photos, tmp_path):
    report = check_puzzles(built)
    assert report.ok
    assert (report.rows, report.sources, report.copies, report.faults) == (24, 12, 0, [])
    build_puzzles("image", photos, tmp_path / "stored", config=CONFIG, materialize=True, workers=1)
    assert check_puzzles(tmp_path / "stored").ok
    assert json.dumps(report.to_json())


def swap(rows):
    rows[0]["answer"] = rows[0]["answer"][::-1]


def other_geometry(rows):
    geometry = json.loads(rows[0]["geometry"])
    geometry["left"] += 1
    rows[0]["geometry"] = json.dumps(geometry)


def other_id(rows):
    rows[0]["id"] = "0" * 32


def missing_row(rows):
    del rows[0]


def invalid_permutation(rows):
    rows[0]["answer"] = [1, 1, 2, 3]


def missing_placeholder(rows):
    rows[0]["prompt"][0]["content"] = rows[0]["prompt"][0]["content"][:-2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swap, "differs in answer"),
        (swap, "does not belong to the shown order"),
        (other_geometry, "differs in geometry"),
        (other_id, "no puzzle of this source"),
        (other_id, "1 of its 2 puzzles are missing"),
        (missing_row, "rows, but was written with"),
        (invalid_permutation, "not a permutation"),
        (missing_placeholder, "3 image placeholders for 4 images"),
    ],
)
def test_a_changed_row_is_reported(built, change, message):
    tamper(built, change)
    report = check_puzzles(built, workers=1)
    assert not report.ok
    assert any(message in fault.what for fault in report.faults), report.faults
    assert all("\n" not in str(fault) for fault in report.faults)


def test_changed_and_missing_sources_are_reported_once_each(built, tmp_path):
    (tmp_path / "photos" / "one" / "photo 1.jpg").write_bytes(b"other")
    (tmp_path / "photos" / "one" / "photo 3.png").unlink()
    faults = {fault.source: fault.what for fault in check_puzzles(built).faults}
    assert faults == {
        "one/photo 1.jpg": "the source has changed since the set was built",
        "one/photo 3.png": "the source cannot be read: No such file or directory",
    }


def test_stored_pixels_that_differ_are_reported(photos, tmp_path):
    build_puzzles("image", photos, tmp_path / "set", config=CONFIG, materialize=True, workers=1)

    def reverse_images(rows):
        rows[0]["images"] = rows[0]["images"][::-1]

    tamper(tmp_path / "set", reverse_images)
    assert [fault.what for fault in check_puzzles(tmp_path / "set").faults] == [
        "the stored media differ from the rendered ones",
    ]


def test_damaged_foreign_and_missing_parts_are_reported(built, photos, tmp_path):
    first, second = sorted(built.glob("data-*"))
    first.write_bytes(first.read_bytes()[:-100])
    build_puzzles("image", photos, tmp_path / "other", config=CONFIG, seed=1, parts=2, workers=1)
    shutil.copy(tmp_path / "other" / second.name, second)
    faults = {fault.part: fault.what for fault in check_puzzles(built).faults}
    assert "was not written by" in faults[first.name]
    assert "another data set" in faults[second.name]
    second.unlink()
    assert "1 of 2 parts" in check_puzzles(built).faults[0].what


def test_copies_are_counted_and_are_not_faults(photos, tmp_path):
    shutil.copytree(photos / "one", tmp_path / "photos")
    shutil.copy(tmp_path / "photos" / "photo 1.jpg", tmp_path / "photos" / "again.jpg")
    build_puzzles("image", tmp_path / "photos", tmp_path / "set", config=CONFIG, workers=1)
    report = check_puzzles(tmp_path / "set", workers=1)
    assert report.ok
    assert report.copies == 1


def test_an_incomplete_or_missing_set_is_refused(built, tmp_path):
    with pytest.raises(JigsawError, match="is not a folder"):
        check_puzzles(tmp_path / "nowhere")
    manifest = json.loads((built / "manifest.json").read_text())
    (built / "manifest.json").write_text(json.dumps(manifest | {"complete": False}))
    with pytest.raises(JigsawError, match="not complete"):
        check_puzzles(built)


def test_fewer_than_one_worker_is_refused(built):
    with pytest.raises(JigsawError, match="workers must be at least 1, not -1"):
        check_puzzles(built, workers=-1)


def test_the_second_decoding_runs_once_per_source(built, tmp_path, monkeypatch):
    verified = []

    def verify(self, puzzle, source):
        verified.append(source.path)
        return ["its second tile is of another photo"]

    monkeypatch.setattr("jigsaw.tasks.image.ImageTask.verify", verify)
    stored = pq.read_table(sorted(built.glob("data-*"))[0]).to_pylist()
    path = stored[0]["source"]["path"]
    rows = [row for row in stored if row["source"]["path"] == path]
    job = Job(root=tmp_path / "photos", build=BuildConfig(spec="image", config=CONFIG, per_source=2))
    faults = check_rows(get_task("image", **CONFIG), job, ("part", path, rows))
    assert faults == [(rows[0]["id"], "its second tile is of another photo")]
    assert (len(rows), verified) == (2, [path])
