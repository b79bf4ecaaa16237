"""What the security page promises beyond what other tests hold: our source, and hostile content as a user meets it."""

import ast
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from jigsaw.config.loading import load_recipe
from jigsaw.data import build_puzzles, check_puzzles, import_puzzles, load_puzzles, preview_puzzles
from jigsaw.data.sources import open_source
from jigsaw.errors import JigsawError
from jigsaw.tasks import Reject, get_task

ROOT = Path(__file__).parents[1]
SOURCES = sorted(file for name in ("jigsaw", "tasks", "rewards", "benchmarks") for file in (ROOT / name).rglob("*.py"))
FORBIDDEN = {"eval", "exec", "compile", "__import__"}
EXECUTING = {"os.system", "os.popen", "pickle.load", "pickle.loads", "marshal.loads", "yaml.unsafe_load", "shelve.open"}
"""Calls that run what they read."""


def calls_of(file):
    """Every call of a file as dotted name and node."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def keywords(node):
    return {word.arg: ast.unparse(word.value) for word in node.keywords}


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_runs_what_it_reads(file):
    for name, node in calls_of(file):
        where = f"{file}:{node.lineno}: {name}"
        assert name not in FORBIDDEN | EXECUTING, where
        given = keywords(node)
        assert given.get("shell") != "True", where
        assert given.get("allow_pickle", "False") == "False", where
        assert given.get("trust_remote_code", "False") == "False", where
        if name == "torch.load":
            assert given.get("weights_only") == "True", where
        if name in ("np.load", "numpy.load"):
            assert given.get("allow_pickle") == "False", where


def test_no_page_or_style_of_ours_names_an_address():
    for template in [*ROOT.glob("jigsaw/**/*.j2")]:
        text = template.read_text(encoding="utf-8")
        assert re.findall(r"(?:src|href|url\()\s*=?\s*[\"']?(?:https?:)?//", text) == [], template
        assert "<script" not in text or "src=" not in text.split("<script")[1].split(">")[0], template


HOSTILE = "<script>alert(1)<svg onload=x>.png"


def photo(seed=0):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((96, 96), Image.Resampling.BICUBIC)


def test_a_file_name_with_markup_is_text_on_a_page(tmp_path):
    (tmp_path / "photos").mkdir()
    photo().save(tmp_path / "photos" / HOSTILE.replace("/", ""))
    build_puzzles("image", tmp_path / "photos", tmp_path / "set", config={"grid": "2x2"}, workers=1)
    page = preview_puzzles(tmp_path / "set", tmp_path / "preview.html").read_text()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    assert "<svg onload" not in page
    assert re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", page) == []


def test_a_file_name_cannot_turn_the_text_of_a_page_around(tmp_path):
    (tmp_path / "photos").mkdir()
    photo().save(tmp_path / "photos" / "a\x1b[31m\u202egnp.png")
    build_puzzles("image", tmp_path / "photos", tmp_path / "set", config={"grid": "2x2"}, workers=1)
    page = preview_puzzles(tmp_path / "set", tmp_path / "preview.html").read_text(encoding="utf-8")
    assert "a\u241b[31m\N{REPLACEMENT CHARACTER}gnp.png" in page
    assert "\x1b" not in page
    assert "\u202e" not in page


def rewritten(folder, change):
    """Change the rows of a data set as an attacker would."""
    (file,) = folder.glob("data-*.parquet")
    table, metadata = pq.read_table(file), pq.read_metadata(file).metadata
    rows = [change(row) for row in table.to_pylist()]
    with pq.ParquetWriter(file, table.schema) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=table.schema))
        writer.add_key_value_metadata({key: value for key, value in metadata.items() if key != b"ARROW:schema"})


@pytest.mark.parametrize("path", ["../secret.png", "a/../../secret.png", "{secret}"])
def test_a_row_that_names_a_file_outside_is_an_error_and_no_picture(tmp_path, path):
    (tmp_path / "photos").mkdir()
    for place in ("photos/a.png", "secret.png"):
        photo().save(tmp_path / place)
    build_puzzles("image", tmp_path / "photos", tmp_path / "set", config={"grid": "2x2"}, workers=1)
    path = path.format(secret=tmp_path / "secret.png")
    rewritten(tmp_path / "set", lambda row: row | {"source": row["source"] | {"path": path}})
    with pytest.raises(JigsawError, match="leads out of the folder"):
        load_puzzles(tmp_path / "set")[0]
    report = check_puzzles(tmp_path / "set", workers=1)
    assert not report.ok
    assert "leads out of the folder" in str(report.faults[0])


def test_an_imported_set_cannot_reach_out_of_its_media(tmp_path):
    photo().save(tmp_path / "secret.png")
    (tmp_path / "theirs").mkdir()
    row = {
        "data_source": "coco_jigsaw",
        "prompt": [{"role": "user", "content": "<image>" * 4 + " In order? <answer></answer>"}],
        "images": [{"path": "../secret.png", "resize_size": [96, 96], "crop_size": [96, 96], "jigsaw_config": [2, 2]}],
        "reward_model": {"ground_truth": ""},
    }
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "theirs" / "rows.parquet")
    with pytest.raises(JigsawError, match="none of the 1 rows could be imported: unreadable 1"):
        import_puzzles("visual-jigsaw", tmp_path / "theirs", tmp_path / "set", workers=1)
    assert sum(pq.read_metadata(part).num_rows for part in (tmp_path / "set").glob("*.parquet")) == 0


def test_nothing_is_unpacked_from_a_tar(tmp_path):
    photo().save(tmp_path / "a.png")
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in" / "t.tar", "w") as archive:
        archive.add(tmp_path / "a.png", arcname="../../escaped.png")
        archive.add(tmp_path / "a.png", arcname="/tmp/escaped-absolute.png")
    before = set(tmp_path.parent.rglob("*escaped*"))
    build_puzzles("image", tmp_path / "in", tmp_path / "set", config={"grid": "2x2"}, workers=1)
    assert load_puzzles(tmp_path / "set")[0]["images"]
    assert set(tmp_path.parent.rglob("*escaped*")) == before
    assert not Path("/tmp/escaped-absolute.png").exists()


def test_a_pickled_depth_map_is_a_reject_and_runs_nothing(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'sprung'}",)

    photo().save(tmp_path / "color.png")
    np.save(tmp_path / "depth.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    task = get_task("depth")
    made = task.plan(open_source(tmp_path, "color.png::depth.npy", "rgbd"), __import__("random").Random(0))
    assert isinstance(made, Reject)
    assert made.reason == "bad_depth"
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "text", ["name: !!python/object/apply:os.system ['touch sprung']", "name: !!python/name:os.system"]
)
def test_a_recipe_with_python_tags_is_refused(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(f"defaults: quickstart\n{text}\n")
    with pytest.raises((JigsawError, yaml.YAMLError)):
        load_recipe("r.yaml")
    assert not Path("sprung").exists()


NO_NETWORK = """
import socket, sys
def refuse(*args, **more):
    raise AssertionError("the network was asked for")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from jigsaw.cli import command as cli
