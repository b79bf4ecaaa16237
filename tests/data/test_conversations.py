"""Conversations as they are found: both forms, paths and bytes, placeholders or none; and what is refused."""

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


def written(folder, rows, name="set.json"):
    text = json.dumps(rows) if name.endswith(".json") else "".join(json.dumps(row) + "\n" for row in rows)
    (folder / name).write_text(text)
    return folder / name


def image():
    return {"type": "image"}


def text(words):
    return {"type": "text", "text": words}


def test_the_form_of_llava(folder):
    row = load_conversations(written(folder, [LLAVA]))[0]
    assert row["id"] == "7"
    assert row["prompt"] == [
        {"role": "user", "content": [image(), text("\nWhich colour?")]},
        {"role": "assistant", "content": [text("Red.")]},
        {"role": "user", "content": [text("And how large?")]},
    ]
    assert row["completion"] == [{"role": "assistant", "content": [text("Small.")]}]
    assert [shown.size for shown in row["images"]] == [(8, 6)]


def test_messages_with_parts_and_a_system_turn(folder):
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [image(), {"type": "text", "text": "or"}, image(), text("?")]},
        {"role": "assistant", "content": [text("The second.")]},
    ]
    rows = [{"messages": turns, "images": ["red.png", "blue.png"]}]
    row = load_conversations(written(folder, rows, "set.jsonl"))[0]
    assert [turn["role"] for turn in row["prompt"]] == ["system", "user"]
    assert row["prompt"][1]["content"] == [image(), text("or"), image(), text("?")]
    assert [shown.size for shown in row["images"]] == [(8, 6), (4, 4)]


def test_parts_may_hold_their_images(folder):
    turns = [
        {"role": "user", "content": [{"type": "image", "image": "blue.png"}, text("?")]},
        {"role": "assistant", "content": "Blue."},
    ]
    row = load_conversations(written(folder, [{"messages": turns}]))[0]
    assert row["prompt"][0]["content"] == [image(), text("?")]
    assert [shown.size for shown in row["images"]] == [(4, 4)]


def test_images_without_placeholders_come_first_and_rows_may_have_none(folder):
    turns = [{"from": "human", "value": "Which colour?"}, {"from": "gpt", "value": "Red."}]
    rows = load_conversations(
        written(folder, [{"conversations": turns, "image": "red.png"}, {"conversations": turns, "id": "only text"}])
    )
    assert rows[0]["prompt"][0]["content"] == [image(), text("Which colour?")]
    assert rows[1]["prompt"][0]["content"] == [text("Which colour?")]
    assert rows[1]["images"] == []


@pytest.mark.parametrize("kept", ["struct", "image feature"])
def test_parquet_files_below_a_folder(folder, kept):
    import datasets

    data = io.BytesIO()
    Image.new("RGB", (5, 3)).save(data, "PNG")
    rows = [LLAVA | {"id": str(n), "image": {"bytes": data.getvalue(), "path": None}} for n in range(2)]
    table = datasets.Dataset.from_list(rows)
    if kept == "image feature":
        table = table.cast_column("image", datasets.Image())
    for number in range(2):
        (folder / "set" / str(number)).mkdir(parents=True)
        table.select([number]).to_parquet(folder / "set" / str(number) / "train.parquet")
    opened = load_conversations(folder / "set")
    assert [row["id"] for row in opened] == ["0", "1"]
    assert opened[1]["images"][0].size == (5, 3)


