"""Sources in folders, lists, tars and tables, and RGB-D pairs: all give the same pixels."""

import io
import os
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from synthetic_media import encode, photo_pixels

from jigsaw.data import build_puzzles, check_puzzles, load_puzzles
from jigsaw.data.building.planning import Job, Refusal, plan_source
from jigsaw.data.sources import open_source, scan, source_root
from jigsaw.data.sources.recognition import Problem
from jigsaw.data.storage.settings import BuildConfig
from jigsaw.errors import JigsawError
from jigsaw.tasks import get_task

CONFIG = {"grid": "2x2"}


def listing(source, kind="image", pairs="auto"):
    return list(scan(source, kind, pairs))


@pytest.fixture
def files(tmp_path):
    """Four photos in a folder, by name."""
    root = tmp_path / "photos"
    (root / "b").mkdir(parents=True)
    for number, name in enumerate(["a.jpg", "b/c.png", "b/d.webp", "e.PNG"]):
        Image.fromarray(photo_pixels(160, 120, seed=number)).save(root / name, lossless=True, quality=95)
    return root


def pixels_by_fingerprint(out):
    return {
        row["source"]["fingerprint"]: [np.asarray(image).tobytes() for image in row["images"]]
        for row in load_puzzles(out)
    }


def test_a_folder_is_listed_in_byte_order_without_hidden_and_other_files(files):
    (files / ".hidden.jpg").write_bytes(b"")
    (files / "notes.md").write_bytes(b"")
    (files / "a-first").mkdir()
    assert listing(files) == ["a.jpg", "b/c.png", "b/d.webp", "e.PNG"]


def test_links_are_followed_without_loops(files):
    (files / "b" / "back").symlink_to(files)
    (files / "b" / "self").symlink_to(".")
    (files / "again.jpg").symlink_to("a.jpg")
    (files / "dead.jpg").symlink_to("nowhere.jpg")
    assert listing(files) == ["a.jpg", "again.jpg", "b/c.png", "b/d.webp", "dead.jpg", "e.PNG"]


def test_unusual_names_are_kept_and_undecodable_ones_are_reported(files, tmp_path):
    odd = ['quo"te.jpg', "new\nline.jpg", "tab\t.jpg", "ünï.jpg", "a::b.jpg", "{}.jpg", " .jpg"]
    for name in odd:
        (files / name).write_bytes((files / "a.jpg").read_bytes())
    with open(os.fsencode(files) + b"/\xff.jpg", "wb"):  # noqa: PTH123 - the name is not valid text
        pass
    entries = listing(files)
    assert {entry for entry in entries if isinstance(entry, str)} >= set(odd)
    assert [entry for entry in entries if isinstance(entry, Problem)] == [
        Problem("\\udcff.jpg", "bad_name", "the name is not UTF-8"),
    ]
    summary = build_puzzles("image", files, tmp_path / "set", config=CONFIG, workers=1)
    assert summary.counts.rejects == {"bad_name": 1}
    assert len(load_puzzles(tmp_path / "set")) == 4
    assert all(row["images"] for row in load_puzzles(tmp_path / "set"))


