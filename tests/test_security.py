"""The guarantees of the security page: no unsafe calls in the source, hostile content, and no use of the network."""

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
"""Calls that execute the content that they read."""


def calls_of(file):
    """Yields the dotted name and the node of every call of a file."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def keywords(node):
    return {word.arg: ast.unparse(word.value) for word in node.keywords}


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_the_source_has_no_call_that_executes_the_content_it_reads(file):
    for name, node in calls_of(file):
        where = f"{file}:{node.lineno}: {name}"
        assert name not in FORBIDDEN | EXECUTING, where
        options = keywords(node)
        assert options.get("shell") != "True", where
        assert options.get("allow_pickle", "False") == "False", where
        assert options.get("trust_remote_code", "False") == "False", where
        opens = name.endswith((".from_pretrained", ".from_config")) and not name.startswith(("super()", "PeftModel"))
        if opens or name in ("LLM", "vllm.LLM"):  # without it, transformers would prompt on the terminal
            assert "trust_remote_code" in options or "'trust_remote_code': False" in options.get(None, ""), where
        if name == "torch.load":
            assert options.get("weights_only") == "True", where
        if name in ("np.load", "numpy.load"):
            assert options.get("allow_pickle") == "False", where


def test_no_template_has_a_network_address():
    for template in [*ROOT.glob("jigsaw/**/*.j2")]:
        text = template.read_text(encoding="utf-8")
        assert re.findall(r"(?:src|href|url\()\s*=?\s*[\"']?(?:https?:)?//", text) == [], template
        assert "<script" not in text or "src=" not in text.split("<script")[1].split(">")[0], template


HOSTILE = "<script>alert(1)<svg onload=x>.png"


def photo(seed=0):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((96, 96), Image.Resampling.BICUBIC)


def test_markup_in_a_file_name_is_escaped_on_a_page(tmp_path):
    (tmp_path / "photos").mkdir()
    photo().save(tmp_path / "photos" / HOSTILE.replace("/", ""))
    build_puzzles("image", tmp_path / "photos", tmp_path / "set", config={"grid": "2x2"}, workers=1)
    page = preview_puzzles(tmp_path / "set", tmp_path / "preview.html").read_text()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    assert "<svg onload" not in page
    assert re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", page) == []


def test_control_and_direction_characters_of_a_file_name_are_replaced_on_a_page(tmp_path):
    (tmp_path / "photos").mkdir()
    photo().save(tmp_path / "photos" / "a\x1b[31m\u202egnp.png")
    build_puzzles("image", tmp_path / "photos", tmp_path / "set", config={"grid": "2x2"}, workers=1)
    page = preview_puzzles(tmp_path / "set", tmp_path / "preview.html").read_text(encoding="utf-8")
    assert "a\u241b[31m\N{REPLACEMENT CHARACTER}gnp.png" in page
    assert "\x1b" not in page
    assert "\u202e" not in page


def rewrite_rows(folder, change):
    """Changes the rows of a puzzle set as an attacker would."""
    (file,) = folder.glob("data-*.parquet")
    table, metadata = pq.read_table(file), pq.read_metadata(file).metadata
    rows = [change(row) for row in table.to_pylist()]
    with pq.ParquetWriter(file, table.schema) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=table.schema))
        writer.add_key_value_metadata({key: value for key, value in metadata.items() if key != b"ARROW:schema"})


@pytest.mark.parametrize("path", ["../secret.png", "a/../../secret.png", "{secret}"])
def test_a_row_with_a_path_outside_the_source_is_refused(tmp_path, path):
    (tmp_path / "photos").mkdir()
    for place in ("photos/a.png", "secret.png"):
        photo().save(tmp_path / place)
    build_puzzles("image", tmp_path / "photos", tmp_path / "set", config={"grid": "2x2"}, workers=1)
    path = path.format(secret=tmp_path / "secret.png")
    rewrite_rows(tmp_path / "set", lambda row: row | {"source": row["source"] | {"path": path}})
    with pytest.raises(JigsawError, match="leads out of the folder"):
        load_puzzles(tmp_path / "set")[0]
    report = check_puzzles(tmp_path / "set", workers=1)
    assert not report.ok
    assert "leads out of the folder" in str(report.faults[0])


@pytest.mark.parametrize(
    "geometry, message",
    [
        ({"grid": [10**300, 1], "shown": [0, 1, 2, 3]}, "the geometry has a number above"),
        ({"grid": [2, 2], "box": [10**400] * 4}, "the geometry has a number above"),
        ({"grid": [300, 300]}, "the grid of the geometry has more than 10,000 cells"),
    ],
    ids=["a huge grid", "huge numbers", "a large grid"],
)
def test_a_row_with_a_huge_geometry_is_refused(tmp_path, geometry, message):
    (tmp_path / "photos").mkdir()
    photo().save(tmp_path / "photos" / "a.png")
    build_puzzles("image", tmp_path / "photos", tmp_path / "set", config={"grid": "2x2"}, workers=1)
    rewrite_rows(tmp_path / "set", lambda row: row | {"geometry": json.dumps(geometry)})
    report = check_puzzles(tmp_path / "set", workers=1)
    assert any(message in fault.what for fault in report.faults), report.faults
    with pytest.raises((JigsawError, ValueError), match=message):
        load_puzzles(tmp_path / "set")[0]


def test_a_chat_template_that_loops_is_interrupted(processor, puzzles, monkeypatch):
    from jigsaw.models import prompts

    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    monkeypatch.setattr(prompts, "TEMPLATE_LIMIT", 0.5)
    monkeypatch.setattr(processor, "chat_template", loop)
    with pytest.raises(JigsawError, match=r"the chat template .* ran for more than 0\.5 s"):
        prompts.prompt_text(processor, puzzles[0])


def test_a_secret_environment_variable_in_a_recipe_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_API_KEY", "hidden")
    monkeypatch.setenv("WHERE", "/data")
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text("defaults: quickstart\ndescription: ${oc.env:MY_API_KEY}\n")
    with pytest.raises(JigsawError, match=r"MY_API_KEY\} would be written into recipe.yaml") as caught:
        load_recipe("r.yaml")
    assert "hidden" not in str(caught.value)
    Path("r.yaml").write_text("defaults: quickstart\ndescription: ${oc.env:WHERE}\n")
    assert load_recipe("r.yaml").description == "/data"


@pytest.mark.parametrize("entry", [[{"id": 5}], {"puzzle": {"id": "a"}}, [], {"id": "a"}, [5], {"puzzle": 3}])
def test_malformed_records_of_completions_are_refused(tmp_path, entry):
    from jigsaw.answering.answers import answer_rest

    (tmp_path / "completions.jsonl").write_text(f'{{"settings": {{}}}}\n{json.dumps(entry)}\n')
    with pytest.raises(JigsawError, match=r"completions\.jsonl:2 is not a record of an evaluation"):
        answer_rest(lambda: None, ["a"], lambda _: {}, path=tmp_path / "completions.jsonl", settings={}, batch_size=1)


def test_every_page_has_a_content_security_policy():
    for template in ROOT.glob("jigsaw/**/*.j2"):
        text = template.read_text(encoding="utf-8")
        if "<head" in text or "<meta charset" in text:
            assert "Content-Security-Policy" in text, template
            assert "default-src 'none'" in text, template


def test_an_imported_set_cannot_read_files_outside_its_folder(tmp_path):
    photo().save(tmp_path / "secret.png")
    (tmp_path / "theirs").mkdir()
    row = {
        "data_source": "coco_jigsaw",
        "prompt": [{"role": "user", "content": "<image>" * 4 + " In order? <answer></answer>"}],
        "images": [{"path": "../secret.png", "resize_size": [96, 96], "crop_size": [96, 96], "jigsaw_config": [2, 2]}],
        "reward_model": {"ground_truth": ""},
    }
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "theirs" / "rows.parquet")
    with pytest.raises(JigsawError, match="none of the 1 rows could be imported: the file cannot be read as a picture"):
        import_puzzles("visual-jigsaw", tmp_path / "theirs", tmp_path / "set", workers=1)
    assert sum(pq.read_metadata(part).num_rows for part in (tmp_path / "set").glob("*.parquet")) == 0


def test_members_of_a_tar_are_not_unpacked(tmp_path):
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


def test_a_pickled_depth_map_is_rejected_and_not_executed(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'sprung'}",)

    photo().save(tmp_path / "color.png")
    np.save(tmp_path / "depth.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    task = get_task("depth")
    outcome = task.plan(open_source(tmp_path, "color.png::depth.npy", "rgbd"), __import__("random").Random(0))
    assert isinstance(outcome, Reject)
    assert outcome.reason == "bad_depth"
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


LOGGING_SOCKETS = """
import socket
def logged_run(call):
    def ask(*args, **more):
        address = next((arg for arg in args if not isinstance(arg, socket.socket)), None)
        if not (isinstance(address, (str, bytes)) and address[:1] in ("/", b"/", "\\0", b"\\0")):
            with open(LOG, "a") as log:
                log.write(f"{call.__name__} {address}\\n")
            raise OSError("no network in this test")
        return call(*args, **more)
    return ask
