"""`jigsaw import` of third-party questions: all layouts, the imported rows, and the errors for invalid rows."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jigsaw.data import check_puzzles, import_questions, load_puzzles, preview_puzzles, read_manifest
from jigsaw.errors import JigsawError
from jigsaw.rewards import Composition


def picture(width=40, height=30, kind="JPEG", level=120):
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (level, 80, 40)).save(stream, kind)
    return stream.getvalue()


def write_rows(path, rows):
    """Writes a file of rows as JSON lines, a JSON list or Parquet, by its suffix."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def import_rows(tmp_path, rows, name="rows.jsonl", **options):
    """Writes and imports rows, and loads the imported set."""
    import_questions(write_rows(tmp_path / name, rows), tmp_path / "set", progress=False, **options)
    return load_puzzles(tmp_path / "set")


def text_of(row):
    return "\n".join(part["text"] for part in row["prompt"][-1]["content"] if part["type"] == "text")


def test_a_choice_is_prompted_with_its_options_and_answered_by_a_label(tmp_path):
    (tmp_path / "a.jpg").write_bytes(picture())
    options = ["a cat", "a dog", "a bird"]
    rows = [
        {"question": "<image>What is it?", "options": options, "answer": "a dog", "image": "a.jpg"},
        {"question": "<image>What is it not?", "options": options, "answer": "(C)", "image": "a.jpg"},
    ]
    first, second = import_rows(tmp_path, rows)
    assert (first["answer_kind"], first["answer"], second["answer"]) == ("choice", "B", "C")
    assert first["answer_args"] == {"options": ["A", "B", "C"], "texts": options} and first["num_pieces"] == 3
    assert "A. a cat\nB. a dog\nC. a bird" in text_of(first) and "one of A, B or C" in text_of(first)
    assert [part["type"] for part in first["prompt"][0]["content"]][:2] == ["image", "text"]
    assert first["images"][0].size == (40, 30) and first["source"]["path"] == second["source"]["path"]


def test_a_question_needs_no_picture(tmp_path):
    (row,) = import_rows(tmp_path, [{"question": "What is 2 + 3?", "answer": 5}])
    assert row["answer"] == 5 and row["answer_kind"] == "number" and not row.get("images")
    assert check_puzzles(tmp_path / "set", workers=1, progress=False).ok
    assert "What is 2 + 3?" in preview_puzzles(tmp_path / "set", tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("12", "number"),
        (0.5, "number"),
        ("3/4", "number"),
        (r"2\sqrt{221}", "math"),
        ("x = 3", "math"),
        ("north", "text"),
    ],
)
def test_the_kind_is_inferred_from_the_answer(tmp_path, answer, kind):
    if kind == "math":
        pytest.importorskip("math_verify")
    (row,) = import_rows(tmp_path, [{"question": "?", "answer": answer}])
    assert row["answer_kind"] == kind


def test_easyr1_rows_with_image_bytes_are_imported(tmp_path):
    rows = [{"problem": "<image>How long is x?", "answer": "3", "images": [{"bytes": picture(), "path": None}]}]
    (row,) = import_rows(tmp_path, rows, "train.parquet", layout="easyr1")
    assert row["answer"] == 3 and row["images"][0].size == (40, 30) and row["answer_style"] == "think"


def test_verl_rows_keep_their_instruction(tmp_path):
    prompt_text = "<image>Find x. You FIRST think about it. The final answer MUST BE put in \\boxed{}."
    rows = [
        {
            "data_source": "hiyouga/geometry3k",
            "prompt": [{"role": "user", "content": prompt_text}],
            "images": [{"bytes": picture()}],
            "reward_model": {"style": "rule", "ground_truth": "7.5"},
            "extra_info": {"split": "train", "index": 4},
        }
    ]
    (row,) = import_rows(tmp_path, rows, "train.parquet", layout="verl")
    assert row["answer_style"] == "boxed" and row["answer"] == 7.5
    assert text_of(row) == prompt_text.removeprefix("<image>"), "no second instruction is added"
    right = Composition(["answer"]).score(
        ["<think>a</think>So \\boxed{7.5}"],
        {name: [row[name]] for name in ("answer", "answer_kind", "answer_args", "answer_style")},
    )
    assert right == {"answer": [1.2]}


def test_llava_rows_give_one_question_per_answer_with_the_turns_before_it(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "1.png").write_bytes(picture(kind="PNG"))
    turns = [("human", "<image>\nIs it red?"), ("gpt", "Yes"), ("human", "Is it large?"), ("gpt", "No")]
    rows = [{"id": "7", "image": "1.png", "conversations": [{"from": who, "value": text} for who, text in turns]}]
    first, second = import_rows(tmp_path, rows, "llava.json", layout="llava", media_root=tmp_path / "pictures")
    assert [first["answer"], second["answer"]] == ["Yes", "No"]
    assert [turn["role"] for turn in second["prompt"]] == ["user", "assistant", "user"]
    assert read_manifest(tmp_path / "set").counts.sources == 1


