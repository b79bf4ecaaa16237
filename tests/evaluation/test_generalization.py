"""`jigsaw generalize`: the conditions, the separation of seen and unseen sources, and the scores above chance."""

import json
import shutil

import pytest

from jigsaw.data import build_puzzles, load_puzzles, read_manifest
from jigsaw.errors import JigsawError
from jigsaw.evaluation import evaluate as run_module
from jigsaw.evaluation.evaluate import with_prompt_variant
from jigsaw.evaluation.generalization import Generalization, gained, generalization_table, generalize
from jigsaw.results.log_file import from_json
from jigsaw.results.tables import printed
from jigsaw.rewards import format_order
from jigsaw.testing import write_sources


@pytest.fixture
def trained(tmp_path, photos, monkeypatch):
    """A run on 2x2 puzzles whose model solves all 2x2 puzzles with the set's prompt, and answers 1, 2, 3, ... else."""
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    (run / "model" / "config.json").write_text("{}")
    sets = {}
    for split in ("train", "heldout"):
        sets[split] = tmp_path / split
        config = {"grid": "2x2", "tile": "28", "answer_style": "direct"}
        build_puzzles("image", photos, sets[split], config=config, split=split, heldout=0.5, workers=1, progress=False)
    (run / "data.json").write_text(json.dumps({"train": [str(sets["train"])], "eval": [str(sets["heldout"])]}))

    def engine(rows):
        texts = []
        for row in rows:
            knows = len(row["answer"]) == 4 and "jigsaw" in row["prompt"][0]["content"][0]["text"]
            order = row["answer"] if knows else range(1, len(row["answer"]) + 1)
            texts.append([format_order(list(order), "direct")])
        return texts

    monkeypatch.setattr(run_module, "open_engine", lambda *_, **__: engine)
    return run


def test_the_conditions_separate_trained_from_transferred_skills(trained, tmp_path):
    results = generalize(trained, out=tmp_path / "g", sizes=["2x2", "2x3"], puzzles=12)
    places = {name: entry.estimates["place_accuracy"] for name, entry in results.conditions.items()}
    assert set(places) == {"seen", "unseen", "size 2x3", "prompt variant 1", "prompt variant 2"}
    assert places["seen"].value == places["unseen"].value == 1.0
    assert gained(places["unseen"]).value == 1.0
    assert places["size 2x3"].value < 1 and places["size 2x3"].chance == pytest.approx(1 / 6)
    assert places["prompt variant 1"].value < 1
    assert results.shared_sources == 0
    path = tmp_path / "g" / "generalization.json"
    assert from_json(Generalization, path) == results
    text = printed([generalization_table(results, path)], "markdown")
    assert "no source is both seen and unseen" in text
    assert f"`{path}`, written by" in text


def test_puzzles_of_seen_sources_differ_from_the_training_puzzles(trained, tmp_path):
    generalize(trained, out=tmp_path / "g", sizes=["2x2"], puzzles=6)
    stored = json.loads((trained / "data.json").read_text())
    before, after = (load_puzzles(path).with_format(None) for path in (stored["train"][0], tmp_path / "g/data/seen"))
    assert not set(before["id"]) & set(after["id"])
    assert {row["fingerprint"] for row in after["source"]} <= {row["fingerprint"] for row in before["source"]}
    assert read_manifest(tmp_path / "g/data/seen").settings.config["grid"] == "2x2"


def test_a_run_without_a_model_or_sets_is_refused(trained, tmp_path):
    (trained / "data.json").unlink()
    with pytest.raises(JigsawError, match="has no list of puzzle sets"):
        generalize(trained, out=tmp_path / "g")
    (trained / "model" / "config.json").unlink()
    with pytest.raises(JigsawError, match="has no trained model"):
        generalize(trained, out=tmp_path / "g")


def test_sets_built_from_a_list_use_only_its_sources(trained, tmp_path, photos):
    for photo in sorted(photos.iterdir()):
        shutil.copy(photo, tmp_path / photo.name)
    names = [f"photo-{number}.png" for number in range(2)]
    (tmp_path / "some.txt").write_text("\n".join(names))
    config = {"grid": "2x2", "tile": "28", "answer_style": "direct"}
    build_puzzles("image", tmp_path / "some.txt", tmp_path / "listed", config=config, workers=1, progress=False)
    (trained / "data.json").write_text(json.dumps({name: [str(tmp_path / "listed")] for name in ("train", "eval")}))
    generalize(trained, out=tmp_path / "g", sizes=["2x2"], puzzles=6)
    sources = load_puzzles(tmp_path / "g/data/unseen").with_format(None)["source"]
    assert {source["path"] for source in sources} == set(names)


def test_a_null_value_of_the_configuration_is_kept(trained, tmp_path, photos):
    config = {"grid": "2x2", "answer_style": "direct", "max_tile": None}
    build_puzzles("image", photos, tmp_path / "set", config=config, workers=1, progress=False)
    (trained / "data.json").write_text(json.dumps({name: [str(tmp_path / "set")] for name in ("train", "eval")}))
    generalize(trained, out=tmp_path / "g", sizes=["2x2"], puzzles=6)
    assert read_manifest(tmp_path / "g/data/unseen").settings.config["max_tile"] is None


def test_conversations_among_the_sets_are_skipped(trained, tmp_path):
    (tmp_path / "conversations.jsonl").write_text("{}")
    (tmp_path / "conversations").mkdir()
    stored = json.loads((trained / "data.json").read_text())
    stored["train"] = [str(tmp_path / "conversations.jsonl"), str(tmp_path / "conversations"), *stored["train"]]
    (trained / "data.json").write_text(json.dumps(stored))
    assert "seen" in generalize(trained, out=tmp_path / "g", sizes=["2x2"], puzzles=6).conditions
    (trained / "data.json").write_text(json.dumps(stored | {"train": [str(tmp_path / "gone")]}))
    with pytest.raises(JigsawError, match="gone is not a folder"):
        generalize(trained, out=tmp_path / "g")


def test_a_task_without_prompt_variants_has_only_its_own_prompt(trained, tmp_path):
    write_sources("video", tmp_path / "videos")
    config = {"clips": 2, "grid": "1x2", "min_duration": 1, "answer_style": "direct"}
    build_puzzles("video", tmp_path / "videos", tmp_path / "tiles", config=config, workers=1, progress=False)
    (trained / "data.json").write_text(json.dumps({name: [str(tmp_path / "tiles")] for name in ("train", "eval")}))
    results = generalize(trained, out=tmp_path / "g", sizes=["2"], puzzles=2)
    assert set(results.conditions) == {"seen", "unseen"}
    with pytest.raises(JigsawError, match="--set prompt_variant: task video has no prompt variants"):
        with_prompt_variant(load_puzzles(tmp_path / "tiles")[0], 1)
