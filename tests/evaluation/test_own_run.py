"""`jigsaw eval RUN` and `jigsaw solve`: a run's held-out puzzles and settings, and the note on unreadable answers."""

import json

import numpy as np
import pytest
from PIL import Image
from test_run import Scripted

from jigsaw.cli.command import app
from jigsaw.data import build_puzzles, load_puzzles
from jigsaw.errors import JigsawError
from jigsaw.evaluation import evaluate as run_module
from jigsaw.evaluation.evaluate import evaluate_checkpoint, evaluate_on_own_sets
from jigsaw.evaluation.log import read_log
from jigsaw.evaluation.runs import is_run, own_sets, unreadable_note
from jigsaw.rewards import format_order
from jigsaw.solve import answer_lines, free_folder, solve


@pytest.fixture
def calls(monkeypatch):
    """The models, settings and rows that the engine gets, in order; the engine answers correctly."""
    calls = {"models": [], "generations": [], "rows": []}

    def open_engine(model, generation):
        calls["models"].append(model)
        calls["generations"].append(generation)

        def engine(rows):
            calls["rows"] += [row["id"] for row in rows]
            return [[format_order(row["answer"], row["answer_style"])] for row in rows]

        return engine

    monkeypatch.setattr(run_module, "open_engine", open_engine)
    return calls


@pytest.fixture
def photo(tmp_path):
    """A photo of the user."""
    pixels = np.random.default_rng(5).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    file = tmp_path / "mine" / "holiday.png"
    file.parent.mkdir()
    Image.fromarray(pixels).resize((240, 240)).save(file)
    return file


@pytest.fixture
def finished(run, puzzle_set):
    """A finished run with a model."""
    (run / "model").mkdir()
    (run / "model" / "config.json").write_text("{}")
    (run / "data.json").write_text(json.dumps({"train": [str(puzzle_set)], "eval": [str(puzzle_set)]}))
    return run


def test_a_run_is_evaluated_on_its_heldout_puzzles_with_its_settings(finished, puzzle_set, calls):
    log = evaluate_on_own_sets(finished)
    (one,) = log.sets
    assert one.name == ""
    assert one.model.estimates["exact"].value == 1.0
    assert calls["models"] == [str(finished / "model")]
    assert calls["rows"] == load_puzzles(puzzle_set)["id"]
    (generation,) = calls["generations"]
    assert (generation.batch_size, generation.max_new_tokens) == (64, 2048)  # from the recipe's evaluation section


def test_options_override_the_settings_of_the_run(finished, calls, tmp_path):
    evaluate_on_own_sets(finished, generation={"batch_size": 2}, limit=3, out=tmp_path / "out")
    assert calls["generations"][0].batch_size == 2
    assert len(calls["rows"]) == 3
    assert read_log(tmp_path / "out").settings["max_new_tokens"] == 2048


def test_each_heldout_set_has_its_scores(finished, puzzle_set, puzzle_folder, calls, tmp_path):
    recipe = (finished / "recipe.yaml").read_text()
    (finished / "recipe.yaml").write_text(
        recipe.replace("  eval:\n", f"  eval:\n  - path: {puzzle_folder}\n    name: photos\n    limit: 4\n")
    )
    (finished / "data.json").write_text(json.dumps({"train": [], "eval": [str(puzzle_folder), str(puzzle_set)]}))
    log = evaluate_on_own_sets(finished, out=tmp_path / "out")
    assert {one.name: one.model.num_puzzles for one in log.sets} == {"": 8, "photos": 4}
    assert read_log(tmp_path / "out") == log
    again = evaluate_on_own_sets(finished, against=tmp_path / "out")
    assert {one.name: one.compared.num_puzzles for one in again.sets} == {"": 8, "photos": 4}
    evaluate_checkpoint("org/other", puzzle_set, out=tmp_path / "other")
    with pytest.raises(JigsawError, match="has no evaluation of the set photos"):
        evaluate_on_own_sets(finished, against=tmp_path / "other")


def test_the_command_accepts_a_run_without_and_with_a_set(finished, puzzle_folder, calls):
    from typer.testing import CliRunner

    own = CliRunner().invoke(app, ["eval", str(finished), "--json"])
    assert own.exit_code == 0, own.output
    assert [one["name"] for one in json.loads(own.stdout)["sets"]] == [""]
    other = CliRunner().invoke(app, ["eval", str(finished), str(puzzle_folder), "--json"])
    assert json.loads(other.stdout)["sets"][0]["model"]["num_puzzles"] == 24
    assert calls["models"] == [str(finished / "model")] * 2