def test_pictures_come_first_if_the_text_has_no_placeholder(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(picture())
    (row,) = import_rows(tmp_path, [{"question": "Same?", "answer": "yes", "images": ["a.jpg", "b.jpg"]}])
    assert [part["type"] for part in row["prompt"][0]["content"]] == ["image", "image", "text", "text"]


def test_a_box_has_the_size_of_its_picture_as_arguments(tmp_path):
    (tmp_path / "a.jpg").write_bytes(picture())
    (row,) = import_rows(tmp_path, [{"question": "Where?", "kind": "box", "answer": [1, 2, 10, 20], "image": "a.jpg"}])
    assert row["answer_args"] == {"height": 30, "width": 40}


def test_a_box_is_checked_against_the_upright_picture(tmp_path):
    """An EXIF orientation rotates a picture of 40x30 pixels to 30x40."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.jpg", exif=exif)
    (row,) = import_rows(tmp_path, [{"question": "Where?", "kind": "box", "answer": [1, 2, 10, 39], "image": "a.jpg"}])
    assert row["answer_args"] == {"height": 40, "width": 30} and row["images"][0].size == (30, 40)


def test_the_bytes_of_a_jpeg_are_stored_unchanged(tmp_path):
    (tmp_path / "a.jpg").write_bytes(picture())
    import_rows(tmp_path, [{"question": "?", "answer": "yes", "image": "a.jpg"}])
    (table,) = [pq.read_table(file) for file in (tmp_path / "set").glob("*.parquet")]
    assert table["images"].to_pylist()[0][0]["bytes"] == picture()


def test_frames_of_a_video_are_stored(tmp_path, video):
    rows = [{"question": "<video>What happens?", "answer": "rain", "video": video.name}]
    (row,) = import_rows(tmp_path, rows, media_root=video.parent)
    (clip,) = row["videos"]
    assert len(clip.frames) == 4 and (np.diff(clip.times) > 0).all()


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    import av

    path = tmp_path_factory.mktemp("video") / "video.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(20):
            pixels = np.full((48, 64, 3), number * 10, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "?", "options": ["a", "b"], "answer": "c"}, "answer 'c' is not one of the options a, b"),
        ({"question": "?", "options": ["a"], "answer": "a"}, "give two or more different labels"),
        ({"question": "?", "kind": "number", "answer": "many"}, "answer 'many' is not a number"),
        ({"question": "?", "kind": "colour", "answer": "red"}, "answer kind 'colour' is unknown"),
        ({"question": "?", "kind": "box", "answer": [1, 2, 50, 20], "image": "a.jpg"}, "outside the picture of 40x30"),
        ({"question": "?", "kind": "interval", "answer": [5, 2]}, "the end after the start"),
        (
            {"question": "<image><image>?", "answer": 1, "image": "a.jpg"},
            "for 2 images, but the row has 1",
        ),
        ({"question": "<image>?", "answer": 1}, "for 1 images, but the row has 0"),
        ({"question": "?", "answer": 1, "image": "gone.jpg"}, "gone.jpg cannot be read in .*--media-root names"),
        ({"question": "?", "answer": 1, "image": "../a.jpg"}, "cannot be read"),
        (
            {"question": "?", "answer": 1, "image": "broken.jpg"},
            "broken.jpg: .* no known picture format; correct it",
        ),
        ({"question": "?", "answer": None}, "it has no answer"),
        ({"question": "?", "options": ["a", "a"], "answer": "a"}, "two of its options are 'a'; all options"),
        ({"question": "?", "options": ["a", None], "answer": "a"}, "its option 2 is null, not a text"),
        ({"question": "?", "options": "ab", "answer": "a"}, "its options are .*ab.*, not a list of texts"),
        ({"question": "?", "options": ["B", "A"], "answer": "A"}, "the label of one option and the text of another"),
        ({"question": "?", "answer": [1, 2]}, "is of no known kind; store a text, or set kind to interval or box"),
        ({"question": "?", "answer": {"a": 1}}, "is of no known kind; store a text"),
        (
            {"question": "?", "kind": "box", "answer": [1, 2, 3, 4]},
            "box needs width and height in its answer_args",
        ),
        ({"question": "?", "kind": "math", "answer": "2 3"}, "math-verify cannot parse the answer"),
        ({"problem": "?", "answer": 1}, "its question is null, not a text; is this the right layout?"),
    ],
)
def test_the_error_for_an_invalid_row_names_the_row_and_the_remedy(tmp_path, row, message):
    (tmp_path / "a.jpg").write_bytes(picture())
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    rows = [{"question": "Fine?", "answer": "yes"}, row]
    with pytest.raises(JigsawError, match=f"rows.jsonl: row 1: .*({message})") as error:
        import_rows(tmp_path, rows)
    assert "\n" not in str(error.value)
    with pytest.raises(JigsawError):
        load_puzzles(tmp_path / "set")  # an incomplete import cannot be loaded


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "easyr2"}, "layout 'easyr2' is unknown; did you mean easyr1"),
        ({"answer_style": "box"}, "answer style 'box' is unknown; did you mean boxed"),
        ({"media_root": "nowhere"}, "nowhere is not a folder"),
    ],
)
def test_a_wrong_option_is_refused(tmp_path, options, message):
    with pytest.raises(JigsawError, match=message):
        import_rows(tmp_path, [{"question": "?", "answer": 1}], **options)


def test_an_empty_and_a_missing_file_are_refused(tmp_path):
    with pytest.raises(JigsawError, match="has no rows"):
        import_rows(tmp_path, [])
    with pytest.raises(JigsawError, match="no such file"):
        import_questions(tmp_path / "gone.jsonl", tmp_path / "set")


def test_duplicate_questions_are_loaded_once(tmp_path):
    rows = import_rows(tmp_path, [{"question": "What is 2 + 3?", "answer": 5}] * 2)
    assert len(rows) == 1
