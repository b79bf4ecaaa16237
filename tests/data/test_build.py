"""Builds of puzzle sets: rows do not depend on workers, parts, shards or interruptions; other settings are refused."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from jigsaw.data import REASONS, build_puzzles, load_puzzles, read_manifest
from jigsaw.data.building.build import reject_reasons
from jigsaw.data.building.planning import Job, plan_source
from jigsaw.data.storage.settings import BuildConfig
from jigsaw.errors import JigsawError
from jigsaw.tasks import get_task, task_names

CONFIG = {"grid": "2x2", "crop": "random", "tile": 28}


def rows_of(folder):
    """The rows by id, with media."""
    tables = [pq.read_table(file).to_pylist() for file in sorted(Path(folder).glob("data-*.parquet"))]
    return {row["id"]: row for table in tables for row in table}


def build(source, out, **options):
    return build_puzzles("image", source, out, **({"config": CONFIG, "per_source": 3, "workers": 2} | options))


@pytest.fixture(scope="module")
def expected_rows(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "set"
    build(photos, out, workers=1, parts=1, materialize=True)
    return rows_of(out)


@pytest.mark.parametrize(("workers", "parts"), [(1, 5), (3, 1), (2, 7)])
def test_workers_and_parts_do_not_change_the_rows(photos, tmp_path, expected_rows, workers, parts):
    summary = build(photos, tmp_path / "set", workers=workers, parts=parts, materialize=True)
    assert summary.counts.puzzles == 36
    assert rows_of(tmp_path / "set") == expected_rows
    assert len(list((tmp_path / "set").glob("data-*"))) == parts
    assert not list((tmp_path / "set").glob(".*")), "no intermediate file is left"


def test_shards_together_give_the_rows_of_one_run(photos, tmp_path, expected_rows):
    out = tmp_path / "set"
    for number in range(3):
        assert not out.exists() or not read_manifest(out).complete
        build(photos, out, parts=5, shard=(number, 3), materialize=True)
    assert rows_of(out) == expected_rows
    manifest = read_manifest(out)
    assert manifest.complete
    assert manifest.counts.puzzles == 36
    assert len(load_puzzles(out)) == 36


def test_a_set_moved_to_another_machine_has_the_same_rows(photos, tmp_path, expected_rows):
    shutil.copytree(photos, tmp_path / "elsewhere")
    build(tmp_path / "elsewhere", tmp_path / "set", materialize=True)
    assert rows_of(tmp_path / "set") == expected_rows


SCRIPT = """
import sys
from jigsaw.data import build_puzzles
config = {"grid": "2x2", "crop": "random", "tile": 28}
build_puzzles("image", sys.argv[1], sys.argv[2], config=config, per_source=3, parts=6, workers=2, materialize=True)
"""


def test_a_killed_build_is_resumed_to_the_same_set(photos, tmp_path, expected_rows):
    bad = tmp_path / "photos"
    shutil.copytree(photos, bad)
    (bad / "broken.jpg").write_bytes(b"nothing")
    rng, killed, out = random.Random(0), 0, tmp_path / "set"
    rejects = None
    for _ in range(5):
        shutil.rmtree(out, ignore_errors=True)
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(bad), str(out)], start_new_session=True)
        while not list(out.glob("manifest.json")) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0.3, 1.6))
        killed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        if not (out / "manifest.json").exists() or not read_manifest(out).complete:
            with pytest.raises(JigsawError, match="not complete"):
                load_puzzles(out)
        summary = build(bad, out, parts=6, materialize=True)
        assert rows_of(out) == expected_rows
        assert summary.counts.rejects == {"unreadable": 1}
        assert not list(out.glob(".*"))
        text = (out / "rejects.jsonl").read_text()
        rejects = rejects or text
        assert text == rejects
    assert killed, "no run was long enough to be killed"


def test_builds_of_one_set_at_the_same_time_wait_for_each_other(photos, tmp_path, expected_rows):
    command = [sys.executable, "-c", SCRIPT, str(photos), str(tmp_path / "set")]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    messages = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0] * 4, messages
    assert any("waiting for another build" in message for message in messages)
    assert rows_of(tmp_path / "set") == expected_rows
    assert not list((tmp_path / "set").glob(".*"))


def test_the_workers_of_a_killed_build_end(photos, tmp_path):
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(photos), str(tmp_path / "set")])
    children = []
    while not children:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while any(_alive(child) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_second_run_builds_only_missing_parts(photos, tmp_path, expected_rows):
    out = tmp_path / "set"
    build(photos, out, parts=4, materialize=True)
    again = build(photos, out, parts=None, materialize=True)
    assert (again.parts_built, again.parts_skipped, again.counts.puzzles) == (0, 4, 36)
    (out / "data-00002-of-00004.parquet").unlink()
    again = build(photos, out, materialize=True)
    assert (again.parts_built, again.parts_skipped, again.counts.puzzles) == (1, 3, 36)
    assert rows_of(out) == expected_rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed was 0, now 1"),
        ({"per_source": 4}, "per source was 3, now 4"),
        ({"config": CONFIG | {"grid": "3x3"}}, "grid was '2x2', now '3x3'"),
        ({"materialize": True}, "materialize was False, now True"),
        ({"limit": 5}, "limit was None, now 5"),
        ({"split": "train"}, "split was None, now 'train'"),
        ({"parts": 9}, "parts was 2, now 9"),
    ],
)
def test_a_folder_built_with_other_settings_is_refused_and_unchanged(photos, tmp_path, change, message):
    out = tmp_path / "set"
    build(photos, out, parts=2)
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    with pytest.raises(JigsawError, match=message) as error:
        build(photos, out, **change)
    assert "\n" not in str(error.value)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


def test_a_changed_source_folder_is_refused(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    build(tmp_path / "photos", tmp_path / "set")
    (tmp_path / "photos" / "new.png").write_bytes((photos / "two and more" / "photo 0.png").read_bytes())
    with pytest.raises(JigsawError, match="num sources was 12, now 13"):
        build(tmp_path / "photos", tmp_path / "set")


def test_a_source_gives_no_duplicate_puzzles_and_is_reported_as_exhausted(photos, tmp_path):
    one = tmp_path / "photos"
    one.mkdir()
    shutil.copy(photos / "one" / "photo 1.jpg", one)
    summary = build_puzzles("image", one, tmp_path / "set", config={"grid": "1x3"}, per_source=10, workers=1)
    rows = rows_of(tmp_path / "set").values()
    assert len({tuple(row["answer"]) for row in rows}) == len(rows) == 6
    assert summary.counts.rejects == {"exhausted": 1}


def test_an_exhausted_source_is_detected_after_few_attempts(photos, monkeypatch):
    task = get_task("image", grid="1x2")
    plan, plans = task.plan, []
    monkeypatch.setattr(task, "plan", lambda source, rng: plans.append(1) or plan(source, rng))
    job = Job(root=photos, build=BuildConfig(spec="image", config={"grid": "1x2"}, per_source=20))
    planned = plan_source(task, job, "one/photo 1.jpg")
    assert len(planned.rows) == 2
    assert [refusal.reason for refusal in planned.refusals] == ["exhausted"]
    assert 103 <= len(plans) < 150  # (2/3)**103 = 1e-18


def test_copies_of_a_file_have_equal_ids_and_are_loaded_once(photos, tmp_path):
    both = tmp_path / "photos"
    both.mkdir()
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(photos / "one" / "photo 1.jpg", both / name)
    build(both, tmp_path / "set", parts=3)
    assert read_manifest(tmp_path / "set").counts.puzzles == 6
    assert len(load_puzzles(tmp_path / "set")) == 3


def test_limit_samples_the_same_sources_with_any_parts_and_workers(photos, tmp_path):
    build(photos, tmp_path / "a", limit=4)
    build(photos, tmp_path / "b", limit=4, parts=3, workers=1)
    assert rows_of(tmp_path / "a") == rows_of(tmp_path / "b")
    assert len({row["source"]["path"] for row in rows_of(tmp_path / "a").values()}) == 4


def test_splits_by_content_are_disjoint_and_complete_and_do_not_separate_copies(photos, tmp_path):
    source = tmp_path / "photos"
    shutil.copytree(photos, source)
    for number, file in enumerate(sorted(source.rglob("*.*"))):
        shutil.copy(file, source / f"copy {number}{file.suffix}")
    parts = {}
    for split in ("train", "heldout"):
        build(source, tmp_path / split, split=split, heldout=0.4)
        parts[split] = {row["source"]["fingerprint"] for row in rows_of(tmp_path / split).values()}
        assert read_manifest(tmp_path / split).settings.split == split
    assert parts["train"] & parts["heldout"] == set()
    assert len(parts["train"] | parts["heldout"]) == 12
    assert 1 <= len(parts["heldout"]) <= 8
    build(source, tmp_path / "few", split="train", heldout=0.4, limit=3)
    few = {row["source"]["path"] for row in rows_of(tmp_path / "few").values()}
    assert len(few) >= 2


def test_sub_folders_named_train_and_heldout_are_used_as_splits(photos, tmp_path):
    source = tmp_path / "photos"
    for split, folder in {"train": "one", "heldout": "two and more"}.items():
        shutil.copytree(photos / folder, source / split)
    build(source, tmp_path / "set", split="heldout")
    paths = {row["source"]["path"] for row in rows_of(tmp_path / "set").values()}
    assert len(paths) == 6
    assert all(path.startswith("heldout/") for path in paths)
    assert load_puzzles(tmp_path / "set")[0]["images"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_source": 0}, "per_source must be at least 1"),
        ({"workers": 0}, "workers must be"),
        ({"shard": (3, 3)}, "shard 3/3 does not exist"),
        ({"heldout": 1.5}, "heldout must be"),
        ({"config": {"gird": "2x2"}}, "did you mean grid"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(photos, tmp_path, options, message):
    with pytest.raises(JigsawError, match=message):
        build(photos, tmp_path / "set", **options)
    assert not (tmp_path / "set").exists()


def test_a_missing_or_empty_source_is_refused_and_writes_nothing(tmp_path):
    with pytest.raises(JigsawError, match="does not exist"):
        build(tmp_path / "nowhere", tmp_path / "set")
    (tmp_path / "empty").mkdir()
    with pytest.raises(JigsawError, match="has no pictures"):
        build(tmp_path / "empty", tmp_path / "set")
    with pytest.raises(JigsawError, match=r"has no pictures with depth maps .* set the layout"):
        build_puzzles("depth", tmp_path / "empty", tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_folder_of_broken_photos_is_refused_and_gives_no_puzzle_set(tmp_path):
    source = tmp_path / "photos"
    source.mkdir()
    for number in range(3):
        (source / f"{number}.jpg").write_bytes(b"not a photo")
    out = tmp_path / "set"
    with pytest.raises(
        JigsawError, match=r"none of the 3 sources .* gave a puzzle: the file cannot be read as a picture \(3\)"
    ) as error:
        build(source, out)
    assert "\n" not in str(error.value)
    assert [file.name for file in out.iterdir()] == ["rejects.jsonl"]
    lines = [json.loads(line) for line in (out / "rejects.jsonl").read_text().splitlines()]
    assert {line["source"] for line in lines} == {"0.jpg", "1.jpg", "2.jpg"}
    assert {line["detail"] for line in lines} == {"the content has no known picture format"}


def test_a_full_disk_is_an_error_and_leaves_no_part(photos, tmp_path, monkeypatch):
    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(JigsawError, match=r"cannot be written: No space left on device"):
        build(photos, tmp_path / "set")
    monkeypatch.undo()
    assert not list((tmp_path / "set").rglob("data-*"))
    assert build(photos, tmp_path / "set").counts.puzzles == 36


PLUGIN = '''
import os, time
from dataclasses import dataclass
from pathlib import Path
from jigsaw.tasks import Media, Puzzle, Reject, Task, user_message

@dataclass(frozen=True, kw_only=True)
class Config:
    pass

class Trouble(Task):
    """Hangs, crashes or raises, as the name of the file says."""
    name = "trouble"
    source_kind = "image"
    Config = Config
    def plan(self, source, rng):
        word = Path(source.path).stem
        if word == "hang":
            time.sleep(3600)
        if word == "crash":
            os.kill(os.getpid(), 11)
        if word == "raise":
            raise RuntimeError("a bug")
        if word == "foreign":
            return Reject("a reason nobody declared")
        return Puzzle(task=self.name, answer=(2, 1), geometry={})
    def render(self, puzzle, source):
        return Media()
    def prompt(self, puzzle):
        return user_message(["Go"])
'''


def test_the_sources_of_a_killed_worker_are_built_by_a_new_one(tmp_path):
    """A source whose worker dies once is built; one whose worker dies three times is rejected until the next run.

    The set then equals that of a build without interruptions.
    """
    body = """
        deaths = Path(source.files["image"]).parent.parent / Path(source.path).stem
        died = len(deaths.read_text()) if deaths.exists() else 0
        if died < {"once": 1, "thrice": 3}.get(deaths.name, 0):
            deaths.write_text("x" * (died + 1))
            os.kill(os.getpid(), 9)
