"""`jigsaw eval RUN`: a run's own held-out puzzles with its own settings, and why no answer could be read."""

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
def asked(monkeypatch):
    """What the engine was opened with and what it was asked, in turn; it answers rightly."""
    seen = {"models": [], "generations": [], "rows": []}

    def open_engine(model, generation):
        seen["models"].append(model)
        seen["generations"].append(generation)

        def engine(rows):
            seen["rows"] += [row["id"] for row in rows]
            return [[format_order(row["answer"], row["answer_style"])] for row in rows]

        return engine

    monkeypatch.setattr(run_module, "open_engine", open_engine)
    return seen


@pytest.fixture
def photo(tmp_path):
    """A photo of one's own."""
    pixels = np.random.default_rng(5).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    file = tmp_path / "mine" / "holiday.png"
    file.parent.mkdir()
    Image.fromarray(pixels).resize((240, 240)).save(file)
    return file


@pytest.fixture
def finished(run, puzzle_set):
    """A run whose model is there."""
    (run / "model").mkdir()
    (run / "model" / "config.json").write_text("{}")
    (run / "data.json").write_text(json.dumps({"train": [str(puzzle_set)], "eval": [str(puzzle_set)]}))
    return run


def test_a_run_is_evaluated_on_its_own_heldout_puzzles_with_its_own_settings(finished, puzzle_set, asked):
    log = evaluate_on_own_sets(finished)
    (one,) = log.sets
    assert one.name == ""
    assert one.model.estimates["exact"].value == 1.0
    assert asked["models"] == [str(finished / "model")]
    assert asked["rows"] == load_puzzles(puzzle_set)["id"]
    (generation,) = asked["generations"]
    assert (generation.batch_size, generation.max_new_tokens) == (64, 2048)  # of the recipe's evaluation section


def test_options_replace_the_runs_settings(finished, asked, tmp_path):
    evaluate_on_own_sets(finished, generation={"batch_size": 2}, limit=3, out=tmp_path / "out")
    assert asked["generations"][0].batch_size == 2
    assert len(asked["rows"]) == 3
    assert read_log(tmp_path / "out").settings["max_new_tokens"] == 2048


def test_each_heldout_set_has_its_figures(finished, puzzle_set, puzzle_folder, asked, tmp_path):
    recipe = (finished / "recipe.yaml").read_text()
    (finished / "recipe.yaml").write_text(
        recipe.replace("  eval:\n", f"  eval:\n  - path: {puzzle_folder}\n    name: photos\n    limit: 4\n")
    )
    (finished / "data.json").write_text(json.dumps({"train": [], "eval": [str(puzzle_folder), str(puzzle_set)]}))
    found = evaluate_on_own_sets(finished, out=tmp_path / "out")
    assert {one.name: one.model.num_puzzles for one in found.sets} == {"": 8, "photos": 4}
    assert read_log(tmp_path / "out") == found
    again = evaluate_on_own_sets(finished, against=tmp_path / "out")
    assert {one.name: one.compared.num_puzzles for one in again.sets} == {"": 8, "photos": 4}
    evaluate_checkpoint("org/other", puzzle_set, out=tmp_path / "other")
    with pytest.raises(JigsawError, match="has no evaluation of the set photos"):
        evaluate_on_own_sets(finished, against=tmp_path / "other")


def test_the_command_takes_a_run_alone_or_with_a_set(finished, puzzle_folder, asked):
    from typer.testing import CliRunner

    own = CliRunner().invoke(app, ["eval", str(finished), "--json"])
    assert own.exit_code == 0, own.output
    assert [one["name"] for one in json.loads(own.stdout)["sets"]] == [""]
    other = CliRunner().invoke(app, ["eval", str(finished), str(puzzle_folder), "--json"])
    assert json.loads(other.stdout)["sets"][0]["model"]["num_puzzles"] == 24
    assert asked["models"] == [str(finished / "model")] * 2


