"""`jigsaw score`: scores predictions by task and number of pieces; reports missing, duplicate and unknown puzzles."""

import json
from io import StringIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from jigsaw.errors import JigsawError
from jigsaw.evaluation.log import read_log
from jigsaw.evaluation.score import score_predictions
from jigsaw.evaluation.tables import log_tables
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
    """A puzzle set of two parts whose prompts and media cannot be read."""
    folder = tmp_path / "puzzles"
    folder.mkdir()
    for part, rows in enumerate((ROWS[:2], ROWS[2:])):
        full = [{**row, "num_pieces": len(row["answer"]), "prompt": "x", "images": [b"pixels"]} for row in rows]
        pq.write_table(pa.Table.from_pylist(full), folder / f"data-{part:05d}-of-00002.parquet")
    return folder


@pytest.fixture
def predict(tmp_path):
    """A function that writes lines to a predictions file, dictionaries as JSON."""

    def write(*lines):
        path = tmp_path / "predictions.jsonl"
        path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
        return path

    return write


@pytest.fixture
def predictions(predict):
    return predict(*({"id": name, "text": text, "model": "m"} for name, text in PREDICTIONS.items()))


def values(estimates, *names):
    return tuple(estimates[name].value for name in names)


def test_scores_by_task_and_number_of_pieces(data, predictions, tmp_path):
    log = score_predictions(data, predictions, out=tmp_path / "out")
    results = log.main.model
    assert (results.num_puzzles, log.coverage.copies) == (3, 1)
    image, video = (group for group in results.groups if group.num_pieces is None)
    assert (image.task, image.num_puzzles) == ("image", 2)
    assert values(image.estimates, "exact", "place_accuracy", "valid") == (0.5, 0.75, 1.0)
    assert image.estimates["neighbor_accuracy"].value == pytest.approx((1.0 + 0.25) / 2)
    assert image.estimates["reward"].value == pytest.approx((1.2 + 0.1) / 2)
    assert (video.task, video.estimates["exact"].value) == ("video", 1.0)  # pieces 1 and 2 look the same
    assert results.estimates["exact"].value == pytest.approx(2 / 3)
    assert results.reasons == {"ok": 3}
    assert read_log(tmp_path / "out") == log
    assert log.note.startswith("There are no figures by difficulty, because the media cannot be read: ")


def test_the_think_tag_of_the_chat_template_need_not_be_in_a_completion(data, predict):
    """A completion that begins after `<think>` is malformed without `think_prefilled` and valid with it."""
    path = predict({"id": "i1", "text": format_order([2, 3, 1, 4], think_prefilled=True)})
    assert score_predictions(data, path).main.model.reasons == {"malformed": 1}
    results = score_predictions(data, path, think_prefilled=True).main.model
    assert values(results.estimates, "exact", "reward") == (1.0, pytest.approx(1.2))


def test_chance_is_reported_with_the_scores(data, predictions):
    image, video = (group for group in score_predictions(data, predictions).main.model.groups if not group.num_pieces)
    names = ("exact", "place_accuracy", "neighbor_accuracy")
    assert [image.estimates[name].chance for name in names] == [
        pytest.approx(1 / 24),
        0.25,
        chance_neighbor_accuracy(4, grid=(2, 2)),
    ]
    # Two clips are identical: of the orders 001, 010 and 100, only the first has right neighbours.
    third = pytest.approx(1 / 3)
    assert [video.estimates[name].chance for name in names] == [third, pytest.approx(5 / 9), third]


def test_missing_duplicate_and_unknown_puzzles_are_reported_and_not_scored(data, predict):
    right = format_order([2, 3, 1, 4])
    lines = [{"id": "i1", "text": right}, {"id": "i2", "text": "4, 3, 2, 1"}, "", {"id": "zz", "text": ""}]
    path = predict(*lines, {"id": "i2", "text": "4, 3, 2, 1"}, {"id": "i2", "text": "1"})
    log = score_predictions(data, path)
    assert log.main.model.num_puzzles == 1
    assert (log.coverage.missing, log.coverage.duplicate, log.coverage.unknown) == (["i3", "v1"], ["i2"], ["zz"])
    assert log.main.model.estimates["exact"].value == 1.0


