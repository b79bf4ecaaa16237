"""Recognition of sources by their first bytes, and the counts of skipped files."""

import io
import json
import os
import tarfile
from collections import Counter

import pytest
from PIL import Image
from synthetic_media import encode, photo_pixels, write_video

from jigsaw.data import build_puzzles, read_manifest
from jigsaw.data.sources import open_source, scan
from jigsaw.data.sources.recognition import Problem, Skipped, skipped_line
from jigsaw.errors import JigsawError

PICTURE = Image.fromarray(photo_pixels(160, 120))


def listing(source, kind="image", pairs="auto"):
    skipped = Skipped()
    return list(scan(source, kind, pairs, skipped)), dict(skipped)


@pytest.fixture
def mixed(tmp_path):
    """Pictures, a video and other files; some names have no suffix or a wrong one."""
    root = tmp_path / "mixed"
    (root / ".git").mkdir(parents=True)
    for name, kind in {"a.jpg": "JPEG", "bare": "PNG", "c.image": "WEBP", "d.dat": "TIFF", "e.123": "AVIF"}.items():
        (root / name).write_bytes(encode(PICTURE, kind))
    write_video(root / "clip", form="mp4")
    (root / "clip.mp4").write_bytes((root / "clip").read_bytes())
    for name in ("a.txt", "b.TXT", "labels.json", "words", "odd.xyz"):
        (root / name).write_text("some words")
    (root / ".hidden.jpg").write_bytes(b"")
    os.mkfifo(root / "pipe")
    return root


def test_pictures_are_recognised_by_their_bytes_and_other_files_are_counted(mixed):
    entries, skipped = listing(mixed)
    assert entries == ["a.jpg", "bare", "c.image", "d.dat", "e.123"]
    expected = {".txt": 2, ".json": 1, ".mp4": 1, ".xyz": 1, "no suffix": 2, "hidden": 2, "unreadable": 1}
    assert skipped == expected
    assert open_source(mixed, "bare", "image").files["image"] == mixed / "bare"


def test_videos_are_recognised_by_their_bytes(mixed):
    entries, skipped = listing(mixed, "video")
    assert entries == ["clip", "clip.mp4"]
    assert skipped[".jpg"] == 1
    assert sum(skipped.values()) + len(entries) == len(list(mixed.iterdir()))


def test_files_with_other_known_suffixes_are_not_opened(mixed, monkeypatch):
    opened = []
    real = type(mixed).open
    monkeypatch.setattr(
        type(mixed), "open", lambda file, *args, **kw: (opened.append(file.name), real(file, *args, **kw))[1]
    )
    listing(mixed)
    assert set(opened) == {"bare", "c.image", "d.dat", "e.123", "clip", "words", "odd.xyz"}


def test_a_build_prints_and_stores_the_counts_of_skipped_files(mixed, tmp_path):
    summary = build_puzzles("image", mixed, tmp_path / "set", config={"grid": "2x2"}, workers=1, progress=False)
    assert summary.counts.puzzles == 5
    assert summary.skipped[".txt"] == 2
    assert summary.to_json()["skipped"] == summary.skipped == read_manifest(tmp_path / "set").skipped
    expected = "10 other files were skipped: 2 .txt, 2 hidden, 2 no suffix"
    assert skipped_line(summary.skipped).startswith(expected)
    assert any(line.startswith(expected) for line in summary.lines())


def test_the_error_for_a_folder_without_sources_counts_its_files(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.docx").write_bytes(b"")
    with pytest.raises(JigsawError, match=r"has no pictures.*\(1 other file was skipped: 1 \.docx\)"):
        build_puzzles("image", tmp_path / "in", tmp_path / "set")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("photos.zip", "unpack it"), ("shard-0", "rename the file to *.tar"), ("rows.pq", "rename the file to *.parquet")],
)
def test_containers_of_unsupported_formats_or_names_are_rejects(tmp_path, name, expected):
    import pyarrow as pa
    import pyarrow.parquet as pq

    if name == "shard-0":
        with tarfile.open(tmp_path / name, "w") as archive:
            archive.add(__file__, arcname="a.py")
    elif name == "rows.pq":
        pq.write_table(pa.table({"a": [1]}), tmp_path / name)
    else:
        (tmp_path / name).write_bytes(b"PK\3\4")
    (entry,), skipped = listing(tmp_path)
    assert isinstance(entry, Problem)
    assert (entry.path, entry.reason) == (name, "unreadable")
    assert expected in entry.detail
    assert not skipped