def test_images_may_be_elsewhere(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("annotations")
    path = written(elsewhere, [LLAVA])
    with pytest.raises(JigsawError, match=r"set.json: row 0: image red.png cannot be opened"):
        load_conversations(path)
    assert load_conversations(path, folder)[0]["images"][0].size == (8, 6)


@pytest.mark.parametrize("path", ["../secret.png", "{folder}/secret.png"])
def test_an_image_outside_of_the_folder_is_refused(folder, path):
    (folder / "set").mkdir()
    Image.new("RGB", (4, 4)).save(folder / "secret.png")
    row = LLAVA | {"image": path.format(folder=folder)}
    with pytest.raises(JigsawError, match="leads out of the folder"):
        load_conversations(written(folder / "set", [row]))


def test_an_absolute_path_below_the_folder_is_as_good_as_a_relative_one(folder):
    row = LLAVA | {"image": str(folder / "red.png")}
    assert load_conversations(written(folder, [row]))[0]["images"][0].size == (8, 6)


def test_an_image_that_is_too_large_is_refused_before_it_is_decoded(folder, monkeypatch):
    monkeypatch.setattr("jigsaw.tasks.media.photos.MAX_PIXELS", 40)
    with pytest.raises(JigsawError, match="8x6 pixels"):
        load_conversations(written(folder, [LLAVA]))


ASKED = [{"from": "human", "value": "<image> <image>"}, {"from": "gpt", "value": "Yes."}]


@pytest.mark.parametrize(
    "row, complaint",
    [
        ({"conversations": ASKED, "image": "red.png"}, "row 0: 2 placeholders for 1 images"),
        ({"conversations": ASKED[:1]}, "row 0: a conversation needs a question and an answer"),
        ({"text": "nothing"}, "row 0: a conversation needs a question and an answer"),
        ({"conversations": [{"from": "robot", "value": "?"}]}, "role 'robot', not one of human"),
        ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "a part of type 'audio'"),
        (
            {"conversations": [ASKED[0] | {"value": "?"}, {"from": "gpt", "value": "<image>"}], "image": "red.png"},
            "row 0: an image in an answer",
        ),
        (["a list"], "row 0: a list, not a conversation"),
    ],
)
def test_what_is_no_conversation_is_refused_when_it_is_opened(folder, row, complaint):
    with pytest.raises(JigsawError, match=complaint):
        load_conversations(written(folder, [row]))


def test_what_is_no_set_is_refused(folder):
    with pytest.raises(JigsawError, match="no such set of conversations"):
        load_conversations(folder / "nowhere.json")
    with pytest.raises(JigsawError, match="no Parquet files in it"):
        load_conversations(folder)
    with pytest.raises(JigsawError, match="has no conversations"):
        load_conversations(written(folder, []))
    (folder / "set.json").write_text("{")
    with pytest.raises(JigsawError, match="cannot be read as a list of rows in JSON"):
        load_conversations(folder / "set.json")
    (folder / "set.parquet").write_text("PAR")
    with pytest.raises(JigsawError, match="cannot be read as Parquet"):
        load_conversations(folder / "set.parquet")


def test_conversations_about_samples(folder):
    (folder / "red.png").rename(folder / "old-barn-02.png")
    rows = load_conversations(write_sample_conversations(folder, folder / "samples.jsonl"))
    texts = [turn["content"][-1]["text"] for turn in (*rows[1]["prompt"], *rows[1]["completion"])]
    assert texts == ["\nWhat does the photo show?", "old barn", "Is it wide, tall or square?", "wide"]


def parquet(folder, cell, kind="struct"):
    """A set in Parquet; of the kind "feature" its metadata say that `datasets` is to open the images by itself."""
    import datasets

    (folder / "set").mkdir()
    table = datasets.Dataset.from_list([LLAVA | {"id": "7", "image": cell}])
    features = table.features | ({"image": datasets.Image()} if kind == "feature" else {})
    schema = datasets.Features(features).arrow_schema
    pq.write_table(table.data.table.cast(schema), folder / "set" / "a.parquet")
    return folder / "set"


@pytest.mark.parametrize("path", ["{folder}/red.png", "../red.png", "https://example.invalid/red.png"])
def test_an_image_feature_opens_nothing_outside_of_the_folder(folder, path):
    path = path.format(folder=folder)
    with pytest.raises(JigsawError, match=r"row 0: image .*red.png cannot be opened"):
        load_conversations(parquet(folder, {"bytes": None, "path": path}, "feature"))


@pytest.mark.parametrize("kind", ["feature", "struct"])
def test_bytes_in_parquet_are_held_to_the_limits_of_photos(folder, monkeypatch, kind):
    path = parquet(folder, {"bytes": (folder / "red.png").read_bytes(), "path": None}, kind)
    assert load_conversations(path)[0]["images"][0].size == (8, 6)
    monkeypatch.setattr("jigsaw.tasks.media.photos.MAX_PIXELS", 40)
    with pytest.raises(JigsawError, match="8x6 pixels"):
        load_conversations(path)