socket.socket.connect = logged_run(socket.socket.connect)
socket.socket.connect_ex = logged_run(socket.socket.connect_ex)
for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
    setattr(socket, name, logged_run(getattr(socket, name)))
"""
"""A `sitecustomize` for the command and every process that it starts: logs and refuses look-ups and connections.

A log is needed because libraries do not report a failed request."""


@pytest.fixture
def logged_run(tmp_path_factory, monkeypatch):
    """Run the command; returns the finished process and the logged network requests.

    HOME is not writable, as in many containers, and the command must not fail because of it."""
    folder = tmp_path_factory.mktemp("watch")
    log = folder / "asked.txt"
    (folder / "sitecustomize.py").write_text(f"LOG = {str(log)!r}\n{LOGGING_SOCKETS}", encoding="utf-8")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "XDG_")) and key != "CI"}
    environment = kept | {"PYTHONPATH": str(folder), "HOME": "/dev/null/home", "TMPDIR": str(folder)}

    def run(words, cwd):
        command = [sys.executable, "-P", "-m", "jigsaw", *map(str, words)]
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
        return done, log.read_text().splitlines() if log.exists() else []

    return run


def test_a_network_request_of_the_command_is_logged(tmp_path, logged_run):
    """Given a plug-in that looks up a host name, the log has it, so the tests below can fail."""
    (tmp_path / "asks.py").write_text("import socket\nsocket.getaddrinfo('example.org', 443)\n")
    done, asked = logged_run(["rewards", "asks.py:reward"], tmp_path)
    assert asked == ["getaddrinfo example.org"], done.stderr


RUN = """
name: small
model: {tiny: qwen2_5_vl, sizes: {hidden_size: 64, num_layers: 1, vision_hidden_size: 64, initializer_range: 0.1}}
data:
  photos: photos
  train: [{build: {task: image, source: "${data.photos}", grid: 2x2, tile: 28, answer_style: direct, per_source: 2}}]
  eval: [{build: {task: image, source: "${data.photos}", grid: 2x2, tile: 28, answer_style: direct, seed: 1}}]
