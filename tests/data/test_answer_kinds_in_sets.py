"""Puzzle sets whose answers are choices: loading, checks, previews, audits, and the checks before training."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jigsaw.audit import audit_puzzles
from jigsaw.data import build_puzzles, check_puzzles, load_puzzles, preview_puzzles
from jigsaw.data.loading.load import pieces_of
from jigsaw.errors import JigsawError
from jigsaw.launch.answers import require_answers
from jigsaw.rewards import Composition
from jigsaw.training.sft import with_answer


@pytest.fixture(scope="module")
def rotated(tmp_path_factory):
    """A set of 40 rotation puzzles from 20 pictures that are bright at the top."""
    root = tmp_path_factory.mktemp("rotated")
    (root / "photos").mkdir()
    for number in range(20):
        y, x = np.mgrid[0:64, 0:80]
        pixels = np.stack([255 - 3 * y, 255 - 2 * y - x // 4, (x * (number + 3)) % 256], axis=-1)
        Image.fromarray(pixels.astype(np.uint8)).save(root / "photos" / f"{number}.png")
    config = {"side": 56, "answer_style": "direct"}
    build_puzzles("rotation", root / "photos", root / "set", config=config, per_source=2, workers=1, progress=False)
    return root / "set"


def test_a_loaded_row_has_its_kind_of_answer_and_its_answer_in_that_kind(rotated):
    row = load_puzzles(rotated)[0]
    assert row["answer_kind"] == "choice" and row["answer"] in row["answer_args"]["options"] == ["A", "B", "C", "D"]
    assert row["num_pieces"] == 4 and not pieces_of(row).frames
    assert check_puzzles(rotated, workers=1, progress=False).ok


def test_a_preview_shows_the_answer_and_the_original_picture(rotated, tmp_path):
    page = preview_puzzles(rotated, tmp_path / "page.html", count=2).read_text()
    assert page.count("The picture as it is in the photo") >= 2 and "answer kind" in page


def test_an_audit_measures_the_shortcut_by_brightness(rotated):
    (group,) = audit_puzzles(rotated).groups
    scores = {finding.name: finding.exact.value for finding in group.findings}
    assert group.chance["exact"] == 0.25
    assert scores["sides"] > 0.6 > scores["constant"]
    assert next(finding for finding in group.findings if finding.name == "sides").remedy


def test_the_supervised_stage_trains_on_the_label(rotated):
    row = load_puzzles(rotated)[0]
    assert with_answer(row)["completion"][0]["content"][0]["text"] == row["answer"]


class Recipe:
    """The parts of a recipe that the check reads."""

    grpo = object()

    class data:
        class Entry:
            @staticmethod
            def trains(stage):
                return True

        train = (Entry,)


def test_a_set_that_a_reward_scores_passes(rotated):
    require_answers(Recipe, Composition(["answer"], ["place_accuracy"]), [load_puzzles(rotated)], [])


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        (
            ["visual_jigsaw"],
            "reward visual_jigsaw scores orders only, but the answer of row {id} is of kind choice; use",
        ),
        ([{"use": "answer", "only": ["image"]}], "no reward scores row {id} of task rotation; add one"),
    ],
)
def test_rows_that_no_reward_scores_are_refused_before_training(rotated, rewards, message):
    puzzles = load_puzzles(rotated)
    with pytest.raises(JigsawError) as error:
        require_answers(Recipe, Composition(rewards), [puzzles], [])
    assert str(error.value).startswith("data.train.0: " + message.format(id=puzzles[0]["id"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer_value": json.dumps("E")}, "answer 'E' is not one of the options A, B, C, D"),
        ({"answer_args": "{}"}, "needs options in its answer_args"),
        ({"answer_kind": "choise"}, "did you mean choice"),
        ({"answer_kind": "number"}, "answer kind number has no argument 'options'"),
    ],
)
def test_an_answer_that_is_invalid_for_its_kind_is_refused_before_training(rotated, tmp_path, change, message):
    folder = tmp_path / "set"
    folder.mkdir()
    for file in rotated.iterdir():
        if file.suffix == ".parquet":
            table = pq.read_table(file)
            rows = table.to_pylist()
            rows[3] |= change
            pq.write_table(type(table).from_pylist(rows, schema=table.schema), folder / file.name)
        elif file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    with pytest.raises(JigsawError) as error:
        require_answers(Recipe, Composition(["answer"]), [], [load_puzzles(folder, rotated.parent / "photos")])
    assert str(error.value).startswith(f"data.eval.0: row {rows[3]['id']}: ") and message in str(error.value)
