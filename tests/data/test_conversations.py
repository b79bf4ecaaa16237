"""Loading of conversations: both formats, images as paths or bytes, placeholders, and what is refused."""

from __future__ import annotations

import io
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jigsaw.data.loading.conversations import load_conversations, write_sample_conversations
from jigsaw.errors import JigsawError

LLAVA = {
    "id": 7,
    "image": "red.png",
    "conversations": [
        {"from": "human", "value": "<image>\nWhich colour?"},
        {"from": "gpt", "value": " Red.\n"},
        {"from": "human", "value": "And how large?"},
        {"from": "gpt", "value": "Small."},
        {"from": "human", "value": "Thanks!"},
    ],
}


@pytest.fixture
def folder(tmp_path):
    for name, size in (("red", (8, 6)), ("blue", (4, 4))):
        Image.new("RGB", size, name).save(tmp_path / f"{name}.png")
    return tmp_path


def write_set(folder, rows, name="set.json"):
    text = json.dumps(rows) if name.endswith(".json") else "".join(json.dumps(row) + "\n" for row in rows)
    (folder / name).write_text(text)
    return folder / name


def image():
    return {"type": "image"}


def text_part(words):
    return {"type": "text", "text": words}


def test_conversations_in_the_format_of_llava_are_loaded(folder):
    row = load_conversations(write_set(folder, [LLAVA]))[0]
    assert row["id"] == "7"
    assert row["prompt"] == [
        {"role": "user", "content": [image(), text_part("\nWhich colour?")]},
        {"role": "assistant", "content": [text_part("Red.")]},
        {"role": "user", "content": [text_part("And how large?")]},
    ]
    assert row["completion"] == [{"role": "assistant", "content": [text_part("Small.")]}]
    assert [loaded_image.size for loaded_image in row["images"]] == [(8, 6)]


def test_messages_with_parts_and_a_system_turn_are_loaded(folder):
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [image(), {"type": "text", "text": "or"}, image(), text_part("?")]},
        {"role": "assistant", "content": [text_part("The second.")]},
    ]
    rows = [{"messages": turns, "images": ["red.png", "blue.png"]}]
    row = load_conversations(write_set(folder, rows, "set.jsonl"))[0]
    assert [turn["role"] for turn in row["prompt"]] == ["system", "user"]
    assert row["prompt"][1]["content"] == [image(), text_part("or"), image(), text_part("?")]
    assert [loaded_image.size for loaded_image in row["images"]] == [(8, 6), (4, 4)]


def test_the_parts_of_a_message_may_hold_the_images(folder):
    turns = [
        {"role": "user", "content": [{"type": "image", "image": "blue.png"}, text_part("?")]},
        {"role": "assistant", "content": "Blue."},
    ]
    row = load_conversations(write_set(folder, [{"messages": turns}]))[0]
    assert row["prompt"][0]["content"] == [image(), text_part("?")]
    assert [loaded_image.size for loaded_image in row["images"]] == [(4, 4)]


def test_images_without_placeholders_come_first_and_rows_may_have_no_images(folder):
    turns = [{"from": "human", "value": "Which colour?"}, {"from": "gpt", "value": "Red."}]
    rows = load_conversations(
        write_set(folder, [{"conversations": turns, "image": "red.png"}, {"conversations": turns, "id": "only text"}])
    )
    assert rows[0]["prompt"][0]["content"] == [image(), text_part("Which colour?")]
    assert rows[1]["prompt"][0]["content"] == [text_part("Which colour?")]
    assert rows[1]["images"] == []


@pytest.mark.parametrize("storage", ["struct", "image feature"])
def test_parquet_files_in_sub_folders_are_loaded(folder, storage):
    import datasets

    data = io.BytesIO()
    Image.new("RGB", (5, 3)).save(data, "PNG")
    rows = [LLAVA | {"id": str(n), "image": {"bytes": data.getvalue(), "path": None}} for n in range(2)]
    table = datasets.Dataset.from_list(rows)
    if storage == "image feature":
        table = table.cast_column("image", datasets.Image())
    for number in range(2):
        (folder / "set" / str(number)).mkdir(parents=True)
        table.select([number]).to_parquet(folder / "set" / str(number) / "train.parquet")
    rows = load_conversations(folder / "set")
    assert [row["id"] for row in rows] == ["0", "1"]
    assert rows[1]["images"][0].size == (5, 3)


