"""Lists of sources in various encodings, and file names in other locales."""

import os
import subprocess
import sys
import tracemalloc

import pytest
from PIL import Image
from synthetic_media import encode, photo_pixels

from jigsaw.data import build_puzzles, check_puzzles
from jigsaw.data.building.listing import source_digest
from jigsaw.data.sources import scan
from jigsaw.data.sources.recognition import Problem
from jigsaw.errors import JigsawError

PICTURE = encode(Image.fromarray(photo_pixels(160, 120)))
NAMES = ["a.png", "b c.png", "bäum.png"]


@pytest.fixture
def folder(tmp_path):
    for name in NAMES:
        (tmp_path / name).write_bytes(PICTURE)
    return tmp_path


def scan_list(folder, data, kind="image"):
    (folder / "list.txt").write_bytes(data)
    return list(scan(folder / "list.txt", kind))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lists_are_decoded_by_their_byte_order_mark(folder, encoding, end):
    assert scan_list(folder, (end.join(NAMES) + end).encode(encoding)) == NAMES


def test_a_list_in_latin_1_gives_a_problem_for_each_line(folder):
    entries = scan_list(folder, "a.png\nbäum.png\n".encode("latin-1"))
    assert entries[0] == "a.png"
    assert "line 2 of the list is not UTF-8; save the list as UTF-8" in entries[1].detail
    with pytest.raises(JigsawError, match="without a byte order mark"):
        scan_list(folder, "a.png\n".encode("utf-16-le"))


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("a.png ", "blanks or tabs around the path; without them the file a.png exists"),
        (" a.png", "blanks or tabs around the path"),
        ("a.png\t", "blanks or tabs around the path"),
        ('"b c.png"', "quotes around the path; without them the file b c.png exists"),
        ("'a.png'", "quotes around the path"),
        (".\\a.png", "backslashes; paths are written with /"),
        ("a.png\t3", "has a tab; for images and videos a line has one path"),
        ("gone.png ", "has blanks, tabs or quotes around the path, and there is no such file"),
        ("a\0.png", "has a zero byte"),
    ],
)
def test_a_line_without_an_existing_file_gives_a_problem_with_the_cause(folder, line, cause):
    if "\0" in line:
        with pytest.raises(JigsawError, match="or not text; save it as UTF-8"):
            scan_list(folder, line.encode() + b"\n")
        return
    (problem,) = scan_list(folder, f"{line}\n".encode())
    assert problem.reason == "bad_name"
    assert "line 1 of the list" in problem.detail
    assert cause in problem.detail


def test_unusual_names_of_existing_files_are_accepted(folder):
    names = ["a.png ", '"q".png', "back\\slash.png", "tab\t.png"]
    for name in names:
        (folder / name).write_bytes(PICTURE)
    assert scan_list(folder, "".join(f"{name}\n" for name in names).encode()) == names


def test_a_pair_needs_two_paths(folder):
    entries = scan_list(folder, b"a.png\tdepth.png\na.png\na.png\tb\tc\na.png\t\n", "rgbd")
    assert entries[0] == "a.png::depth.png"
    assert all("a picture and its depth map are two" in problem.detail for problem in entries[1:])


def environment(**changes):
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHONUTF8"))
    }
    return variables | changes


PLAIN = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def latin_1(folder):
    """The environment of a newly generated Latin-1 locale, or None if it cannot be generated."""
    try:
        command = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(folder / "en_US.ISO-8859-1")]
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"LOCPATH": str(folder), "LC_ALL": "en_US.ISO-8859-1", "PYTHONUTF8": "0"}


@pytest.mark.parametrize("locale", ["C", "Latin-1"])
def test_names_are_stored_as_they_are_on_disk_in_any_locale(tmp_path, locale):
    root = tmp_path / "fötos"
    root.mkdir()
    (root / "bäum.png").write_bytes(PICTURE)
    variables = PLAIN if locale == "C" else latin_1(tmp_path)
    if variables is None:
        pytest.skip("localedef makes no Latin-1 locale here")
    command = [sys.executable, "-m", "jigsaw", "build", "image", "fötos", "set", "grid=2x2", "--workers", "1"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(**variables), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert check_puzzles(tmp_path / "set", workers=1).ok


def test_names_in_another_locale_give_a_problem_instead_of_wrong_names(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "bäum.png").write_bytes(PICTURE)
    code = "from pathlib import Path; from jigsaw.data.sources import scan; print(*scan(Path('p'), 'image'))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(**PLAIN), capture_output=True, text=True
    )
    assert "start Python with PYTHONUTF8=1" in done.stdout, done.stderr


def test_deep_and_wide_folders_are_listed_in_little_memory(deep, tmp_path):
    before = source_digest(deep, "image")
    assert before == source_digest(deep, "image")
    (entry,) = scan(deep, "image")
    assert entry == "d/" * 1200 + "a.png"
    (deep / "b.png").write_bytes(b"x")
    assert source_digest(deep, "image") != before

    wide = tmp_path / "wide"
    wide.mkdir()
    for number in range(3000):
        (wide / f"{number}.png").touch()
    tracemalloc.start()
    source_digest(wide, "image")
    assert tracemalloc.get_traced_memory()[1] < 3_000_000
    tracemalloc.stop()


def test_a_changed_depth_map_changes_the_digest(tmp_path):
    for name in ("color/1.jpg", "depth/1.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x")
    before = source_digest(tmp_path, "rgbd")
    (tmp_path / "depth/1.png").write_bytes(b"xy")
    assert source_digest(tmp_path, "rgbd") != before


def test_a_list_in_utf_16_with_windows_line_ends_builds_a_set(folder, tmp_path):
    (folder / "list.txt").write_bytes("\r\n".join(NAMES).encode("utf-16"))
    out = tmp_path / "out" / "set"
    out.parent.mkdir()
    summary = build_puzzles("image", folder / "list.txt", out, config={"grid": "2x2"}, workers=1, progress=False)
    assert (summary.counts.puzzles, summary.counts.rejects) == (3, {})
    assert not any(isinstance(entry, Problem) for entry in scan(folder / "list.txt", "image"))
