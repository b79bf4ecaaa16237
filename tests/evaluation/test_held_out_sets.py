"""Held-out sets with names: reported on their own, never mixed with the set that a run is judged by."""

import datasets
import pytest

from jigsaw.config.schema import DataEntry, DataSection
from jigsaw.evaluation.held_out_sets import figures_by_set
from jigsaw.evaluation.summary import score
from jigsaw.rewards import Composition
from jigsaw.training.sets import HeldOut

PAPER = Composition(["visual_jigsaw"])
BUILD = {"task": "image", "source": "photos"}


def entries(*names):
    return [DataEntry(build=BUILD, name=name) for name in names]


def puzzles(*ids):
    return datasets.Dataset.from_list([{"id": name} for name in ids])


def answered(ids, right):
    return [
        {
            "id": name,
            "task": "image",
            "source": {"path": f"{name}.png"},
            "answer": [2, 1],
            "answer_style": "direct",
            "classes": None,
            "geometry": {},
            "completion": "2, 1" if name in right else "1, 2",
        }
        for name in ids
    ]


def test_each_set_has_figures_of_its_own():
    heldout = HeldOut([puzzles("a", "b"), puzzles("x", "y"), puzzles("c")], entries(None, "real photos", None))
    assert heldout.names == [None, "real photos"]
    assert heldout.main.ids == ["a", "b", "c"]
    solved = {"heldout": answered(heldout.ids, "abc"), "warmup": answered(heldout.ids, "ax")}
    scored = {name: score(rows, PAPER) for name, rows in solved.items()}
    figures = figures_by_set(heldout, solved, scored, PAPER)
    assert figures["heldout"]["num_puzzles"] == 3
    assert figures["heldout"]["exact"]["value"] == 1.0
    assert figures["warmup"]["exact"]["value"] == pytest.approx(1 / 3)
    assert figures["gain"]["exact"]["value"] == pytest.approx(2 / 3)
    photos = figures["others"]["real photos"]
    assert photos["heldout"]["num_puzzles"] == 2
    assert photos["heldout"]["exact"]["value"] == 0.0
    assert photos["gain"]["exact"]["value"] == -0.5


def test_without_names_there_is_one_set_and_without_a_warmup_no_gain():
    heldout = HeldOut([puzzles("a"), puzzles("b")], entries(None, None))
    solved = {"heldout": answered(heldout.ids, "ab")}
    figures = figures_by_set(heldout, solved, {"heldout": score(solved["heldout"], PAPER)}, PAPER)
    assert set(figures) == {"heldout"}
    assert figures["heldout"]["num_puzzles"] == 2


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        ({"train": entries("photos")}, "name belongs to an entry of eval"),
        ({"eval": entries("photos", "others")}, "leave one entry without a name"),
        ({"eval": entries("photos"), "train": entries(None)}, "leave one entry without a name"),
    ],
)
def test_names_are_for_further_held_out_sets(sides, message):
    with pytest.raises(ValueError, match=message):
        DataSection(**{"train": entries(None), **sides})


def test_a_name_can_be_a_folder():
    with pytest.raises(ValueError, match="name"):
        DataEntry(build=BUILD, name="../photos")
