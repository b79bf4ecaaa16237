"""Reading text files: byte order marks, encodings other than UTF-8, and JSON lines with Unicode line separators."""

import json

import pytest

from jigsaw.errors import JigsawError
from jigsaw.suites.loading import load_items
from jigsaw.text import decoded, json_lines, read_text

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-32"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_text_with_a_byte_order_mark_is_decoded(encoding, tmp_path):
    (tmp_path / "a.txt").write_bytes("bäum\n日本".encode(encoding))
    assert read_text(tmp_path / "a.txt") == "bäum\n日本"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("a\nb\nbäum".encode("latin-1"), r"line 3 is not UTF-8 \(byte 0xe4\), perhaps Latin-1; save the file as UTF-8"),
        ("bäum".encode("utf-16-le"), "UTF-16 or UTF-32 without a byte order mark"),
        ("bäum".encode("utf-32-be"), "UTF-16 or UTF-32 without a byte order mark"),
        ("bäum".encode("utf-16")[:-1], "line 1 is not UTF-16"),
    ],
)
def test_other_encodings_are_refused_with_the_encoding(data, message):
    with pytest.raises(JigsawError, match=message):
        decoded(data, "a.txt")


SEPARATORS = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"]


def escaped(text):
    """Returns JSON text in which only control characters below a space are escaped, as JSON requires."""
    return json.dumps(text, ensure_ascii=min(text) < " ")


@pytest.mark.parametrize("separator", SEPARATORS)
def test_json_lines_end_only_at_line_feeds(separator, tmp_path):
    rows = [{"text": f"a{separator}cat"}, {"text": "b"}]
    lines = [f'{{"text": {escaped(row["text"])}}}' for row in rows]
    (tmp_path / "a.jsonl").write_bytes("\r\n".join([*lines, "", ""]).encode("utf-8-sig"))
    assert list(json_lines(tmp_path / "a.jsonl")) == [(1, rows[0]), (2, rows[1])]


def test_a_line_that_is_not_json_is_refused_with_its_number(tmp_path):
    (tmp_path / "a.jsonl").write_text('{}\n{"a":\n')
    with pytest.raises(JigsawError, match=r"a\.jsonl: line 2 is not JSON"):
        list(json_lines(tmp_path / "a.jsonl"))
    (tmp_path / "a.jsonl").write_text("[" * 100_000)
    with pytest.raises(JigsawError, match="line 1 is nested too deeply"):
        list(json_lines(tmp_path / "a.jsonl"))


@pytest.mark.parametrize("separator", ["\u2028", "\x85", ""])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_benchmark_rows_with_line_separators_in_their_text_are_read(tmp_path, separator, encoding):
    (tmp_path / "vsr" / "images").mkdir(parents=True)
    (tmp_path / "vsr" / "images" / "0.jpg").write_bytes(b"")
    line = json.dumps({"image": "0.jpg", "caption": f"a{separator}cat", "label": 1}, ensure_ascii=False)
    (tmp_path / "vsr" / "test.jsonl").write_bytes(f"{line}\n".encode(encoding))
    (item,) = load_items("jigsaw_vsr", tmp_path)
    assert f"a{separator}cat" in item["prompt"]