def test_completions_of_one_puzzle_are_distinguished_by_their_sample_number(data, predict):
    lines = [{"id": name, "text": text, "sample": at} for name, text in PREDICTIONS.items() for at in (1, 0)]
    results = score_predictions(data, predict(*lines)).main.model
    assert (results.sampled.samples, [item.sample for item in results.samples]) == (2, [0, 1] * 3)
    with pytest.raises(JigsawError, match=r"the same number of completions: "):
        score_predictions(data, predict(*lines[1:]))


def test_rewards_may_be_named_or_loaded_from_a_file(data, predictions, tmp_path):
    (tmp_path / "mine.py").write_text("def task_length(completions, task):\n    return [float(len(t)) for t in task]\n")
    estimates = score_predictions(data, predictions, ["exact", f"{tmp_path}/mine.py:task_length"]).main.model.estimates
    assert estimates["reward/task_length"].value == 5.0
    assert estimates["reward/exact"].value == estimates["exact"].value
    assert estimates["reward"].value == pytest.approx(5.0 + estimates["exact"].value)


def test_the_tables_show_groups_and_warnings(data, predictions):
    output = StringIO()
    Console(file=output, width=200).print(log_tables(score_predictions(data, predictions)))
    text = output.getvalue()
    for part in (
        "3 puzzles from 3 sources",
        "image, 4 pieces",
        "video, 3 pieces",
        "1 puzzles without a completion: i3",
    ):
        assert part in text
    assert "1 copies of puzzles" in text


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{"], "predictions.jsonl:1: not JSON"),
        (["", "[1]"], "predictions.jsonl:2: list, not an object; each line must have id and text"),
        ([{"id": "i1"}], "predictions.jsonl:1: text is missing (keys: id)"),
        ([{"id": 3, "text": ""}], "predictions.jsonl:1: id is 3; it must be text"),
        ([{"id": "i1", "text": None}], "predictions.jsonl:1: text is None; it must be text"),
        ([""], "predictions.jsonl has no predictions"),
        ([{"id": "zz", "text": ""}], "name the set that the predictions are for"),
        (["[" * 100_000], "predictions.jsonl:1: not JSON"),
        ([{"id": "i1", "text": "1", "sample": "x"}], "predictions.jsonl:1: sample is 'x'; it must be a whole number"),
    ],
)
def test_an_error_names_the_line_of_a_broken_prediction(data, predict, lines, message):
    with pytest.raises(JigsawError) as error:
        score_predictions(data, predict(*lines))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read_are_refused(data, predictions, tmp_path):
    with pytest.raises(JigsawError, match=r"cannot read the predictions .*none\.jsonl: No such file"):
        score_predictions(data, tmp_path / "none.jsonl")
    for content, encoding in ((b"\x80\x81", "UTF-8"), (b"\xff\xfe\x00", "UTF-16-LE")):
        (tmp_path / "binary.jsonl").write_bytes(content)
        with pytest.raises(JigsawError, match=rf"the predictions .*binary\.jsonl: it is not {encoding} text"):
            score_predictions(data, tmp_path / "binary.jsonl")
    with pytest.raises(JigsawError, match="is not a folder; name a folder that `jigsaw build` wrote"):
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
        ({"answer": [1, 2, 2, 4]}, r"i1.*answer \[1, 2, 2, 4\] is not a permutation"),
        ({"answer": []}, r"i1: answer \[\] is not an order"),
        ({"answer_style": "thinking"}, "answer style 'thinking' is unknown; did you mean think"),
    ],
)
def test_an_error_names_the_broken_puzzle(tmp_path, predictions, change, message):
    pq.write_table(pa.Table.from_pylist([{**ROWS[0], **change}]), tmp_path / "data-00000-of-00001.parquet")
    with pytest.raises(JigsawError, match=message):
        score_predictions(tmp_path, predictions)


def test_a_set_without_a_needed_column_is_refused(tmp_path, predictions):
    pq.write_table(pa.Table.from_pylist([{"id": "i1", "answer": [1]}]), tmp_path / "part.parquet")
    with pytest.raises(JigsawError, match=r"part\.parquet has no column task; its columns are id, answer"):
        score_predictions(tmp_path, predictions)


def test_an_unknown_reward_is_refused_with_the_nearest_one(data, predictions):
    with pytest.raises(JigsawError, match="did you mean visual_jigsaw"):
        score_predictions(data, predictions, ["visual_jigsw"])