def test_bare_bytes_in_parquet_are_images(folder):
    path = parquet(folder, (folder / "red.png").read_bytes())
    assert load_conversations(path)[0]["images"][0].size == (8, 6)


@pytest.mark.parametrize("kind", ["feature", "struct"])
def test_damaged_bytes_are_one_line_that_names_the_row(folder, kind):
    with pytest.raises(JigsawError, match=r"row 0: the bytes of an image .* leave the row out") as caught:
        load_conversations(parquet(folder, {"bytes": b"no picture", "path": None}, kind))
    assert "\n" not in str(caught.value)


PLAIN_ASK = [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"video": "a.mp4", "conversations": PLAIN_ASK}, "`video` is not read"),
        ({"videos": ["a.mp4"], "image": "red.png", "conversations": PLAIN_ASK}, "`videos` is not read"),
        ({"audio": {"path": "a.wav"}, "conversations": PLAIN_ASK}, "`audio` is not read"),
        ({"video_path": "a.mp4", "conversations": PLAIN_ASK}, "`video_path` is not read"),
        ({"image_path": "red.png", "conversations": PLAIN_ASK}, "`image_path` is not read; name images by"),
        ({"img": "red.png", "conversations": PLAIN_ASK}, "`img` is not read"),
        ({"conversations": [PLAIN_ASK[0] | {"value": None}, PLAIN_ASK[1]]}, "turn 1 has no content but null"),
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
def test_every_row_is_checked_when_the_set_is_opened(folder, row, complaint, at):
    rows = [{"conversations": PLAIN_ASK}] * 3
    rows[at] = row
    with pytest.raises(JigsawError, match=f"row {at}: .*{re.escape(complaint)}"):
        load_conversations(written(folder, rows))


def test_other_keys_are_not_media(folder):
    row = LLAVA | {"video": "", "videos": [], "image_id": 7, "video_id": "x", "image_url": "https://example.invalid/a"}
    assert load_conversations(written(folder, [row]))[0]["images"][0].size == (8, 6)


@pytest.mark.parametrize("kept", ["list of structs", "struct", "list of bytes"])
def test_every_row_of_a_table_is_checked(folder, kept):
    data = (folder / "red.png").read_bytes()
    one = {"bytes": data, "path": None}
    values = {"list of structs": [[one], [one, one]], "struct": [one, one], "list of bytes": [[data], [data, data]]}[
        kept
    ]
    asked = [{"from": "human", "value": "<image> Why?"}, PLAIN_ASK[1]]
    second = asked if "list" in kept else [asked[0] | {"value": "<image> <image>"}, asked[1]]
    name = "images" if "list" in kept else "image"
    table = pa.table({"conversations": [asked, second], name: values})
    pq.write_table(table, folder / "t.parquet")
    with pytest.raises(JigsawError, match=r"row 1: [12] placeholders for [12] images"):
        load_conversations(folder / "t.parquet")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("suffix", ["json", "jsonl", "ndjson"])
def test_sets_are_read_by_their_byte_order_mark_and_cut_at_line_feeds(folder, encoding, suffix):
    rows = [{"conversations": [PLAIN_ASK[0] | {"value": "a\u2028b\x85c"}, PLAIN_ASK[1]]}] * 2
    texts = [json.dumps(row, ensure_ascii=False) for row in rows]
    text = "\n".join(texts) if suffix != "json" else f"[{','.join(texts)}]"
    (folder / f"set.{suffix}").write_bytes(text.encode(encoding))
    opened = load_conversations(folder / f"set.{suffix}")
    assert len(opened) == 2
    assert opened[1]["prompt"][0]["content"][0]["text"] == "a\u2028b\x85c"


def test_a_set_in_latin_1_is_refused_with_its_line(folder):
    (folder / "set.jsonl").write_bytes('{}\n{"x": "ü"}'.encode("latin-1"))
    with pytest.raises(JigsawError, match=r"set\.jsonl: line 2 is not UTF-8"):
        load_conversations(folder / "set.jsonl")
