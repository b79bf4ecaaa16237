"""Evaluations of mixed kinds of answer: scores by task and kind, stored predictions, tables and the report."""

import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from jigsaw.answering.answers import AnsweredPuzzle
from jigsaw.data import build_puzzles, load_puzzles
from jigsaw.errors import JigsawError
from jigsaw.evaluation.figures import evaluation_of, set_log
from jigsaw.evaluation.log import read_log, read_samples
from jigsaw.evaluation.score import score_predictions
from jigsaw.evaluation.tables import log_tables
from jigsaw.report.gallery import REASONS
from jigsaw.report.headline import headline
from jigsaw.report.page import write_report
from jigsaw.rewards import Composition
from jigsaw.rewards.answers.kinds import _KINDS

CHOICE = {"answer_kind": "choice", "answer_args": {"options": ["A", "B", "C", "D"]}}


def answered(name, task, answer, *texts, **columns):
    """A puzzle in answer style direct, with completions."""
    puzzle = {"id": name, "task": task, "source": {"path": name}, "answer": answer, "answer_style": "direct"}
    return AnsweredPuzzle({**puzzle, "classes": None, **columns}, texts)


def mixture(*, samples=1):
    """Two orders, two choices and two numbers; the first answer of each kind is right."""
    return [
        answered("o1", "image", [2, 1], *["2, 1"] * samples),
        answered("o2", "image", [2, 1], *["1, 2"] * samples),
        answered("c1", "rotation", "B", *["B"] * samples, **CHOICE),
        answered("c2", "rotation", "B", *["A"] * samples, **CHOICE),
        answered("n1", "questions", 7, *["7"] * samples, answer_kind="number"),
        answered("n2", "questions", 7, *["seven"] * samples, answer_kind="number"),
    ]


def test_accuracy_is_reported_with_chance_by_task_and_kind():
    results = evaluation_of(mixture(), Composition(["answer"]))
    kinds = {str(group): group.estimates["exact"] for group in results.groups if group.num_pieces}
    assert {name: figure.chance for name, figure in kinds.items()} == {
        "image, 2 pieces": 0.5,
        "rotation, choice of 4": 0.25,
        "questions, number": None,
    }
    assert all(figure.value == 0.5 for figure in kinds.values())
    assert results.reasons == {"ok": 5, "not_a_number": 1}


def test_scores_of_orders_are_means_over_orders_only():
    results = evaluation_of(mixture(), Composition(["answer"]))
    assert results.estimates["place_accuracy"].value == 0.5  # one of two orders, not of six answers
    assert results.estimates["place_accuracy"].chance == 0.5
    assert results.estimates["exact"].value == 0.5 and results.estimates["exact"].chance is None
    rotation = next(group for group in results.groups if group.task == "rotation")
    assert "place_accuracy" not in rotation.estimates
    assert [entry.task for entry in results.places] == ["image"]


def test_several_answers_to_a_choice_have_a_majority_vote():
    votes = [answered("c1", "rotation", "B", "A", "B", "B", "?", **CHOICE)]
    results = evaluation_of(votes, Composition(["answer"])).sampled
    assert results.majority["exact"].value == 1 and results.majority["exact"].chance == 0.25
    assert results.pass_at[1].value == 0.5 and "place_accuracy" not in results.majority


def test_a_comparison_has_only_the_scores_of_both_models():
    before = [answered(one.puzzle["id"], "rotation", "B", "A", **CHOICE) for one in mixture()[2:4]]
    one = set_log("", mixture()[2:4], Composition(["answer"]), warmup=before)
    assert set(one.compared.changes) == {"exact", "reward"} and one.compared.changes["exact"].value == 0.5
    assert "place" not in headline(one).detail


def test_the_chance_of_a_custom_reward_is_its_mean_over_all_options(tmp_path):
    mine = "def mine(completions, answer, **columns):\n    return [float(text >= 'B') for text in completions]\n"
    (tmp_path / "mine.py").write_text(mine)
    rewards = [{"use": "answer", "weight": 0.5}, {"use": f"{tmp_path}/mine.py:mine"}]
    results = evaluation_of(mixture()[2:4], Composition(rewards))
    assert results.estimates["reward"].chance == pytest.approx(0.5 * 0.25 + 0.75)
    assert results.estimates["reward"].chance_error == 0


@pytest.fixture(scope="module")
def rotated(tmp_path_factory):
    """A folder with a set of 12 puzzles and their predictions, which are right, wrong or invalid in turn."""
    root = tmp_path_factory.mktemp("rotated")
    (root / "photos").mkdir()
    for number in range(12):
        y, x = np.mgrid[0:64, 0:80]
        pixels = np.stack([255 - 3 * y, 255 - 2 * y - x // 4, (x * (number + 3)) % 256], axis=-1)
        Image.fromarray(pixels.astype(np.uint8)).save(root / "photos" / f"{number}.png")
    config = {"side": 56, "answer_style": "direct"}
    build_puzzles("rotation", root / "photos", root / "set", config=config, workers=1, progress=False)
    stored = load_puzzles(root / "set").with_format(None)
    texts = [(json.loads(row["answer_value"]), "A" if row["answer_value"] != '"A"' else "B", "up") for row in stored]
    lines = [json.dumps({"id": row["id"], "text": texts[at][at % 3]}) + "\n" for at, row in enumerate(stored)]
    (root / "predictions.jsonl").write_text("".join(lines))
    return root


def test_predictions_of_other_programs_are_scored_and_reported(rotated, tmp_path):
    log = score_predictions(rotated / "set", rotated / "predictions.jsonl", ["answer"], out=tmp_path / "out")
    assert log.main.model.estimates["exact"].value == pytest.approx(1 / 3)
    assert read_log(tmp_path / "out") == log
    console = Console(width=160, record=True)
    console.print(log_tables(log))
    assert "rotation, choice of 4" in console.export_text()
    write_report([tmp_path / "out"], tmp_path / "page.html")
    assert "Pieces in place" not in (tmp_path / "page.html").read_text().split("<h4>")[0]


def test_stored_predictions_have_the_chosen_option(tmp_path, rotated):
    score_predictions(rotated / "set", rotated / "predictions.jsonl", ["answer"], out=tmp_path / "out")
    items = read_samples(tmp_path / "out" / "predictions" / "model.jsonl")
    assert {item.value is None for item in items} == {True, False}
    assert all(item.num_pieces == 4 and item.order is None for item in items)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": "E"}, "answer 'E' is not one of the options"),
        ({"answer_kind": "choise"}, "answer kind 'choise' is unknown; did you mean choice"),
        ({"place_accuracy": 1.0}, "an answer of kind choice has no order"),
    ],
)
def test_the_error_for_an_invalid_prediction_names_its_line(rotated, tmp_path, change, message):
    score_predictions(rotated / "set", rotated / "predictions.jsonl", ["answer"], out=tmp_path / "out")
    path = tmp_path / "out" / "predictions" / "model.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], json.dumps(json.loads(lines[1]) | change), *lines[2:]]) + "\n")
    with pytest.raises(JigsawError, match=f"model.jsonl:2: .*{message}"):
        read_samples(path)


def test_the_report_has_a_text_for_every_reason_of_every_kind():
    assert {reason for kind in _KINDS.values() for reason in kind.REASONS} <= set(REASONS)