@pytest.fixture
def forbidden():
    """A folder of photos of which some may not be read; root, who may read all files, becomes another user."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        touch(root, "shut/b.png", "a.jpg", "c.jpg", "000.tar")
        Image.fromarray(photo_pixels(90, 90)).save(root / "c.jpg")
        root.chmod(0o755)
        for name in ("shut", "a.jpg", "000.tar"):
            (root / name).chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        yield root
        os.seteuid(user)
        (root / "shut").chmod(0o755)


def test_files_without_read_permission_are_rejects(forbidden):
    assert listing(forbidden) == [
        Problem("000.tar", "unreadable", "Permission denied"),
        "a.jpg",
        "c.jpg",
        Problem("shut/", "unreadable", "folder: Permission denied"),
    ]
    job = Job(root=forbidden, build=BuildConfig(spec="image", config={}))
    planned = {name: plan_source(get_task("image", min_tile=8), job, name) for name in ("a.jpg", "c.jpg")}
    assert planned["a.jpg"].refusals == [Refusal(None, "unreadable", "Permission denied")]
    assert len(planned["c.jpg"].rows) == 1


def test_a_pipe_with_the_suffix_of_a_photo_is_a_reject(files, tmp_path):
    os.mkfifo(files / "pipe.jpg")
    summary = build_puzzles("image", files, tmp_path / "set", config=CONFIG, workers=1, time_limit=20)
    assert summary.counts.rejects == {"unreadable": 1}


def test_the_sources_of_a_list_are_its_lines(files, tmp_path):
    lines = tmp_path / "list.txt"
    lines.write_text(f"# chosen\nphotos/a.jpg\n\n./photos/b/c.png\r\n{files / 'e.PNG'}\nphotos/missing.jpg\n")
    assert listing(lines) == ["photos/a.jpg", "photos/b/c.png", "photos/e.PNG", "photos/missing.jpg"]
    summary = build_puzzles("image", lines, tmp_path / "set", config=CONFIG, workers=1)
    assert summary.counts.rejects == {"unreadable": 1}
    assert len(load_puzzles(tmp_path / "set")) == 3


OUTSIDE = ["../secret.jpg", "a/../../secret.jpg", "/etc/passwd", "../set.tar::a.jpg", "/etc/passwd::0"]


@pytest.mark.parametrize("kind", ["image", "video", "rgbd"])
@pytest.mark.parametrize("path", OUTSIDE)
def test_a_path_outside_the_source_folder_is_refused(files, kind, path):
    """A third party may have written the row, so that a path outside the folder must not be opened."""
    (files.parent / "secret.jpg").write_bytes((files / "a.jpg").read_bytes())
    write_tar(files.parent / "set.tar", files)
    with pytest.raises(OSError, match="leads out of the folder"):
        open_source(files, path, kind)
    if kind == "rgbd":
        with pytest.raises(OSError, match="leads out of the folder"):
            open_source(files, f"a.jpg::{path}", kind)


def test_a_list_cannot_name_files_outside_its_folder(files, tmp_path):
    lines = tmp_path / "lists" / "list.txt"
    lines.parent.mkdir()
    lines.write_text(f"../photos/a.jpg\n{files / 'a.jpg'}\na.jpg\tb/../../c.png\n")
    entries = list(scan(lines, "image"))
    assert [type(entry) for entry in entries] == [Problem] * 3
    assert {entry.reason for entry in entries} == {"bad_name"}
    assert "link the files into its folder" in entries[0].detail
    (lines.parent / "photos").symlink_to(files)
    lines.write_text("photos/a.jpg\n")
    assert open_source(lines.parent, *scan(lines, "image"), "image").fingerprint


def test_the_name_of_a_tar_member_does_not_open_a_file_outside_the_tar(files, tmp_path):
    """A member is read as bytes at an offset and is not unpacked; a link to a file outside is a problem."""
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"not this")
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        archive.add(files / "a.jpg", arcname="../secret.jpg")
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        archive.addfile(link)
    entries = list(scan(tmp_path / "t.tar", "image"))
    assert entries[0] == "t.tar::../secret.jpg"
    assert [entry.path for entry in entries[1:]] == ["t.tar::link.jpg"]
    assert "a link to secret.jpg, which is not in the tar" in entries[1].detail
    opened = open_source(tmp_path, "t.tar::../secret.jpg", "image")
    assert opened.files["image"] == (files / "a.jpg").read_bytes()


def write_tar(path, files):
    with tarfile.open(path, "w") as archive:
        for name in ("a.jpg", "b/c.png", "b/d.webp", "e.PNG"):
            archive.add(files / name, arcname=f"samples/{name}")
            info = tarfile.TarInfo(f"samples/{name}.json")
            info.size = 2
            archive.addfile(info, io.BytesIO(b"{}"))
    return path


def write_parquet(path, files, *, plain=False):
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = [(files / name).read_bytes() for name in ("a.jpg", "b/c.png", "b/d.webp", "e.PNG")]
    cells = data if plain else [{"bytes": item, "path": None} for item in data]
    pq.write_table(pa.table({"label": [1, 2, 3, 4], "image": cells}), path, row_group_size=3)
    return path


def write_saved(path, files):
    import datasets

    cells = [{"bytes": (files / n).read_bytes(), "path": n} for n in ("a.jpg", "b/c.png", "b/d.webp", "e.PNG")]
    features = datasets.Features({"image": datasets.Image()})
    datasets.Dataset.from_dict({"image": cells}, features=features).save_to_disk(str(path))
    return path


@pytest.mark.parametrize("kind", ["tar", "parquet", "plain parquet", "saved"])
@pytest.mark.parametrize("inside", [False, True])
def test_containers_give_the_pixels_of_the_files_in_them(files, tmp_path, kind, inside):
    """The source is the container itself or a folder with it."""
    folder = tmp_path / "shards" / "x"
    folder.mkdir(parents=True)
    if kind == "tar":
        container = write_tar(folder / "000.tar", files)
    elif kind == "saved":
        container = write_saved(folder / "saved", files)
    else:
        container = write_parquet(folder / "000.parquet", files, plain=kind == "plain parquet")
    source = tmp_path / "shards" if inside else container
    assert len(listing(source)) == 4
    first = listing(source)[0]
    assert first.startswith("x/" if inside else container.name)
    assert open_source(source_root(source), first, "image").files["image"] == (files / "a.jpg").read_bytes()
    build_puzzles("image", files, tmp_path / "plain", config=CONFIG, workers=1)
    build_puzzles("image", source, tmp_path / "set", config=CONFIG, workers=1)
    assert pixels_by_fingerprint(tmp_path / "set") == pixels_by_fingerprint(tmp_path / "plain")


def test_damaged_containers_are_reported_and_the_other_sources_are_used(files, tmp_path):
    complete_tar = write_tar(tmp_path / "whole.tar", files).read_bytes()
    (files / "cut.tar").write_bytes(complete_tar[: len(complete_tar) // 2])
    (files / "text.tar").write_text("no tar at all, but longer than one block " * 40)
    (files / "packed.tar.gz").write_bytes(b"\x1f\x8b")
    (files / "bad.parquet").write_bytes(b"PAR1")
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"label": [1, 2]}), files / "labels.parquet")
    problems = {entry.path: entry.detail for entry in listing(files) if isinstance(entry, Problem)}
    assert set(problems) >= {"text.tar", "packed.tar.gz", "bad.parquet", "labels.parquet"}
    assert "unpack it" in problems["packed.tar.gz"]
    assert "columns: label" in problems["labels.parquet"]
    summary = build_puzzles("image", files, tmp_path / "set", config=CONFIG, workers=1)
    assert summary.counts.puzzles >= 4
    assert set(summary.counts.rejects) == {"unreadable"}


def test_a_puzzle_set_in_the_source_folder_is_not_read_as_photos(files, tmp_path):
    build_puzzles("image", files, tmp_path / "out", config=CONFIG, workers=1, materialize=True)
    (tmp_path / "out").rename(files / "out")
    assert len(listing(files)) == 4


@pytest.mark.parametrize(("name", "message"), [("nowhere", "does not exist"), ("photo.jpg", "is neither a folder")])
def test_a_path_that_is_not_a_source_is_refused(tmp_path, name, message):
    (tmp_path / "photo.jpg").write_bytes(b"")
    with pytest.raises(JigsawError, match=message):
        scan(tmp_path / name, "image")


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def test_scannet_folders_are_paired_by_number(tmp_path):
    touch(tmp_path, *(f"scene0/{kind}/{n}.{end}" for n in (0, 1) for kind, end in (("color", "jpg"), ("depth", "png"))))
    touch(tmp_path, "scene0/color/2.jpg", "scene0/pose/0.txt", "scene0/depth/9.png")
    for layout in ("scannet", "auto"):
        assert listing(tmp_path, "rgbd", layout) == [
            *(f"scene0/color/{n}.jpg::scene0/depth/{n}.png" for n in (0, 1)),
            Problem("scene0/color/2.jpg", "no_depth", "the picture has no depth map"),
        ]


def test_tum_folders_are_paired_by_the_nearest_time(tmp_path):
    touch(tmp_path, "rgb/1305.100.png", "rgb/1305.200.png", "rgb/1305.300.png")
    touch(tmp_path, "depth/1305.095.png", "depth/1305.110.png", "depth/1305.215.png", "depth/1305.350.png")
    expected = ["rgb/1305.100.png::depth/1305.095.png", "rgb/1305.200.png::depth/1305.215.png"]
    for layout in ("tum", "auto"):
        entries = listing(tmp_path, "rgbd", layout)
        assert entries[:2] == expected
        assert entries[2].reason == "no_depth"


def test_names_that_differ_in_one_word_are_paired(tmp_path):
    touch(tmp_path, "s/color.png", "s/disparity.npz", "t/f-1.color.jpg", "t/f-1.depth.png", "u/left.png", "u/notes.txt")
    assert listing(tmp_path, "rgbd") == ["s/color.png::s/disparity.npz", "t/f-1.color.jpg::t/f-1.depth.png"]


def test_pairs_are_found_by_a_pattern(tmp_path):
    touch(tmp_path, "k/left/7.png", "k/disp/7_d.pfm", "k/left/8.png", "aloeL.jpg", "aloeGT.png")
    assert listing(tmp_path, "rgbd", "left/{}.png::disp/{}_d.pfm") == [
        "k/left/7.png::k/disp/7_d.pfm",
        Problem("k/left/8.png", "no_depth", "the picture has no depth map: there is no k/disp/8_d.pfm"),
    ]
    assert listing(tmp_path, "rgbd", "{}L.jpg::{}GT.png") == ["aloeL.jpg::aloeGT.png"]


def test_an_rgbd_folder_with_a_camera_file_is_built_and_loaded(tmp_path):
    depth = np.tile(np.linspace(1, 6, 320), (240, 1))
    for split in ("train", "heldout"):
        root = tmp_path / "rgbd" / split / "scene"
        root.mkdir(parents=True)
        (root / "color.png").write_bytes(encode(Image.fromarray(photo_pixels(320, 240))))
        np.savez(root / "disparity.npz", 200 / depth)
        (root / "camera.json").write_text('{"focal_length_px": 1000, "baseline_m": 0.2}')
    build_puzzles("depth", tmp_path / "rgbd", tmp_path / "set", per_source=5, split="train", workers=1)
    rows = load_puzzles(tmp_path / "set")
    assert len(rows) == 5
    assert rows[0]["source"]["path"] == "train/scene/color.png::train/scene/disparity.npz"
    assert rows[0]["images"][0].size == (320, 240)
    (tmp_path / "rgbd" / "train" / "scene" / "camera.json").write_text('{"focal_length_px": 2000, "baseline_m": 0.2}')
    from jigsaw.data.loading import load

    load._rendered.clear()
    with pytest.raises(JigsawError, match="has changed since"):
        load_puzzles(tmp_path / "set")[0]


def test_the_paths_of_a_pair_in_a_list_are_separated_by_a_tab(tmp_path):
    (tmp_path / "pairs.txt").write_text("a/c.jpg\ta/d.png\n")
    assert listing(tmp_path / "pairs.txt", "rgbd") == ["a/c.jpg::a/d.png"]


def test_folders_nested_deeper_than_the_recursion_limit_are_scanned(deep):
    assert listing(deep) == ["d/" * 1200 + "a.png"]


def test_broken_and_circular_links_are_listed_and_cannot_be_opened(files):
    (files / "gone.jpg").symlink_to("nowhere.jpg")
    (files / "self.jpg").symlink_to("self.jpg")
    assert {"gone.jpg", "self.jpg"} <= set(listing(files))
    for name in ("gone.jpg", "self.jpg"):
        with pytest.raises(OSError, match=r"a link to nowhere|symbolic links"):
            open_source(files, name, "image")


def test_the_separator_of_pairs_in_a_name_is_a_problem(tmp_path):
    touch(tmp_path, "color/a::b.png", "depth/a::b.png", "color/c.png", "depth/c.png")
    bad, good = scan(tmp_path, "rgbd")
    assert (bad.path, bad.reason) == ("color/a::b.png", "bad_name")
    assert good == "color/c.png::depth/c.png"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20)))
def test_files_with_any_name_are_listed_once_in_byte_order_and_opened(names):
    usable = {f"{name}.png" for name in names if not name.startswith(".") and len(name.encode()) < 200}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in usable:
            (root / name).write_bytes(name.encode())
        assert listing(root) == sorted(usable, key=str.encode)
        for name in usable:
            assert open_source(root, name, "image").files["image"].read_bytes() == name.encode()


def tar_of(folder, tar, prefix=""):
    with tarfile.open(tar, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.add(file, prefix + str(file.relative_to(folder)))


@pytest.mark.parametrize(("color", "depth"), [("color/{}.png", "depth/{}.png"), ("{}.color.png", "{}.depth.png")])
@pytest.mark.parametrize("prefix", ["", "./"])
def test_rgbd_pairs_in_a_tar_give_the_same_puzzles_as_the_files(tmp_path, color, depth, prefix):
    metres = np.linspace(500, 6000, 320 * 240).reshape(240, 320).astype(np.uint16)
    for folder in ("color", "depth"):
        (tmp_path / "files" / folder).mkdir(parents=True)
    for number in range(3):
        Image.fromarray(photo_pixels(320, 240, seed=number)).save(tmp_path / "files" / color.format(number))
        Image.fromarray(metres + number).save(tmp_path / "files" / depth.format(number))
    (tmp_path / "files" / "camera.json").write_text('{"depth_unit_m": 0.001}')
    Image.fromarray(photo_pixels(320, 240)).save(tmp_path / "files" / color.format("alone"))
    (tmp_path / "shards").mkdir()
    tar_of(tmp_path / "files", tmp_path / "shards" / "000.tar", prefix)
    config = {"points": 4, "min_distance": 20}
    for name in ("files", "shards"):
        build_puzzles("depth", tmp_path / name, tmp_path / f"{name}-set", config=config, workers=1)
    unpacked, packed = (load_puzzles(tmp_path / f"{name}-set") for name in ("files", "shards"))
    assert len(packed) == 3
    assert {row["id"]: row["images"][0].tobytes() for row in packed} == {
        row["id"]: row["images"][0].tobytes() for row in unpacked
    }
    assert packed[0]["source"]["path"].startswith("000.tar::")
    assert '"no_depth"' in (tmp_path / "shards-set" / "rejects.jsonl").read_text()


def test_rgbd_shards_are_split_and_checked_like_folders(tmp_path):
    metres = np.linspace(500, 6000, 320 * 240).reshape(240, 320).astype(np.uint16)
    for split in ("train", "heldout"):
        (tmp_path / "made").mkdir(exist_ok=True)
        Image.fromarray(photo_pixels(320, 240, seed=len(split))).save(tmp_path / "made" / "0.color.png")
        Image.fromarray(metres).save(tmp_path / "made" / "0.depth.png")
        (tmp_path / "shards" / split).mkdir(parents=True)
        tar_of(tmp_path / "made", tmp_path / "shards" / split / "0.tar")
    config = {"points": 4, "min_distance": 20}
    build_puzzles("depth", tmp_path / "shards", tmp_path / "set", config=config, split="heldout", workers=1)
    assert check_puzzles(tmp_path / "set", workers=1).ok
    (row,) = load_puzzles(tmp_path / "set")
    assert row["source"]["path"] == "heldout/0.tar::0.color.png::0.depth.png"


def test_a_depth_map_that_is_added_later_is_found_by_the_same_process(tmp_path):
    touch(tmp_path, "color/a.png", "depth/b.png")
    (missing,) = scan(tmp_path, "rgbd")
    assert missing.reason == "no_depth"
    touch(tmp_path, "depth/a.png")
    assert listing(tmp_path, "rgbd") == ["color/a.png::depth/a.png"]


def test_rgbd_pairs_in_a_table_or_a_compressed_tar_are_a_problem(files, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image": [b"x"]}), files / "t.parquet")
    (files / "s.tar.gz").write_bytes(b"x")
    problems = {entry.path: entry.detail for entry in scan(files, "rgbd") if isinstance(entry, Problem)}
    assert "unpack it" in problems["s.tar.gz"]
    assert "from folders and .tar files" in problems["t.parquet"]
