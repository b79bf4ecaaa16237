"""Named held-out sets: they have separate scores and do not count for the main held-out set."""

import datasets
import pytest

from jigsaw.answering.answers import AnsweredPuzzle
from jigsaw.config.data import DataEntry, DataSection
from jigsaw.evaluation.figures import set_log
from jigsaw.recipe_sets import HeldOut
from jigsaw.rewards import Composition

PAPER = Composition(["visual_jigsaw"])
BUILD = {"task": "image", "source": "photos"}


def entries(*names):
    return [DataEntry(build=BUILD, name=name) for name in names]


def puzzles(*ids):
    return datasets.Dataset.from_list([{"id": name} for name in ids])


def answered(ids, right):
    shared = {"task": "image", "answer": [2, 1], "answer_style": "direct", "classes": None, "geometry": {}}
    return [
        AnsweredPuzzle(shared | {"id": name, "source": {"path": f"{name}.png"}}, ["2, 1" if name in right else "1, 2"])
        for name in ids
    ]


def test_each_held_out_set_has_separate_scores():
    heldout = HeldOut([puzzles("a", "b"), puzzles("x", "y"), puzzles("c")], entries(None, "real photos", None))
    assert heldout.names == [None, "real photos"]
    assert heldout.main.ids == ["a", "b", "c"]
    after, before = answered(heldout.ids, "abc"), answered(heldout.ids, "ax")
    main, photos = (
        set_log(name or "", [after[row] for row in rows], PAPER, warmup=[before[row] for row in rows])
        for name in heldout.names
        for rows in [heldout.rows_of(name)]
    )
    assert main.model.num_puzzles == 3
    assert main.model.estimates["exact"].value == 1.0
    assert main.warmup.estimates["exact"].value == pytest.approx(1 / 3)
    assert main.compared.changes["exact"].value == pytest.approx(2 / 3)
    assert (photos.name, photos.model.num_puzzles) == ("real photos", 2)
    assert photos.model.estimates["exact"].value == 0.0
    assert photos.compared.changes["exact"].value == -0.5


def test_without_a_warmup_there_is_no_comparison():
    heldout = HeldOut([puzzles("a"), puzzles("b")], entries(None, None))
    one = set_log("", answered(heldout.ids, "ab"), PAPER)
    assert (one.warmup, one.compared, one.model.num_puzzles) == (None, None, 2)


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        ({"train": entries("photos")}, "name belongs to an entry of eval"),
        ({"eval": entries("photos", "others")}, "leave one entry without a name"),
        ({"eval": entries("photos"), "train": entries(None)}, "leave one entry without a name"),
    ],
)
def test_only_additional_held_out_sets_may_have_a_name(sides, message):
    with pytest.raises(ValueError, match=message):
        DataSection(**{"train": entries(None), **sides})


def test_a_name_that_is_not_a_valid_folder_name_is_refused():
    with pytest.raises(ValueError, match="name"):
        DataEntry(build=BUILD, name="../photos")