def test_images_may_be_in_another_folder(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("annotations")
    path = write_set(elsewhere, [LLAVA])
    with pytest.raises(JigsawError, match=r"set.json: row 0: image red.png cannot be opened"):
        load_conversations(path)
    assert load_conversations(path, folder)[0]["images"][0].size == (8, 6)


@pytest.mark.parametrize("path", ["../secret.png", "{folder}/secret.png"])
def test_an_image_outside_the_folder_is_refused(folder, path):
    (folder / "set").mkdir()
    Image.new("RGB", (4, 4)).save(folder / "secret.png")
    row = LLAVA | {"image": path.format(folder=folder)}
    with pytest.raises(JigsawError, match="leads out of the folder"):
        load_conversations(write_set(folder / "set", [row]))


def test_an_absolute_path_inside_the_folder_is_accepted(folder):
    row = LLAVA | {"image": str(folder / "red.png")}
    assert load_conversations(write_set(folder, [row]))[0]["images"][0].size == (8, 6)


def test_an_image_that_is_too_large_is_refused_before_it_is_decoded(folder, monkeypatch):
    monkeypatch.setattr("jigsaw.tasks.media.photos.MAX_PIXELS", 40)
    with pytest.raises(JigsawError, match="8x6 pixels"):
        load_conversations(write_set(folder, [LLAVA]))


TWO_IMAGES = [{"from": "human", "value": "<image> <image>"}, {"from": "gpt", "value": "Yes."}]


@pytest.mark.parametrize(
    "row, message",
    [
        ({"conversations": TWO_IMAGES, "image": "red.png"}, "row 0: 2 placeholders for 1 images"),
        ({"conversations": TWO_IMAGES[:1]}, "row 0: a conversation needs a question and an answer"),
        ({"text": "nothing"}, "row 0: a conversation needs a question and an answer"),
        ({"conversations": [{"from": "robot", "value": "?"}]}, "role 'robot', not one of human"),
        ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "a part of type 'audio'"),
        (
            {
                "conversations": [TWO_IMAGES[0] | {"value": "?"}, {"from": "gpt", "value": "<image>"}],
                "image": "red.png",
            },
            "row 0: an image in an answer",
        ),
        (["a list"], "row 0: a list, not a conversation"),
    ],
)
def test_an_invalid_conversation_is_refused_when_the_set_is_loaded(folder, row, message):
    with pytest.raises(JigsawError, match=message):
        load_conversations(write_set(folder, [row]))


def test_an_invalid_set_is_refused(folder):
    with pytest.raises(JigsawError, match="no such set of conversations"):
        load_conversations(folder / "nowhere.json")
    with pytest.raises(JigsawError, match="no Parquet files in it"):
        load_conversations(folder)
    with pytest.raises(JigsawError, match="has no conversations"):
        load_conversations(write_set(folder, []))
    (folder / "set.json").write_text("{")
    with pytest.raises(JigsawError, match="cannot be read as a list of rows in JSON"):
        load_conversations(folder / "set.json")
    (folder / "set.parquet").write_text("PAR")
    with pytest.raises(JigsawError, match="cannot be read as Parquet"):
        load_conversations(folder / "set.parquet")


def test_sample_conversations_describe_the_sample_photos(folder):
    (folder / "red.png").rename(folder / "old-barn-02.png")
    rows = load_conversations(write_sample_conversations(folder, folder / "samples.jsonl"))
    texts = [turn["content"][-1]["text"] for turn in (*rows[1]["prompt"], *rows[1]["completion"])]
    assert texts == ["\nWhat does the photo show?", "old barn", "Is it wide, tall or square?", "wide"]


def parquet(folder, cell, kind="struct"):
    """A set in Parquet; with the kind "feature" its metadata tell `datasets` to open the images."""
    import datasets

    (folder / "set").mkdir()
    table = datasets.Dataset.from_list([LLAVA | {"id": "7", "image": cell}])
    features = table.features | ({"image": datasets.Image()} if kind == "feature" else {})
    schema = datasets.Features(features).arrow_schema
    pq.write_table(table.data.table.cast(schema), folder / "set" / "a.parquet")
    return folder / "set"


@pytest.mark.parametrize("path", ["{folder}/red.png", "../red.png", "https://example.invalid/red.png"])
def test_an_image_feature_opens_no_file_outside_the_folder(folder, path):
    path = path.format(folder=folder)
    with pytest.raises(JigsawError, match=r"row 0: image .*red.png cannot be opened"):
        load_conversations(parquet(folder, {"bytes": None, "path": path}, "feature"))


@pytest.mark.parametrize("kind", ["feature", "struct"])
def test_the_size_limit_applies_to_images_stored_in_parquet(folder, monkeypatch, kind):
    path = parquet(folder, {"bytes": (folder / "red.png").read_bytes(), "path": None}, kind)
    assert load_conversations(path)[0]["images"][0].size == (8, 6)
    monkeypatch.setattr("jigsaw.tasks.media.photos.MAX_PIXELS", 40)
    with pytest.raises(JigsawError, match="8x6 pixels"):
        load_conversations(path)