def test_the_option_task_is_refused_for_a_run(finished, calls):
    from typer.testing import CliRunner

    result = CliRunner().invoke(app, ["eval", str(finished), "--task", "image"])
    assert result.exit_code == 2
    assert "the recipe of a run names its tasks" in result.output
    assert calls["rows"] == []


def test_the_error_for_an_unfinished_run_names_the_remedy(run, tmp_path):
    with pytest.raises(JigsawError, match=r"has no trained model yet\. Continue the run with --resume$"):
        evaluate_on_own_sets(run)
    (run / "warmup").mkdir()
    with pytest.raises(JigsawError, match=r"or evaluate its warm-up: jigsaw eval .*/warmup DATA"):
        evaluate_on_own_sets(run)
    (run / "data.json").unlink()
    with pytest.raises(JigsawError, match=r"data\.json is missing"):
        own_sets(run)
    assert not is_run(tmp_path / "nowhere")


def test_the_note_on_unreadable_answers_names_the_trained_and_the_evaluated_puzzles(
    finished, puzzle_set, photos, tmp_path, monkeypatch
):
    direct_set = tmp_path / "calls"
    config = {"grid": "2x2", "tile": "28", "crop": "random", "answer_style": "direct"}
    build_puzzles("image", photos, direct_set, config=config, per_source=1, workers=1, progress=False)
    monkeypatch.setattr(run_module, "open_engine", lambda *_: Scripted(texts=("<answer>2</answer> 1",)))
    figures = run_module.evaluate_checkpoint(str(finished / "model"), direct_set)
    assert figures.note == (
        "No answer could be read (6 not_integers). The model was trained on image puzzles of 6 pieces, "
        "answer style think. This set is image puzzles of 4 pieces, answer style direct."
    )


def test_a_note_is_written_only_if_no_answer_could_be_read(finished, puzzle_set):
    model = str(finished / "model")
    assert unreadable_note(model, puzzle_set, {"malformed": 7, "ok": 1}) is None
    own = unreadable_note(model, puzzle_set, {"malformed": 8})
    assert own.endswith("but has not learned the form of an answer.")
    unknown = unreadable_note("org/model", puzzle_set, {"empty": 8})
    assert unknown.endswith("check that the model was trained to answer in that form.")


def test_solve_cuts_puzzles_of_a_photo_with_the_settings_of_the_run(finished, puzzle_set, photo, calls, tmp_path):
    log = solve(str(finished), [photo], tmp_path / "solved", puzzles=2)
    new, heldout = load_puzzles(tmp_path / "solved" / "puzzles"), load_puzzles(puzzle_set)
    assert calls["models"] == [str(finished / "model")] and calls["generations"][0].batch_size == 64
    assert calls["rows"] == new["id"] and {one["path"] for one in new["source"]} == {photo.name}
    assert {row["num_pieces"] for row in new} == {row["num_pieces"] for row in heldout}
    assert {row["answer_style"] for row in new} == {row["answer_style"] for row in heldout}
    *lines, summary = answer_lines(log)
    assert [line.endswith(": solved") for line in lines] == [True, True]
    assert summary.startswith("2 of 2 solved; guessing solves")
    assert (tmp_path / "solved" / "report.html").is_file()
    with pytest.raises(JigsawError, match="exists already"):
        solve(str(finished), [photo], tmp_path / "solved")
    assert free_folder(tmp_path / "solved") == tmp_path / "solved-2"


def test_solve_with_a_model_uses_the_task_and_settings_of_its_options(photo, calls, tmp_path):
    solve("org/model", [photo], tmp_path / "solved", task="image", config={"grid": "2x1"}, puzzles=1)
    assert calls["models"] == ["org/model"]
    assert load_puzzles(tmp_path / "solved" / "puzzles")[0]["num_pieces"] == 2
    with pytest.raises(JigsawError, match=r"none\.jpg: no such file or folder"):
        solve("org/model", [tmp_path / "none.jpg"], tmp_path / "other")
    assert not (tmp_path / "other").exists()
