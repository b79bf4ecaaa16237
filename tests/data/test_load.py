"""Loading of puzzle sets: rows for TRL, rendered and stored pixels, and moved, changed or missing sources."""

import json
import pickle
import shutil
from threading import Event

import numpy as np
import pytest

from jigsaw.data import build_puzzles, load_puzzles
from jigsaw.data.loading import load
from jigsaw.data.loading.load import rendered
from jigsaw.errors import JigsawError
from jigsaw.rewards import Composition


@pytest.fixture(scope="module")
def sets(photos, tmp_path_factory):
    """A folder with two sets of the same puzzles: one rendered on access, one with stored media."""
    root = tmp_path_factory.mktemp("sets")
    for name, materialize in {"lazy": False, "stored": True}.items():
        build_puzzles("image", photos, root / name, config={"grid": "2x2"}, materialize=materialize, workers=2)
    return root


def test_a_row_has_the_columns_of_trainers_and_rewards_and_no_nulls_in_its_prompt(sets):
    row = load_puzzles(sets / "lazy")[0]
    assert set(row) == {
        *("prompt", "images", "answer", "task", "id", "num_pieces", "answer_style", "classes", "source", "geometry"),
        *("answer_kind", "answer_args"),
    }
    assert sorted(row["answer"]) == [1, 2, 3, 4]
    assert (row["task"], row["num_pieces"], row["answer_style"], row["classes"]) == ("image", 4, "think", None)
    parts = row["prompt"][0]["content"]
    assert [part for part in parts if part["type"] == "image"] == [{"type": "image"}] * 4
    assert all(set(part) == {"type", "text"} for part in parts if part["type"] == "text")
    assert len(row["images"]) == 4
    assert row["geometry"]["grid"] == [2, 2]


def test_stored_media_equal_the_rendered_ones(sets):
    lazy, stored = load_puzzles(sets / "lazy"), load_puzzles(sets / "stored")
    assert len(lazy) == len(stored) == 12
    by_id = {row["id"]: row for row in stored}
    for row in lazy:
        pairs = zip(row["images"], by_id[row["id"]]["images"], strict=True)
        assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)


def test_a_change_of_a_loaded_image_does_not_change_the_next_access(sets):
    rows = load_puzzles(sets / "lazy")
    before = rows[0]["images"][0].tobytes()
    rows[0]["images"][0].paste((0, 0, 0), (0, 0, 9, 9))
    assert rows[0]["images"][0].tobytes() == before


def test_a_row_that_is_read_many_times_is_rendered_once(sets, monkeypatch):
    from jigsaw.tasks.image import ImageTask

    renders = []
    real = ImageTask.render
    monkeypatch.setattr(ImageTask, "render", lambda self, *args: renders.append(1) or real(self, *args))
    load._rendered.clear()
    rows = load_puzzles(sets / "lazy")
    for _ in range(16):
        rows[3]
    assert len(renders) == 1


def test_several_data_loader_workers_give_the_rows_in_order(sets):
    from torch.utils.data import DataLoader

    rows = load_puzzles(sets / "lazy")
    loader = DataLoader(rows, batch_size=5, num_workers=2, collate_fn=list)
    loaded = [row for batch in loader for row in batch]
    assert [row["id"] for row in loaded] == [row["id"] for row in rows]
    assert all(len(row["images"]) == 4 for row in loaded)


def test_concatenated_and_interleaved_sets_are_rendered(sets, photos, tmp_path):
    import datasets

    build_puzzles("image", photos, tmp_path / "nine", config={"grid": "3x3"}, workers=1, limit=3)
    both = datasets.concatenate_datasets([load_puzzles(sets / "lazy"), load_puzzles(tmp_path / "nine")])
    assert [len(both[i]["images"]) for i in (0, len(both) - 1)] == [4, 9]
    mixed = datasets.interleave_datasets([load_puzzles(sets / "lazy"), load_puzzles(tmp_path / "nine")])
    assert {len(row["images"]) for row in mixed.select(range(2))} == {4, 9}


