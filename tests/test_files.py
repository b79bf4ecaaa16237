import pytest

from jigsaw.files import write_whole


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "evaluation.json"
    write_whole(path, "old ä")

    def full(self, content):
        with self.open("wb") as file:
            file.write(content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "new")
    assert path.read_text(encoding="utf-8") == "old ä"
    assert [entry.name for entry in tmp_path.iterdir()] == ["evaluation.json"]


def test_bytes_are_written_as_they_are(tmp_path):
    write_whole(tmp_path / "clip", b"\x00\xff")
    assert (tmp_path / "clip").read_bytes() == b"\x00\xff"