"""
    text = PLUGIN.replace("        word = Path(source.path).stem\n", body + "        word = deaths.name\n")
    (tmp_path / "trouble.py").write_text(text)
    source = tmp_path / "files"
    source.mkdir()
    for word in ("once", "thrice", "fine", "well"):
        (source / f"{word}.png").write_bytes(word.encode())
    spec = f"{tmp_path / 'trouble.py'}:Trouble"
    first = build_puzzles(spec, source, tmp_path / "set", workers=2, progress=False)
    assert (first.counts.puzzles, first.counts.rejects) == (3, {"crashed": 1})
    second = build_puzzles(spec, source, tmp_path / "set", workers=1, progress=False)
    assert (second.counts.puzzles, second.counts.rejects) == (4, {})
    assert (tmp_path / "set" / "rejects.jsonl").read_text() == ""
    uninterrupted = build_puzzles(spec, source, tmp_path / "uninterrupted", workers=1, progress=False)
    assert [part.read_bytes() for part in sorted((tmp_path / "set").glob("*.parquet"))] == [
        part.read_bytes() for part in sorted((tmp_path / "uninterrupted").glob("*.parquet"))
    ]
    assert uninterrupted.parts_built == 1


def test_a_source_that_hangs_crashes_or_raises_becomes_a_reject(tmp_path):
    (tmp_path / "trouble.py").write_text(PLUGIN)
    source = tmp_path / "files"
    source.mkdir()
    for word in ("hang", "crash", "raise", "foreign", "fine", "well"):
        (source / f"{word}.png").write_bytes(word.encode())
    spec = f"{tmp_path / 'trouble.py'}:Trouble"
    start = time.monotonic()
    summary = build_puzzles(spec, source, tmp_path / "set", workers=2, time_limit=2)
    assert time.monotonic() - start < 600, "the source that hangs sleeps for an hour"
    assert summary.counts.puzzles == 2
    assert summary.counts.rejects == {"timeout": 1, "crashed": 1, "failed": 2}
    by_source = {}
    for line in (tmp_path / "set" / "rejects.jsonl").read_text().splitlines():
        record = json.loads(line)
        by_source[record["source"]] = record["detail"]
    assert by_source["raise.png"] == "RuntimeError: a bug"
    with pytest.raises(JigsawError, match="name it again"):
        load_puzzles(tmp_path / "set")
    assert len(load_puzzles(tmp_path / "set", task=spec)) == 2


def test_modules_in_the_working_directory_do_not_shadow_those_of_the_workers(photos, tmp_path, monkeypatch):
    (tmp_path / "tasks.py").write_text("raise RuntimeError('foreign tasks')")
    (tmp_path / "json.py").write_text("raise RuntimeError('foreign json')")
    monkeypatch.chdir(tmp_path)
    assert build(photos, tmp_path / "set").counts.puzzles == 36


def test_a_script_without_a_main_guard_may_build(photos, tmp_path):
    file = tmp_path / "script.py"
    file.write_text(SCRIPT)
    subprocess.run([sys.executable, file, photos, tmp_path / "set"], check=True, timeout=120, env=os.environ)
    assert read_manifest(tmp_path / "set").complete


def test_the_parts_can_be_loaded_with_datasets(photos, tmp_path):
    import datasets

    build(photos, tmp_path / "set", parts=2)
    files = [str(file) for file in (tmp_path / "set").glob("*.parquet")]
    rows = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert rows.num_rows == 36
    assert rows.column_names[:12] == [
        *("id", "task", "prompt", "answer", "num_pieces", "answer_style", "classes", "answer_kind", "answer_args"),
        *("answer_value", "source", "geometry"),
    ]


def test_a_photo_is_decoded_at_most_twice_for_many_puzzles(tmp_path, monkeypatch):
    """Two hundred puzzles of one photo do not decode it two hundred times."""
    from jigsaw.data.building.planning import Job, plan_source
    from jigsaw.data.storage.settings import BuildConfig
    from jigsaw.tasks import get_task, image

    Image.radial_gradient("L").resize((900, 700)).save(tmp_path / "a.jpg")
    decodes = []
    real = image.read_photo
    monkeypatch.setattr(image, "read_photo", lambda *args: decodes.append(args) or real(*args))
    job = Job(root=tmp_path, build=BuildConfig(spec="image", config={}, per_source=200, materialize=True))
    task = get_task("image", grid="2x2", tile=28, crop="random", flat="keep")
    assert len(plan_source(task, job, "a.jpg").rows) == 200
    assert len(decodes) <= 2


@pytest.mark.parametrize("inside", [".", "set", "deep/er"])
def test_a_set_inside_its_source_folder_is_refused_before_anything_is_written(photos, tmp_path, inside):
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    before = sorted((tmp_path / "photos").rglob("*"))
    for name in ("photos", "link"):
        with pytest.raises(JigsawError, match="choose a folder outside of it"):
            build(tmp_path / name, tmp_path / "photos" / inside)
    assert sorted((tmp_path / "photos").rglob("*")) == before


def test_a_set_may_be_in_the_folder_of_its_list(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    names = sorted(str(file.relative_to(tmp_path)) for file in (tmp_path / "photos").rglob("*.*g"))
    (tmp_path / "list.txt").write_text("\n".join(names))
    assert build(tmp_path / "list.txt", tmp_path / "photos" / "set").counts.puzzles == 36


@pytest.mark.parametrize(("first", "then"), [((0, 3), (0, 1)), ((0, 3), (0, 2)), ((0, 1), (1, 2))])
def test_a_folder_with_another_number_of_shards_is_refused_and_unchanged(photos, tmp_path, first, then):
    out = tmp_path / "set"
    build(photos, out, parts=3, shard=first)
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    with pytest.raises(JigsawError, match=rf"in {first[1]} shards?, not {then[1]}") as error:
        build(photos, out, parts=3, shard=then)
    assert "\n" not in str(error.value)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


@pytest.mark.parametrize("name", task_names())
def test_every_reject_reason_is_printed_with_the_values_of_its_settings(name):
    task = get_task(name)
    for reason in {**REASONS, **task.REASONS}:
        ((words, number),) = reject_reasons({reason: 3}, task).items()
        assert number == 3 and "`" not in words
        assert len(words.split()) >= 4, "the reason is not cut off at its first comma"


def test_reject_reasons_are_counted_by_key_and_printed_with_setting_values():
    words = {"the photo is smaller than side=64 pixels": 5, "the file cannot be read as a picture": 1}
    assert reject_reasons({"unreadable": 1, "too_small": 5}, get_task("rotation", side=64)) == words