sft: {max_steps: 1, per_device_train_batch_size: 2, gradient_checkpointing: false}
grpo: {max_steps: 1, prompts_per_step: 2, num_generations: 2, max_completion_length: 4, gradient_checkpointing: false}
evaluation: {every: 1, puzzles: 2, batch_size: 4}
output: runs/small
"""


def test_a_complete_run_makes_no_network_request(tmp_path, photos, logged_run):
    """Data, both stages, evaluation and report, in the process of the command and in its child processes."""
    (tmp_path / "photos").symlink_to(photos)
    (tmp_path / "small.yaml").write_text(RUN, encoding="utf-8")
    done, asked = logged_run(["launch", "small.yaml"], tmp_path)
    assert (tmp_path / "runs" / "small" / "DONE").exists(), done.stderr
    assert asked == []


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
def test_verbs_make_no_network_request(tmp_path_factory, logged_run, words):
    folder = tmp_path_factory.getbasetemp() / "offline"
    if not folder.exists():
        (folder / "photos").mkdir(parents=True)
        photo().save(folder / "photos" / "a.png")
        build_puzzles("image", folder / "photos", folder / "set", config={"grid": "2x2"}, workers=1)
    done, asked = logged_run(words, folder)
    assert done.returncode == 0, done.stderr
    assert asked == []


@pytest.mark.parametrize(
    "words",
    [["build", "image", "a\x1b]0;title\x07\u202e", "out"], ["check", "b\x1b[2J"], ["b\x1b[2Jx"]],
    ids=["a source", "a set", "a command"],
)
def test_an_error_line_has_no_terminal_escape_sequences(capsys, monkeypatch, words):
    from jigsaw.cli import command as cli

    monkeypatch.setattr(sys, "argv", ["jigsaw", *words])
    with pytest.raises(SystemExit):
        cli.main()
    err = capsys.readouterr().err
    assert "\\x1b" in err
    assert "\x1b" not in err
    assert "\u202e" not in err


def test_control_characters_in_json_output_are_escaped_as_json(tmp_path, capsys, monkeypatch):
    """Control characters of a file name neither reach the terminal nor break a script that reads `--json`."""
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