cli.main()
"""


@pytest.mark.parametrize(
    "words",
    [
        ["build", "image", "photos", "set", "grid=2x2", "--workers", "1"],
        ["preview", "set"],
        ["check", "set", "--workers", "1"],
        ["audit", "set"],
        ["launch", "quickstart", "--dry-run"],
        ["tasks"],
        ["rewards"],
    ],
    ids=lambda words: words[0],
)
def test_verbs_do_without_the_network(tmp_path_factory, words):
    folder = tmp_path_factory.getbasetemp() / "offline"
    if not folder.exists():
        (folder / "photos").mkdir(parents=True)
        photo().save(folder / "photos" / "a.png")
        build_puzzles("image", folder / "photos", folder / "set", config={"grid": "2x2"}, workers=1)
    done = subprocess.run(
        [sys.executable, "-P", "-c", NO_NETWORK, *words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_escapes_of_a_json_answer_are_json(tmp_path, capsys, monkeypatch):
    """Control characters of a file name cannot steer a terminal or break a script that reads `--json`."""
    from jigsaw.cli import command as cli

    (tmp_path / "photos").mkdir()
    photo().save(tmp_path / "photos" / "a\x1b[31m.png")
    build_puzzles("image", tmp_path / "photos", tmp_path / "set", config={"grid": "2x2"}, workers=1)
    (tmp_path / "photos" / "a\x1b[31m.png").unlink()
    monkeypatch.setattr(sys, "argv", ["jigsaw", "check", str(tmp_path / "set"), "--workers", "1", "--json"])
    with pytest.raises(SystemExit):
        cli.main()
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert json.loads(out)["faults"]
