"""Atomic writing: a file or folder appears under its name only when it is complete."""

from pathlib import Path

import pytest

from jigsaw.files import atomic_path, write_atomically


def test_a_failed_write_keeps_the_old_file_and_leaves_no_partial_one(tmp_path, monkeypatch):
    path = tmp_path / "evaluation.json"
    write_atomically(path, "old ä")

    def full(self, content):
        with self.open("wb") as file:
            file.write(content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    assert path.read_text(encoding="utf-8") == "old ä"
    assert [entry.name for entry in tmp_path.iterdir()] == ["evaluation.json"]


def test_bytes_are_written_unchanged(tmp_path):
    write_atomically(tmp_path / "clip", b"\x00\xff")
    assert (tmp_path / "clip").read_bytes() == b"\x00\xff"


def test_a_file_or_folder_gets_its_name_only_when_it_is_complete(tmp_path):
    with atomic_path(tmp_path / "folder") as partial:
        partial.mkdir()
        (partial / "file").touch()
        assert not (tmp_path / "folder").exists()
    with atomic_path(tmp_path / "file") as partial:
        partial.write_text("all")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "folder" / "file").exists()


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch])
def test_an_interrupted_write_leaves_nothing(tmp_path, make):
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "name") as partial:
        make(partial)
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_two_concurrent_writes_of_one_folder_do_not_mix(tmp_path):
    with atomic_path(tmp_path / "folder") as slow:
        slow.mkdir()
        (slow / "file").write_text("slow")
        with atomic_path(tmp_path / "folder") as fast:
            fast.mkdir()
            (fast / "file").write_text("fast")
    assert (tmp_path / "folder" / "file").read_text() == "fast"
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_a_folder_whose_name_is_taken_by_a_file_is_an_error(tmp_path):
    (tmp_path / "name").touch()
    with pytest.raises(OSError, match="name"), atomic_path(tmp_path / "name") as partial:
        partial.mkdir()
    assert [entry.name for entry in tmp_path.iterdir()] == ["name"]
