"""`jigsaw score`: outside predictions by task and number of pieces; what is missing, doubled or unknown is reported."""

import json
from io import StringIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from jigsaw.errors import JigsawError
from jigsaw.evaluation.scoring import score_predictions, score_table
from jigsaw.rewards import chance_neighbor_accuracy, format_order

GRID = json.dumps({"grid": [2, 2]})
ROWS = [
    {"id": "i1", "task": "image", "answer": [2, 3, 1, 4], "geometry": GRID, "answer_style": "think", "classes": None},
    {"id": "i2", "task": "image", "answer": [4, 3, 2, 1], "geometry": GRID, "answer_style": "direct", "classes": None},
    {"id": "i3", "task": "image", "answer": [4, 3, 2, 1], "geometry": GRID, "answer_style": "direct", "classes": None},
    {"id": "v1", "task": "video", "answer": [1, 3, 2], "geometry": "{}", "answer_style": "boxed", "classes": [0, 0, 1]},
    {"id": "i1", "task": "image", "answer": [1, 2, 3, 4], "geometry": GRID, "answer_style": "think", "classes": None},
]
PREDICTIONS = {"i1": format_order([2, 3, 1, 4]), "i2": "4, 3, 1, 2", "v1": format_order([2, 3, 1], "boxed")}


@pytest.fixture
def data(tmp_path):
    """A set of two parts, with prompts and media that must not be read."""
    folder = tmp_path / "puzzles"
    folder.mkdir()
    for part, rows in enumerate((ROWS[:2], ROWS[2:])):
        full = [{**row, "num_pieces": len(row["answer"]), "prompt": "x", "images": [b"pixels"]} for row in rows]
        pq.write_table(pa.Table.from_pylist(full), folder / f"data-{part:05d}-of-00002.parquet")
    return folder


@pytest.fixture
def predict(tmp_path):
    """Writes lines into a predictions file; dictionaries as JSON."""

    def write(*lines):
        path = tmp_path / "predictions.jsonl"
        path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
        return path

    return write


@pytest.fixture
def predictions(predict):
    return predict(*({"id": name, "text": text, "model": "m"} for name, text in PREDICTIONS.items()))


def test_scores_by_task_and_number_of_pieces(data, predictions):
    report = score_predictions(data, predictions)
    assert (report["puzzles"], report["predictions"], report["scored"], report["copies"]) == (4, 3, 3, 1)
    image, video = report["groups"]
    assert (image["task"], image["num_pieces"], image["count"]) == ("image", 4, 2)
    assert (image["exact"], image["place_accuracy"], image["valid"]) == (0.5, 0.75, 1.0)
    assert image["neighbor_accuracy"] == pytest.approx((1.0 + 0.25) / 2)
    assert image["visual_jigsaw"] == pytest.approx((1.2 + 0.1) / 2)
    assert (video["task"], video["num_pieces"], video["exact"]) == ("video", 3, 1.0)  # pieces 1 and 2 look the same
    assert report["overall"]["exact"] == pytest.approx(2 / 3)
    assert report["overall"]["reasons"] == {"ok": 3}
    assert json.loads(json.dumps(report)) == report


def test_a_think_tag_that_the_template_wrote_is_no_part_of_a_completion(data, predict):
    """Given completions that begin after `<think>`: without the option they are malformed, with it they count."""
    path = predict({"id": "i1", "text": format_order([2, 3, 1, 4], think_prefilled=True)})
    assert score_predictions(data, path)["overall"]["reasons"] == {"malformed": 1}
    report = score_predictions(data, path, think_prefilled=True)
    assert (report["overall"]["exact"], report["overall"]["visual_jigsaw"]) == (1.0, pytest.approx(1.2))


def test_chance_stands_beside_the_scores_where_it_is_known(data, predictions):
    image, video = score_predictions(data, predictions)["groups"]
    assert image["chance"] == {
        "exact": pytest.approx(1 / 24),
        "place_accuracy": 0.25,
        "neighbor_accuracy": chance_neighbor_accuracy(4, grid=(2, 2)),
    }
    # Of the orders 001, 010 and 100 of two equal clips and a third only the first has neighbours.
    third = pytest.approx(1 / 3)
    assert video["chance"] == {"exact": third, "place_accuracy": pytest.approx(5 / 9), "neighbor_accuracy": third}


def test_chance_of_every_built_in_order_score_stands_beside_it(data, predictions):
    names = ["kendall_tau", "footrule", "longest_run", "smoothed", {"use": "place_accuracy", "args": {"exponent": 2.0}}]
    image, video = score_predictions(data, predictions, names)["groups"]
    assert {*names[:4]} <= image["chance"].keys()
    assert image["chance"]["kendall_tau"] == 0.5
    assert "reward place_accuracy" not in image["chance"]  # an exponent has another level
    assert "kendall_tau" in video["chance"] and "footrule" not in video["chance"]  # two of its clips look alike