def tar_of(*members):
    """The bytes of a tar; members are pairs of name and bytes, or the `TarInfo` of a link."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return stream.getvalue()


def link(name, target, kind=tarfile.LNKTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


DATA = [encode(Image.fromarray(photo_pixels(64, 48, seed=number))) for number in range(4)]


def test_concatenated_tars_are_read_to_the_end(tmp_path):
    concatenated = b"".join(tar_of((f"{number}.png", DATA[number])) for number in range(4))
    for ending in (b"", bytes(512), bytes(100_000)):
        (tmp_path / "all.tar").write_bytes(concatenated + ending)
        entries, _ = listing(tmp_path / "all.tar")
        assert entries == [f"all.tar::{number}.png" for number in range(4)]
        assert [open_source(tmp_path, path, "image").files["image"] for path in entries] == DATA


def test_members_with_the_same_name_in_concatenated_tars_are_reported(tmp_path):
    (tmp_path / "t.tar").write_bytes(tar_of(("a.png", DATA[0])) + tar_of(("a.png", DATA[1])))
    entries, _ = listing(tmp_path / "t.tar")
    assert entries[0] == "t.tar::a.png"
    assert "another member of this name comes later" in entries[1].detail
    assert open_source(tmp_path, "t.tar::a.png", "image").files["image"] == DATA[1]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data + b"signature" * 100,
        lambda data: data + bytes(2048) + b"x",
        lambda data: data[: 512 * (3 + len(DATA[0]) // 512)] + b"\xff" * 512 + data,
        lambda data: data[:700],
    ],
)
def test_a_tar_without_a_valid_end_is_refused(tmp_path, damage):
    (tmp_path / "t.tar").write_bytes(damage(tar_of(("a.png", DATA[0]))))
    (entry,), _ = listing(tmp_path / "t.tar")
    assert (entry.path, entry.reason) == ("t.tar", "unreadable")
    assert "the tar is damaged" in entry.detail


def test_links_in_a_tar_are_followed_and_hidden_members_are_counted(tmp_path):
    members = [("a.png", DATA[0]), ("sub/bare", DATA[1]), ("sub/._a.png", b"x"), ("notes.txt", b"x"), ("words", b"x")]
    links = [link("hard.png", "a.png"), link("sub/soft.png", "../a.png", tarfile.SYMTYPE), link("dead.png", "gone.png")]
    (tmp_path / "t.tar").write_bytes(tar_of(*members, *links))
    entries, skipped = listing(tmp_path / "t.tar")
    assert entries[:4] == ["t.tar::a.png", "t.tar::sub/bare", "t.tar::hard.png", "t.tar::sub/soft.png"]
    assert [entry.path for entry in entries[4:]] == ["t.tar::dead.png"]
    assert skipped == {"hidden": 1, ".txt": 1, "no suffix": 1}
    assert open_source(tmp_path, "t.tar::sub/soft.png", "image").files["image"] == DATA[0]


def test_rgbd_files_that_are_neither_picture_nor_depth_are_counted(tmp_path):
    for name in (
        "color/1.jpg",
        "depth/1.png",
        "color/2.jpg",
        "depth/2.exr",
        "other/3.jpg",
        "pose/1.txt",
        "camera.json",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "depth" / "4.jpg").write_bytes(b"")
    (tmp_path / "color" / "4.jpg").write_bytes(b"")
    entries, skipped = listing(tmp_path, "rgbd")
    assert entries[:2] == ["color/1.jpg::depth/1.png", "color/2.jpg::depth/2.exr"]
    assert (entries[2].path, entries[2].reason) == ("color/4.jpg", "no_depth")
    assert "depth/4.jpg is not in a format that is read as depth" in entries[2].detail
    assert skipped == {".jpg": 2, ".txt": 1}


def test_rejects_are_the_same_in_every_run(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image": [b"junk", None, b"", DATA[0], DATA[0][:-30]]}), tmp_path / "t.parquet")
    texts = []
    for number in range(2):
        build_puzzles(
            "image", tmp_path / "t.parquet", tmp_path / f"set{number}", config={"grid": "1x2", "min_tile": 8}, workers=1
        )
        texts.append((tmp_path / f"set{number}" / "rejects.jsonl").read_text())
    assert texts[0] == texts[1]
    assert Counter(json.loads(line)["reason"] for line in texts[0].splitlines())["unreadable"] == 4