def test_a_column_of_bytes_in_parquet_holds_images(folder):
    path = parquet(folder, (folder / "red.png").read_bytes())
    assert load_conversations(path)[0]["images"][0].size == (8, 6)


@pytest.mark.parametrize("kind", ["feature", "struct"])
def test_the_error_for_damaged_image_bytes_names_the_row(folder, kind):
    with pytest.raises(JigsawError, match=r"row 0: the bytes of an image .* leave the row out") as error:
        load_conversations(parquet(folder, {"bytes": b"no picture", "path": None}, kind))
    assert "\n" not in str(error.value)


PLAIN_TURNS = [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"video": "a.mp4", "conversations": PLAIN_TURNS}, "`video` is not read"),
        ({"videos": ["a.mp4"], "image": "red.png", "conversations": PLAIN_TURNS}, "`videos` is not read"),
        ({"audio": {"path": "a.wav"}, "conversations": PLAIN_TURNS}, "`audio` is not read"),
        ({"video_path": "a.mp4", "conversations": PLAIN_TURNS}, "`video_path` is not read"),
        ({"image_path": "red.png", "conversations": PLAIN_TURNS}, "`image_path` is not read; name images by"),
        ({"img": "red.png", "conversations": PLAIN_TURNS}, "`img` is not read"),
        ({"conversations": [PLAIN_TURNS[0] | {"value": None}, PLAIN_TURNS[1]]}, "turn 1 has no content but null"),
        ({"conversations": "Why?"}, "its turns are a str, not a list"),
        ({"conversations": ["Why?"]}, "turn 1 is a str, not an object"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
            "turn 1 has a part of type 'image_url'",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": None}]}]}, "has a text that is null"),
    ],
)
@pytest.mark.parametrize("at", [0, 2])
def test_every_row_is_checked_when_the_set_is_loaded(folder, row, message, at):
    rows = [{"conversations": PLAIN_TURNS}] * 3
    rows[at] = row
    with pytest.raises(JigsawError, match=f"row {at}: .*{re.escape(message)}"):
        load_conversations(write_set(folder, rows))


def test_other_keys_are_not_treated_as_media(folder):
    row = LLAVA | {"video": "", "videos": [], "image_id": 7, "video_id": "x", "image_url": "https://example.invalid/a"}
    assert load_conversations(write_set(folder, [row]))[0]["images"][0].size == (8, 6)


@pytest.mark.parametrize("storage", ["list of structs", "struct", "list of bytes"])
def test_every_row_of_a_table_is_checked(folder, storage):
    data = (folder / "red.png").read_bytes()
    one = {"bytes": data, "path": None}
    values = {"list of structs": [[one], [one, one]], "struct": [one, one], "list of bytes": [[data], [data, data]]}[
        storage
    ]
    one_image = [{"from": "human", "value": "<image> Why?"}, PLAIN_TURNS[1]]
    second = one_image if "list" in storage else [one_image[0] | {"value": "<image> <image>"}, one_image[1]]
    name = "images" if "list" in storage else "image"
    table = pa.table({"conversations": [one_image, second], name: values})
    pq.write_table(table, folder / "t.parquet")
    with pytest.raises(JigsawError, match=r"row 1: [12] placeholders for [12] images"):
        load_conversations(folder / "t.parquet")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("suffix", ["json", "jsonl", "ndjson"])
def test_sets_are_decoded_by_their_byte_order_mark_and_split_only_at_line_feeds(folder, encoding, suffix):
    rows = [{"conversations": [PLAIN_TURNS[0] | {"value": "a\u2028b\x85c"}, PLAIN_TURNS[1]]}] * 2
    texts = [json.dumps(row, ensure_ascii=False) for row in rows]
    text = "\n".join(texts) if suffix != "json" else f"[{','.join(texts)}]"
    (folder / f"set.{suffix}").write_bytes(text.encode(encoding))
    rows = load_conversations(folder / f"set.{suffix}")
    assert len(rows) == 2
    assert rows[1]["prompt"][0]["content"][0]["text"] == "a\u2028b\x85c"


def test_a_set_in_latin_1_is_refused_with_the_line_number(folder):
    (folder / "set.jsonl").write_bytes('{}\n{"x": "ü"}'.encode("latin-1"))
    with pytest.raises(JigsawError, match=r"set\.jsonl: line 2 is not UTF-8"):
        load_conversations(folder / "set.jsonl")