def test_what_does_not_fit_is_reported_and_scored_nowhere(data, predict):
    right = format_order([2, 3, 1, 4])
    lines = [{"id": "i1", "text": right}, {"id": "i2", "text": "4, 3, 2, 1"}, "", {"id": "zz", "text": ""}]
    path = predict(*lines, {"id": "i2", "text": "4, 3, 2, 1"}, {"id": "i2", "text": "1"})
    report = score_predictions(data, path)
    assert (report["predictions"], report["scored"]) == (5, 1)
    assert report["missing"] == {"count": 2, "ids": ["i3", "v1"]}
    assert report["duplicate"] == {"count": 1, "ids": ["i2"]}
    assert report["unknown"] == {"count": 1, "ids": ["zz"]}
    assert report["overall"]["exact"] == 1.0


def test_rewards_by_name_and_by_file(data, predictions, tmp_path):
    (tmp_path / "mine.py").write_text("def task_length(completions, task):\n    return [float(len(t)) for t in task]\n")
    report = score_predictions(data, predictions, ["exact", f"{tmp_path}/mine.py:task_length"])
    assert report["scores"][-2:] == ["reward exact", "task_length"]
    assert report["overall"]["task_length"] == 5.0
    assert report["overall"]["reward exact"] == report["overall"]["exact"]


def test_the_table_shows_groups_and_troubles(data, predictions):
    seen = StringIO()
    Console(file=seen, width=200).print(score_table(score_predictions(data, predictions)))
    shown = seen.getvalue()
    for part in (
        "3 of 4 puzzles scored",
        "image",
        "video",
        "0.500 (chance 0.042)",
        "1 puzzles without a prediction: i3",
    ):
        assert part in shown
    assert "1 copies of puzzles" in shown


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{"], "predictions.jsonl:1: no JSON"),
        (["", "[1]"], "predictions.jsonl:2: list, not an object; each line must have id and text"),
        ([{"id": "i1"}], "predictions.jsonl:1: text is missing (keys: id)"),
        ([{"id": 3, "text": ""}], "predictions.jsonl:1: id is 3; it must be text"),
        ([{"id": "i1", "text": None}], "predictions.jsonl:1: text is None; it must be text"),
        ([""], "predictions.jsonl holds no predictions"),
        ([{"id": "zz", "text": ""}], "are these predictions of another set?"),
        (["[" * 100_000], "predictions.jsonl:1: no JSON"),
    ],
)
def test_broken_predictions_are_named_by_line(data, predict, lines, message):
    with pytest.raises(JigsawError) as refused:
        score_predictions(data, predict(*lines))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_files_that_cannot_be_read(data, predictions, tmp_path):
    with pytest.raises(JigsawError, match=r"cannot read the predictions .*none\.jsonl: No such file"):
        score_predictions(data, tmp_path / "none.jsonl")
    for content, encoding in ((b"\x80\x81", "UTF-8"), (b"\xff\xfe\x00", "UTF-16-LE")):
        (tmp_path / "binary.jsonl").write_bytes(content)
        with pytest.raises(JigsawError, match=rf"the predictions .*binary\.jsonl: it is no {encoding} text"):
            score_predictions(data, tmp_path / "binary.jsonl")
    with pytest.raises(JigsawError, match="is no folder; give the folder that `jigsaw build` wrote"):
        score_predictions(tmp_path / "nowhere", predictions)
    (tmp_path / "empty").mkdir()
    with pytest.raises(JigsawError, match="has no parquet parts"):
        score_predictions(tmp_path / "empty", predictions)
    (data / "data-00001-of-00002.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(JigsawError, match=r"cannot read .*data-00001-of-00002\.parquet"):
        score_predictions(data, predictions)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": [1, 2, 2, 4]}, r"row i1: .*answer \[1, 2, 2, 4\] is no permutation"),
        ({"answer": []}, "puzzle i1 has no answer"),
        ({"answer_style": "thinking"}, "answer style 'thinking' is unknown; did you mean think"),
    ],
)
def test_a_broken_puzzle_is_named(tmp_path, predictions, change, message):
    pq.write_table(pa.Table.from_pylist([{**ROWS[0], **change}]), tmp_path / "data-00000-of-00001.parquet")
    with pytest.raises(JigsawError, match=message):
        score_predictions(tmp_path, predictions)


def test_a_set_without_a_needed_column_is_refused(tmp_path, predictions):
    pq.write_table(pa.Table.from_pylist([{"id": "i1", "answer": [1]}]), tmp_path / "part.parquet")
    with pytest.raises(JigsawError, match=r"part\.parquet has no column task; it holds id, answer"):
        score_predictions(tmp_path, predictions)


def test_a_wrong_reward_is_told(data, predictions):
    with pytest.raises(JigsawError, match="did you mean visual_jigsaw"):
        score_predictions(data, predictions, ["visual_jigsw"])