def test_the_transform_can_be_pickled():
    assert pickle.loads(pickle.dumps(rendered)) is rendered


def test_moved_sources_are_found_with_source_root_and_missing_ones_are_refused(photos, tmp_path):
    first = tmp_path / "first"
    shutil.copytree(photos, first / "photos")
    build_puzzles("image", first / "photos", first / "set", workers=1, config={"grid": "2x2"})
    first.rename(tmp_path / "second")  # both are moved together, so the relative path is still right
    assert load_puzzles(tmp_path / "second" / "set")[0]["images"]
    (tmp_path / "second" / "photos").rename(tmp_path / "third")
    with pytest.raises(JigsawError, match="source_root="):
        load_puzzles(tmp_path / "second" / "set")
    assert load_puzzles(tmp_path / "second" / "set", tmp_path / "third")[0]["images"]


def test_reading_a_row_whose_source_changed_or_is_missing_is_an_error(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    build_puzzles("image", tmp_path / "photos", tmp_path / "set", workers=1, config={"grid": "2x2"})
    rows = load_puzzles(tmp_path / "set")
    changed, missing = (rows.select([i])["source"][0]["path"] for i in (0, 1))
    shutil.copy(photos / "one" / "photo 5.jpg", tmp_path / "photos" / changed)
    (tmp_path / "photos" / missing).unlink()
    load._rendered.clear()
    with pytest.raises(JigsawError, match="has changed since"):
        load_puzzles(tmp_path / "set")[0]
    with pytest.raises(JigsawError, match="cannot be read"):
        load_puzzles(tmp_path / "set")[1]


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 1}', "null"])
def test_a_folder_without_a_valid_manifest_is_refused(tmp_path, content):
    with pytest.raises(JigsawError, match="has no manifest"):
        load_puzzles(tmp_path)
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(JigsawError, match="rebuild the folder with `jigsaw build`"):
        load_puzzles(tmp_path)
    with pytest.raises(JigsawError, match="is not a folder"):
        load_puzzles(tmp_path / "nowhere")


def test_a_missing_part_is_refused(sets, tmp_path):
    shutil.copytree(sets / "lazy", tmp_path / "set")
    next((tmp_path / "set").glob("data-*")).unlink()
    with pytest.raises(JigsawError, match="0 of 1 parts"):
        load_puzzles(tmp_path / "set")


def test_rewards_read_the_grid_from_a_loaded_and_from_a_stored_geometry(photos, tmp_path):
    """The geometry is a mapping in loaded rows and JSON text in stored rows."""
    build_puzzles("image", photos, tmp_path / "set", config={"grid": "2x2"}, workers=1, progress=False)
    row = load_puzzles(tmp_path / "set")[0]
    # The two rows of the grid are swapped: both horizontal pairs are right, both vertical pairs are wrong.
    swapped = [row["answer"][2], row["answer"][3], row["answer"][0], row["answer"][1]]
    text = f"<think></think><answer>{', '.join(map(str, swapped))}</answer>"
    scored = [
        Composition(["neighbor_accuracy"]).score(
            [text], {"answer": [row["answer"]], "answer_style": ["think"], "classes": [None], "geometry": [geometry]}
        )
        for geometry in (row["geometry"], json.dumps(row["geometry"]))
    ]
    assert scored[0] == scored[1] == {"neighbor_accuracy": [0.5]}


def test_rendering_that_hangs_is_an_error_that_names_the_puzzle(sets, monkeypatch):
    from jigsaw.tasks.image import ImageTask

    never = Event()
    monkeypatch.setattr(ImageTask, "render", lambda self, *args: never.wait())
    monkeypatch.setattr(load, "RENDER_LIMIT", 0.2)
    load._rendered.clear()
    rows = load_puzzles(sets / "lazy")
    identity = rows.with_format(None)[0]["id"]
    with pytest.raises(JigsawError, match=f"puzzle {identity} of .* cannot be rendered: no result within 0.2 s"):
        rows[0]
    never.set()
