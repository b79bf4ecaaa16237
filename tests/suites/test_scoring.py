"""Scores of benchmark answers on hand-written rows."""

import json

import pytest

from jigsaw.suites.scoring import by_category, figure_of, first_box, overlap, record_of, whole_boxes


def item(kind, target, group="", category="", **more):
    return {"id": len(more), "kind": kind, "target": target, "group": group, "category": category, **more}


@pytest.mark.parametrize(
    ("text", "right", "flexible"),
    [
        ("B", True, True),
        ("(b) the left one", True, True),
        ("Answer: B", False, True),  # the paper's rule reads the A of Answer
        ("<think>A?</think>\\boxed{B}", True, True),
        ("Based on it, A", True, False),  # the paper's rule reads the B of Based
        ("", False, False),
    ],
)
def test_letters_are_scored_by_the_rule_of_the_paper_and_a_flexible_one(text, right, flexible):
    record = record_of(item("letter", "(B)"), text)
    assert (record["right"], record["flexible"]) == (right, flexible)


@pytest.mark.parametrize(
    ("text", "right", "flexible"),
    [("yes", True, True), ('"Yes."', True, True), ("Yes, it does", False, True), ("No", False, False)],
)
def test_words_are_scored_by_both_rules(text, right, flexible):
    record = record_of(item("word", "Yes"), text)
    assert (record["right"], record["flexible"]) == (right, flexible)


def test_a_group_is_right_if_all_its_rows_are():
    rows = [("a", "Yes"), ("a", "Yes"), ("b", "Yes"), ("b", "No")]
    records = [record_of(item("word", "Yes", group), text) for group, text in rows]
    assert figure_of(records) == 0.5
    assert figure_of(records[:3]) == 1.0  # only groups with records count


def test_rows_without_a_group_count_separately():
    records = [record_of(item("word", "Yes", id=at) | {"id": at}, text) for at, text in enumerate(["Yes", "No"])]
    assert figure_of(records) == 0.5


def test_categories_have_the_share_of_right_rows():
    records = [record_of(item("word", "Yes", category=name), text) for name, text in [("x", "Yes"), ("y", "No")]]
    assert by_category(records) == {"x": 1.0, "y": 0.0}


def test_a_box_is_scaled_to_the_original_and_must_overlap_by_more_than_half():
    row = item("box", [20.0, 20.0, 100.0, 80.0], scale=[2.0, 2.0])
    assert record_of(row, '[{"bbox_2d": [10, 10, 50.0, 40]}]')["right"]
    assert not record_of(row, "[20, 20, 100, 80]")["right"]
    assert not record_of(row, "there is none")["right"]


def test_boxes_are_parsed_and_their_overlap_is_computed():
    assert first_box("at [1.5, 2, 3, 4] and [5, 6, 7, 8]") == (1.5, 2.0, 3.0, 4.0)
    assert whole_boxes("[1.5, 2, 3, 4] [5, 6, 7, 8]") == [(5.0, 6.0, 7.0, 8.0)]
    assert whole_boxes("none") == [(0.0, 0.0, 0.0, 0.0)]
    assert overlap((0, 0, 10, 10), (9.5, 0, 20, 10)) == 0.0  # an overlap of at most a pixel does not count
    assert overlap((0, 0, 10, 10), (0, 0, 10, 5)) == 0.5


def test_detections_are_scored_by_coco(tmp_path):
    pytest.importorskip("pycocotools")
    truth = tmp_path / "color.json"
    images = [{"id": number, "file_name": f"{number}.png", "width": 100, "height": 100} for number in (1, 2)]
    boxes = [
        {"id": at, "image_id": at, "category_id": 3, "bbox": [10, 10, 40, 40], "area": 1600, "iscrowd": 0}
        for at in (1, 2)
    ]
    truth.write_text(json.dumps({"images": images, "categories": [{"id": 3, "name": "x"}], "annotations": boxes}))

    def rows(*texts):
        return [
            record_of(
                item(
                    "boxes",
                    {"truth": str(truth), "image_id": at, "category_id": 3},
                    scale=[0.5, 0.5],
                    size=[100, 100],
                ),
                text,
            )
            for at, text in enumerate(texts, 1)
        ]

    assert figure_of(rows("[20, 20, 100, 100]", "[20, 20, 100, 100]")) == pytest.approx(1.0)
    assert figure_of(rows("[20, 20, 100, 100]", "none")) == pytest.approx(0.5, abs=0.02)
    assert figure_of(rows("none", "none")) == 0.0
    twice = "[20, 20, 100, 100] [22, 20, 100, 100]"  # the second box matches the same target and is ignored
    assert figure_of(rows(twice, twice)) == pytest.approx(1.0)
