"""`jigsaw bench`: missing benchmarks are listed and the others run; scores by lmms-eval on rows in the real schemas."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from jigsaw.answering.generation import Generation
from jigsaw.errors import JigsawError
from jigsaw.results.log_file import to_json
from jigsaw.suites import evaluate as suite_module
from jigsaw.suites.benchmarks import PUBLISHED, SUITES, published
from jigsaw.suites.evaluate import evaluate_suite, suite_text
from jigsaw.suites.loading import LOADERS, find_benchmarks, load_items, repo_folder
from jigsaw.suites.log import Result, SuiteLog, read_suite

needs_lmms = pytest.mark.skipif(find_spec("lmms_eval") is None, reason="needs the extra suite")


def right_answer(row):
    """The right completion for a row of a built-in benchmark."""
    target = row["target"]
    if row["kind"] == "box":
        return json.dumps([side / scale for side, scale in zip(target, row["scale"] * 2, strict=True)])
    if row["kind"] == "boxes":
        box = [10, 10, 50, 40]
        return json.dumps([round(side / scale) for side, scale in zip(box, row["scale"] * 2, strict=True)])
    return target


class Oracle:
    """An engine that answers built-in benchmarks correctly and all others with A or yes."""

    def __init__(self, folder):
        self.folder, self.rows = folder, []

    def __call__(self, rows):
        self.rows += rows
        return [[self.completion_of(*row["id"].split())] for row in rows]

    def completion_of(self, task, number):
        path = self.folder / "tasks" / f"{task}.jsonl"
        if not path.exists():
            return "yes" if "pope" in task else "A"
        return right_answer(json.loads(json.loads(path.read_text().splitlines()[int(number)])["row"]))


@pytest.fixture
def in_process(monkeypatch, tmp_path):
    """Runs the harness in this process, with the oracle as the model."""
    out = tmp_path / "out"
    oracle = Oracle(out)

    def run(folder, root, steps):
        from jigsaw.suites import harness, model

        monkeypatch.setenv("LMMS_EVAL_DATASETS_CACHE", str(out / "cache"))
        monkeypatch.setattr(model, "open_engine", lambda *_, **__: oracle)
        harness.main(folder / "plan.json")

    monkeypatch.setattr(suite_module, "_run_harness", run)
    return out, oracle


@needs_lmms
@pytest.mark.slow
def test_right_answers_score_100_on_every_built_in_benchmark(in_process, data_root, checkpoint):
    out, oracle = in_process
    notes = []
    log = evaluate_suite(checkpoint, "image", data_root, out=out, note=notes.append)
    values = {entry.benchmark: entry.failed or entry.value for entry in log.benchmarks.values()}
    built_in = {benchmark.name for benchmark in SUITES["image"] if benchmark.own}
    assert values == pytest.approx(dict.fromkeys({*built_in, "MMStar-fine"}, 100.0))
    assert set(log.missing) == {benchmark.name for benchmark in SUITES["image"]} - set(values)
    assert notes[0].startswith("missing: MMBench-en-dev: ") and notes[-1].startswith("running: MMVP, ")
    marked = next(row for row in oracle.rows if row["id"] == "jigsaw_da2k 0")["images"][0]
    assert marked.getpixel((20, 10)) == (0, 255, 0)  # a row of the file is y, x
    assert marked.getpixel((60, 40)) == (255, 0, 0)
    interleaved = next(row for row in oracle.rows if row["id"] == "jigsaw_winoground 2")["prompt"][0]["content"]
    assert [part["type"] for part in interleaved] == ["text", "image", "text", "image", "text"]
    text = suite_text(log, [out])
    assert "| Image Jigsaw (image, published) | 60.66 |" in text
    assert read_suite(out) == log


@needs_lmms
@pytest.mark.slow
def test_clips_are_evaluated_with_every_number_of_frames(in_process, data_root, checkpoint):
    out, oracle = in_process
    log = evaluate_suite(checkpoint, "video", data_root, out=out, frames=[16, 64])
    assert {entry.value for entry in log.benchmarks.values()} == {100.0}
    assert set(log.benchmarks) >= {"aotbench-16", "aotbench-64", "cvbench-16"}
    (clip,) = next(row for row in oracle.rows if row["id"] == "jigsaw_aotbench 0")["videos"]
    assert len(clip.frames) == 4  # two seconds at two frames per second
    pair = next(row for row in oracle.rows if row["id"] == "jigsaw_cvbench 0")
    assert len(pair["videos"]) == 2


@needs_lmms
@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["qwen2_5_vl", "qwen3_vl"])
def test_a_checkpoint_is_evaluated_in_a_separate_process_and_resumes(
    data_root, make_checkpoint, architecture, tmp_path
):
    checkpoint = make_checkpoint(architecture)
    settings = {"out": tmp_path / "out", "generation": Generation(max_new_tokens=4), "limit": 1}
    log = evaluate_suite(checkpoint, "neo", data_root, **settings)
    assert None not in (log.benchmarks["pope"].value, log.benchmarks["mmstar"].value)
    before = (tmp_path / "out" / "results" / "pope.json").stat().st_mtime_ns
    assert evaluate_suite(checkpoint, "neo", data_root, **settings).benchmarks == log.benchmarks
    assert (tmp_path / "out" / "results" / "pope.json").stat().st_mtime_ns == before
    with pytest.raises(JigsawError, match="was started with model"):
        evaluate_suite(checkpoint, "neo", data_root, **settings | {"generation": Generation(max_new_tokens=5)})


@needs_lmms
def test_a_failed_benchmark_is_run_again_by_the_next_call(in_process, data_root, checkpoint, monkeypatch):
    from jigsaw.suites import harness

    out, _ = in_process
    names = []

    def run(model, job, out, name, limit, frames):
        names.append(name)
        first = name == "da-2k" and names.count("da-2k") == 1
        outcome = {"failed": "OSError: busy"} if first else {"value": 50.0}
        return Result(benchmark=job.benchmark.name, metric=job.benchmark.metric, frames=frames, **outcome)

    monkeypatch.setattr(harness, "_run", run)
    assert evaluate_suite(checkpoint, "depth", data_root, out=out).benchmarks["da-2k"].failed
    first_call = len(names)
    for _ in range(2):
        assert evaluate_suite(checkpoint, "depth", data_root, out=out).benchmarks["da-2k"].value == 50.0
    assert names[first_call:] == ["da-2k"]


@needs_lmms
def test_the_registry_agrees_with_lmms_eval():
    import lmms_eval

    from jigsaw.suites.harness import _stored_keys

    for benchmark in {entry.name: entry for suite in SUITES.values() for entry in suite}.values():
        if benchmark.own:
            continue
        for task in benchmark.tasks:
            stored = _stored_keys(Path(lmms_eval.__file__).parent / "tasks" / task)
            assert benchmark.metric in {metric["metric"] for metric in stored["metric_list"]}, task
            assert stored["dataset_path"] in (benchmark.repo, "text"), task
            options = stored.get("dataset_kwargs") or {}
            assert not options.get("video") or benchmark.media == options["cache_dir"], task


def test_every_benchmark_of_a_table_has_a_published_score():
    tables = {"image": "visual-jigsaw-image", "video": "visual-jigsaw-video", "depth": "visual-jigsaw-3d"}
    for suite, table in tables.items():
        assert {row.benchmark for row in published([table])} == {benchmark.name for benchmark in SUITES[suite]}


@pytest.mark.parametrize(
    ("suite", "model", "benchmark", "score"),
    [("image", "VL-Cogito", "VStar", 79.58), ("video", "MiMo-VL-7B-SFT-2508", "TOMATO", 34.16)],
)
def test_the_published_scores_include_the_models_of_the_paper(suite, model, benchmark, score):
    rows = [row for row in published(PUBLISHED[suite]) if row.model == model]
    assert score in [row.score for row in rows if row.benchmark == benchmark]
    assert {row.benchmark for row in rows} <= {benchmark.name for benchmark in SUITES[suite]}


def test_all_rows_of_built_in_benchmarks_are_loaded(data_root):
    kinds = {name: [item["kind"] for item in load_items(name, data_root)] for name in LOADERS}
    assert kinds["jigsaw_cvbench"] == ["word", "letter"]
    assert kinds["jigsaw_winoground"] == ["word"] * 4
    assert kinds["jigsaw_ovdeval"] == ["boxes"] * 2
    favor = load_items("jigsaw_favor", data_root)[0]
    assert favor["target"] == "B"
    assert favor["prompt"] == "What moves?\nA. the car\nB. the dog\nAnswer with the option letter directly."
    tuna = load_items("jigsaw_tuna", data_root)[0]
    assert tuna["prompt"].count("A. it rains") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "vsr" / "test.jsonl").write_text('{"image": "x.jpg"'), "VSR: .*download it again"),
        (lambda root: (root / "vsr" / "test.jsonl").write_text('{"image": "x.jpg"}'), "VSR: .*row 0 has no caption"),
        (lambda root: (root / "vsr" / "test.jsonl").write_text(""), "VSR: .*has no rows"),
        (
            lambda root: (root / "vsr" / "test.jsonl").write_text('{"image": "../x.jpg", "caption": "", "label": 1}'),
            "VSR: .*vsr: a row names '../x.jpg', which leads out of that folder",
        ),
        (
            lambda root: (root / "vsr" / "test.jsonl").write_text('{"image": "/x.jpg", "caption": "", "label": 1}'),
            "VSR: .*vsr: a row names '/x.jpg', which leads out of that folder",
        ),
        (lambda root: shutil.rmtree(root / "coco"), "VSR: .*1 of 1 media files are missing"),
        (lambda root: shutil.rmtree(root / "vsr"), "VSR: .*vsr is missing"),
        (
            lambda root: (
                (root / "lmms-lab-encoder" / "POPE" / ".cache").mkdir()
                or (root / "lmms-lab-encoder" / "POPE" / ".cache" / "x.incomplete").touch()
            ),
            "POPE: .*is incomplete",
        ),
        (
            lambda root: shutil.rmtree(root / "lmms-lab-encoder" / "POPE" / "data"),
            "POPE: .*has no tables",
        ),
    ],
)
def test_missing_and_incomplete_benchmarks_are_listed_and_the_others_are_ready(data_root, tmp_path, change, message):
    root = tmp_path / "root"
    shutil.copytree(data_root, root)
    change(root)
    benchmarks = [entry for suite in SUITES.values() for entry in suite if entry.name in ("VSR", "POPE", "MMVP")]
    jobs, missing = find_benchmarks(benchmarks, root, [32])
    assert "MMVP" in [job.benchmark.name for job in jobs]
    lines = "\n".join(f"{name}: {why}" for name, why in missing.items())
    import re

    assert re.search(message, lines), lines


def test_a_hub_cache_may_be_the_data_root(data_root, tmp_path):
    cached = tmp_path / "hub" / "datasets--lmms-lab-encoder--POPE"
    shutil.copytree(data_root / "lmms-lab-encoder" / "POPE", cached / "snapshots" / "abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    assert repo_folder("lmms-lab-encoder/POPE", tmp_path) == cached / "snapshots" / "abc"
    (cached / "blobs").mkdir()
    (cached / "blobs" / "x.incomplete").touch()
    with pytest.raises(JigsawError, match="is incomplete"):
        repo_folder("lmms-lab-encoder/POPE", tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"suite": "img"}, "suite 'img' is not one of image, video, depth, neo"),
        ({"generation": Generation(samples=2)}, "--samples: 2; benchmarks need greedy decoding"),
        ({"boxes": "inches"}, "--boxes: 'inches' is not one of pixels, thousandths"),
        ({"model": "./nowhere"}, "no such checkpoint folder"),
        ({"data_root": Path("/nowhere")}, "--data-root: /nowhere is not a folder"),
    ],
)
def test_invalid_options_are_refused(data_root, checkpoint, tmp_path, changes, message):
    options = {"model": checkpoint, "suite": "image", "data_root": data_root, "out": tmp_path / "out"} | changes
    with pytest.raises(JigsawError, match=message):
        evaluate_suite(options.pop("model"), options.pop("suite"), options.pop("data_root"), **options)


def test_a_hub_id_is_loaded_from_the_cache_and_is_the_label(data_root, checkpoint, tmp_path, monkeypatch):
    cached = tmp_path / "models--org--small"
    shutil.copytree(checkpoint, cached / "snapshots" / "abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(suite_module, "_run_harness", lambda *_: None)
    out = tmp_path / "out"
    assert evaluate_suite("org/small", "image", data_root, out=out).model == "org/small"
    assert json.loads((out / "plan.json").read_text())["checkpoint"] == str(cached / "snapshots" / "abc")
    with pytest.raises(JigsawError, match=r"org/other is not in the cache.*run `hf download org/other`"):
        evaluate_suite("org/other", "image", data_root, out=tmp_path / "other")


def test_without_lmms_eval_the_error_names_the_remedy(data_root, checkpoint, tmp_path, monkeypatch):
    shim = tmp_path / "python"
    shim.write_text("#!/bin/sh\nexit 1\n")
    shim.chmod(0o755)
    monkeypatch.setenv("JIGSAW_SUITE_PYTHON", str(shim))
    with pytest.raises(JigsawError, match=r"lmms-eval is not installed; .*\[suite\]'"):
        evaluate_suite(checkpoint, "image", data_root, out=tmp_path / "out")


def test_an_empty_data_root_is_refused(checkpoint, tmp_path):
    (tmp_path / "root").mkdir()
    with pytest.raises(JigsawError, match="has none of the 13 benchmarks of suite image"):
        evaluate_suite(checkpoint, "image", tmp_path / "root", out=tmp_path / "out")


def test_the_log_of_a_suite_is_read_back_and_an_older_one_is_refused(tmp_path):
    results = {
        "mmvp": Result(
            benchmark="MMVP", metric="right", value=50.0, low=40.0, high=60.0, rows=9, categories={"a": 1.0}
        ),
        "vsr": Result(benchmark="VSR", metric="right", note="another prompt", failed="OSError: busy"),
    }
    log = SuiteLog(
        argv=["jigsaw", "bench", "m", "image"],
        versions={},
        suite="image",
        model="org/m",
        settings={"limit": None},
        benchmarks=results,
        missing={"VStar": "is missing"},
    )
    (tmp_path / "suite.json").write_text(to_json(log))
    assert read_suite(tmp_path) == log
    text = suite_text(log, [tmp_path])
    assert "| org/m | 50.00 [40.00, 60.00] |" in text and "failed: vsr: OSError: busy" in text
    assert f"- `{tmp_path}/suite.json`, written by `jigsaw bench m image`" in text
    (tmp_path / "suite.json").write_text(json.dumps({"suite": "image", "benchmarks": {}}))
    with pytest.raises(
        JigsawError, match="has format 1, this version reads 2; name a folder that `jigsaw bench` wrote"
    ):
        read_suite(tmp_path)