def test_a_task_is_refused_where_the_recipe_names_it(finished, asked):
    from typer.testing import CliRunner

    refused = CliRunner().invoke(app, ["eval", str(finished), "--task", "image"])
    assert refused.exit_code == 2
    assert "the recipe of a run names its tasks" in refused.output
    assert asked["rows"] == []


def test_a_run_that_cannot_be_evaluated_yet_says_what_to_do(run, tmp_path):
    with pytest.raises(JigsawError, match=r"has no trained model yet\. Continue the run with --resume$"):
        evaluate_on_own_sets(run)
    (run / "warmup").mkdir()
    with pytest.raises(JigsawError, match=r"or evaluate its warm-up: jigsaw eval .*/warmup DATA"):
        evaluate_on_own_sets(run)
    (run / "data.json").unlink()
    with pytest.raises(JigsawError, match=r"data\.json is missing"):
        own_sets(run)
    assert not is_run(tmp_path / "nowhere")


def test_answers_in_another_form_name_what_was_trained_and_what_was_asked(
    finished, puzzle_set, photos, tmp_path, monkeypatch
):
    asked_for = tmp_path / "asked"
    config = {"grid": "2x2", "tile": "28", "crop": "random", "answer_style": "direct"}
    build_puzzles("image", photos, asked_for, config=config, per_source=1, workers=1, progress=False)
    monkeypatch.setattr(run_module, "open_engine", lambda *_: Scripted(texts=("<answer>2</answer> 1",)))
    figures = run_module.evaluate_checkpoint(str(finished / "model"), asked_for)
    assert figures.note == (
        "No answer could be read (6 not_integers). The model was trained on image puzzles of 6 pieces, "
        "answer style think. This set is image puzzles of 4 pieces, answer style direct."
    )


def test_a_note_is_given_only_where_no_answer_could_be_read(finished, puzzle_set):
    model = str(finished / "model")
    assert unreadable_note(model, puzzle_set, {"malformed": 7, "ok": 1}) is None
    own = unreadable_note(model, puzzle_set, {"malformed": 8})
    assert own.endswith("but has not learned the form of an answer.")
    unknown = unreadable_note("org/model", puzzle_set, {"empty": 8})
    assert unknown.endswith("check that the model was trained to answer in that form.")


def test_a_runs_model_solves_puzzles_cut_from_a_photo_as_it_was_trained(finished, puzzle_set, photo, asked, tmp_path):
    log = solve(str(finished), [photo], tmp_path / "solved", puzzles=2)
    made, own = load_puzzles(tmp_path / "solved" / "puzzles"), load_puzzles(puzzle_set)
    assert asked["models"] == [str(finished / "model")] and asked["generations"][0].batch_size == 64
    assert asked["rows"] == made["id"] and {one["path"] for one in made["source"]} == {photo.name}
    assert {row["num_pieces"] for row in made} == {row["num_pieces"] for row in own}
    assert {row["answer_style"] for row in made} == {row["answer_style"] for row in own}
    *told, sum_of_all = answer_lines(log)
    assert [line.endswith(": solved") for line in told] == [True, True]
    assert sum_of_all.startswith("2 of 2 solved; guessing solves")
    assert (tmp_path / "solved" / "report.html").is_file()
    with pytest.raises(JigsawError, match="exists already"):
        solve(str(finished), [photo], tmp_path / "solved")
    assert free_folder(tmp_path / "solved") == tmp_path / "solved-2"


def test_a_model_of_no_run_gets_puzzles_of_the_task_and_settings_given(photo, asked, tmp_path):
    solve("org/model", [photo], tmp_path / "solved", task="image", config={"grid": "2x1"}, puzzles=1)
    assert asked["models"] == ["org/model"]
    assert load_puzzles(tmp_path / "solved" / "puzzles")[0]["num_pieces"] == 2
    with pytest.raises(JigsawError, match=r"none\.jpg: no such file or folder"):
        solve("org/model", [tmp_path / "none.jpg"], tmp_path / "other")
    assert not (tmp_path / "other").exists()
