"""The same completions give exactly the same scores at the end of a run, by `jigsaw eval` and by `jigsaw score`."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from jigsaw.config.loading import load_recipe
from jigsaw.console import RunConsole
from jigsaw.data import load_puzzles
from jigsaw.evaluation import evaluate as module
from jigsaw.evaluation.evaluate import evaluate_checkpoint, evaluate_on_own_sets, evaluate_run
from jigsaw.evaluation.log import read_log
from jigsaw.evaluation.score import score_predictions
from jigsaw.rewards import Composition
from jigsaw.run_folder import RunFolder
from jigsaw.stop_request import StopRequest

TEXTS = ("2, 1, 4, 3", "1, 2, 3, 4", "4, 3, 2, 1", "3, 3, 1, 2", "no idea", "<answer>1, 2, 4, 3</answer>")


def text_for(row) -> str:
    number = int(row["id"][:8], 16)
    return ", ".join(map(str, row["answer"])) if number % 3 == 0 else TEXTS[number % len(TEXTS)]


@pytest.fixture
def run(tmp_path, puzzle_folder, monkeypatch):
    """A finished run with an engine that answers with `text_for`."""
    monkeypatch.setattr(module, "open_engine", lambda *_: lambda rows: [[text_for(row)] for row in rows])
    folder = RunFolder(tmp_path / "run")
    folder.model("model").mkdir(parents=True)
    (folder.model("model") / "config.json").write_text("{}")
    recipe = load_recipe("quickstart", [f"output={folder}", f"data.eval=[{{path: {puzzle_folder}}}]"])
    folder.write_text_once(folder.recipe, json.dumps(recipe.model_dump(mode="json")))
    folder.write_text_once(folder.data, json.dumps({"train": [], "eval": [str(puzzle_folder)]}))
    console = Console(quiet=True)
    with StopRequest(folder.stop) as stop:
        progress = RunConsole(console, recipe).progress("evaluation", "puzzle")
        evaluate_run(recipe, folder, folder.open_heldout(recipe), Composition(recipe.rewards), stop, progress)
    return folder.path, recipe


def test_a_run_eval_and_score_give_equal_scores(run, puzzle_folder, tmp_path):
    folder, recipe = run
    at_the_end = read_log(folder).main
    assert 0 < at_the_end.model.estimates["exact"].value < 1
    assert {group.difficulty for group in at_the_end.model.groups} == {None, "hard", "medium", "easy"}
    assert evaluate_on_own_sets(folder).main == at_the_end
    rewards = recipe.rewards
    by_checkpoint = evaluate_checkpoint("org/model", puzzle_folder, rewards=rewards, out=tmp_path / "eval").main
    assert by_checkpoint == at_the_end
    rows = load_puzzles(puzzle_folder).with_format(None)
    lines = [json.dumps({"id": row["id"], "text": text_for(row)}) for row in rows]
    (tmp_path / "outside.jsonl").write_text("\n".join(reversed(lines)))
    assert score_predictions(puzzle_folder, tmp_path / "outside.jsonl", rewards).main == at_the_end
    stored = tmp_path / "eval" / "predictions" / "model.jsonl"
    assert score_predictions(puzzle_folder, stored, rewards).main == at_the_end
