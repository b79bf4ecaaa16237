"""Invalid input of a user: a one-line error, a failing exit code, and no partial output that a second run would use.

All tests call `jigsaw.cli.command.main` in this process, because importing takes most of the time of a command. A full
disk is simulated by a limit on the size of files, at which writing fails as on a full disk.
"""

import json
import os
import resource
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from jigsaw.cli import command as cli

RECIPE = """\
name: small
seed: 3
model: {tiny: qwen2_5_vl, sizes: {hidden_size: 64, num_layers: 1, vision_hidden_size: 64, initializer_range: 0.1}}
data:
  photos: photos
  folder: data
  train: [{build: {task: image, source: "${data.photos}", grid: 2x2, tile: 28, answer_style: direct, per_source: 2}}]
  eval: [{build: {task: image, source: "${data.photos}", grid: 2x2, tile: 28, answer_style: direct, seed: 1}}]
sft: {max_steps: 1, per_device_train_batch_size: 4, gradient_checkpointing: false}
grpo: {max_steps: 1, prompts_per_step: 2, num_generations: 2, max_completion_length: 4, gradient_checkpointing: false}
evaluation: {every: 0, batch_size: 8}
output: runs/${name}
"""


@pytest.fixture(scope="module")
def command():
    """Run the command in this process; returns the exit code and the error lines."""

    def run(*arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cli, "_quiet_libraries", lambda debug: None)
            patch.setattr(sys, "argv", ["jigsaw", *map(str, arguments)])
            patch.setattr(sys, "stderr", open(os.devnull, "w"))  # noqa: PTH123, SIM115  # output of libraries
            lines = []
            patch.setattr(cli, "print", lambda line, file: lines.append(line), raising=False)
            with pytest.raises(SystemExit) as ended:
                cli.main()
            sys.stderr.close()
        return ended.value.code, lines

    return run


@pytest.fixture
def refused(command):
    """Run a command that must fail with one line that does not report a bug; returns the line."""

    def run(*arguments):
        code, lines = command(*arguments)
        assert code == 1
        assert len(lines) == 1
        assert "\n" not in lines[0]
        assert "this is a bug" not in lines[0]
        return lines[0].removeprefix("jigsaw: ")

    return run


@pytest.fixture
def work(tmp_path, photos, monkeypatch):
    """A working folder with photos, unreadable photos and a recipe."""
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "empty").mkdir()
    (tmp_path / "unusable").mkdir()
    (tmp_path / "unusable" / "notes.txt").write_text("x")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "cut.png").write_bytes(next(photos.glob("*.png")).read_bytes()[:1000])
    (broken / "text.jpg").write_text("no photo at all")
    (broken / "nothing.jpg").touch()
    (broken / "cut.jpg").write_bytes(jpeg()[:700])
    (tmp_path / "file").write_text("x")
    (tmp_path / "small.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def jpeg():
    from io import BytesIO

    from PIL import Image

    stream = BytesIO()
    Image.effect_noise((160, 160), 90).convert("RGB").save(stream, "JPEG")
    return stream.getvalue()


@contextmanager
def full_disk(kilobytes):
    """Limits the size of files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def without_root():
    """Drops the rights of root, which may read and write all files."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def tree(folder):
    """Returns all files below a folder with their contents."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# A recipe


@pytest.mark.parametrize(
    "recipe, override, message",
    [
        ("gone.yaml", "seed=1", "gone.yaml: no such recipe file"),
        ("smal", "seed=1", "'smal' is neither a recipe file nor a shipped recipe"),
        ("file", "seed=1", "file: unknown key x"),
        ("photos/photo-0.png", "seed=1", "photos/photo-0.png: is not UTF-8 text"),
        ("small.yaml", "modle.dtype=float32", "override 'modle.dtype=float32': unknown key modle; did you mean model?"),
        ("small.yaml", "seed=often", "override 'seed=often': seed: input should be a valid integer"),
        (
            "small.yaml",
            "data.train.0.build.gird=3x3",
            "override 'data.train.0.build.gird=3x3': data.train.0.build: task image has no key 'gird'",
        ),
        (
            "small.yaml",
            "data.train.0.build.task=imgae",
            "override 'data.train.0.build.task=imgae': data.train.0.build: no task is called 'imgae'; did you mean",
        ),
        ("small.yaml", "rewards=[{use: visual_jigsw}]", "rewards: no reward is called 'visual_jigsw'; did you mean"),
        ("small.yaml", "rewards=[{use: exact, wieght: 2}]", "rewards: "),
        ("small.yaml", "metrics=[exat]", "rewards: no reward is called 'exat'; did you mean exact?"),
        (
            "small.yaml",
            "sft.lerning_rate=1",
            "override 'sft.lerning_rate=1': unknown key sft.lerning_rate; did you mean learning_rate?",
        ),
        (
            "small.yaml",
            "grpo.num_generation=4",
            "override 'grpo.num_generation=4': unknown key grpo.num_generation; did you mean num_generations?",
        ),
        (
            "small.yaml",
            "grpo.learning_rate=high",
            "override 'grpo.learning_rate=high': grpo.learning_rate: input should be a valid number",
        ),
        ("small.yaml", "sft.max_steps=x", "override 'sft.max_steps=x': sft.max_steps: input should be a valid integer"),
        (
            "small.yaml",
            "grpo.extra.lr_scheduler_kwargs=3",
            "override 'grpo.extra.lr_scheduler_kwargs=3': grpo.extra.lr_scheduler_kwargs: input should be a valid dict",
        ),
        (
            "small.yaml",
            "grpo.repetition_penalty=1.1",
            "override 'grpo.repetition_penalty=1.1': grpo.repetition_penalty has no effect: ",
        ),
        (
            "small.yaml",
            "grpo.vllm_mode=server",
            "override 'grpo.vllm_mode=server': grpo.vllm_mode is set by the framework: in a recipe, see rollout.mode",
        ),
        (
            "small.yaml",
            "model.sizes.hidden_size=80",
            "override 'model.sizes.hidden_size=80': model.sizes: hidden_size 80 is not a multiple of",
        ),
        (
            "small.yaml",
            "grpo.output_dir=x",
            "override 'grpo.output_dir=x': grpo.output_dir is set by the framework: in a recipe, see output",
        ),
        (
            "small.yaml",
            "grpo.num_generations=1",
            "override 'grpo.num_generations=1': grpo.num_generations: a group of 1 has no other completion",
        ),
        (
            "small.yaml",
            "grpo.prompts_per_step=many",
            "override 'grpo.prompts_per_step=many': grpo.prompts_per_step: input should be a valid integer",
        ),
    ],
)
@pytest.mark.parametrize("mode", [["--dry-run"], []], ids=["dry-run", "launch"])
def test_an_invalid_recipe_is_refused_before_anything_is_written(work, refused, mode, recipe, override, message):
    before = tree(work)
    assert refused("launch", recipe, override, *mode).startswith(message)
    assert tree(work) == before
    assert not (work / "runs").exists()


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["data.photos=missing"], "data.train.0.build: source missing does not exist"),
        (["data.eval.0.build.source=missing"], "data.eval.0.build: source missing does not exist"),
        (
            ["data.eval=[{path: missing}]"],
            "data.eval.0: missing is not a folder; name a folder that `jigsaw build` wrote",
        ),
        (["model={path: missing, tiny: null}"], "model.path: missing: no such checkpoint folder"),
    ],
)
def test_missing_data_or_a_missing_model_is_reported_before_anything_is_written(work, refused, overrides, message):
    before = tree(work)
    assert refused("launch", "small.yaml", *overrides) == message
    assert tree(work) == before


def test_a_curriculum_without_puzzles_is_reported_before_anything_is_trained(work, refused):
    message = refused("launch", "small.yaml", "curriculum={mode: static, stages: [{until: 0.5, pieces: [9]}]}")
    assert message == "curriculum.stages[0]: no image puzzle has 9 pieces: image puzzles have 4"
    assert not (work / "runs" / "small" / "start").exists()


def test_a_source_of_another_kind_is_refused(work, refused):
    message = refused("launch", "small.yaml", "data.photos=big-buck-bunny")
    remedy = "use samples, landscapes, or a folder of your own"
    assert message == f"data.train.0.build: source big-buck-bunny has no image sources; {remedy}"


def test_an_unreadable_recipe_is_named(command, refused):
    """Given a recipe without read permission and a user other than root, the error names the recipe."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "secret.yaml"
        recipe.write_text(RECIPE)
        recipe.chmod(0o000)
        Path(folder).chmod(0o755)
        with without_root():
            assert refused("launch", recipe, "--dry-run") == f"{recipe}: cannot be read (Permission denied)"
        Path(folder).chmod(0o000)
        with without_root():
            assert refused("launch", recipe, "--dry-run") == f"{recipe}: permission denied"
        Path(folder).chmod(0o755)


# Photos

PHOTOS = [
    ("unusable", [], "source unusable has no pictures"),
    ("missing", [], "missing"),
    ("file", [], "file"),
    ("broken", [], "the file cannot be read as a picture (4); see "),
    ("photos", ["grid=8x8", "tile=28"], "a tile would have fewer than min_tile=28 pixels a side (6); see "),
]


@pytest.mark.parametrize("source, config, message", [("empty", [], "source empty has no pictures"), *PHOTOS])
def test_build_refuses_photos_without_a_puzzle(work, refused, source, config, message):
    assert message in refused("build", "image", source, "out", *config)
    written = set(tree(work / "out")) if (work / "out").exists() else set()
    assert written <= {"rejects.jsonl"}, "no partial puzzle set is left"


EMPTY = "data.train.0.build: source empty is an empty folder"


@pytest.mark.parametrize("source, config, message", [("empty", [], EMPTY), *PHOTOS])
def test_launch_refuses_photos_without_a_puzzle(work, refused, source, config, message):
    overrides = [f"data.train.0.build.{item}" for item in config]
    assert message in refused("launch", "small.yaml", f"data.photos={source}", *overrides)
    assert not list((work / "runs").rglob("start")), "no model is written before there are puzzles"
    assert not list((work / "data").rglob("*.parquet"))


def test_unreadable_photos_are_skipped_and_counted(work, command):
    for path in (work / "broken").iterdir():
        shutil.copy(path, work / "photos" / f"broken-{path.name}")
    code, lines = command("build", "image", "photos", "out", "grid=2x2", "tile=28", "--workers", "1")
    assert (code, lines) == (0, [])
    counts = json.loads((work / "out" / "manifest.json").read_text())["counts"]
    assert counts["puzzles"] == 6
    assert counts["rejects"] == {"unreadable": 4}


# Output folders


def test_build_does_not_overwrite_another_puzzle_set_or_a_file(work, command, refused):
    build = ["build", "image", "photos", "out", "grid=2x2", "tile=28", "--workers", "1"]
    assert command(*build)[0] == 0
    before = tree(work / "out")
    assert "seed was 0, now 1; choose another folder or delete it" in refused(*build, "--seed", "1")
    assert tree(work / "out") == before
    assert (
        refused("build", "image", "photos", "file") == "file cannot be written: Not a directory; choose another folder"
    )
    assert (work / "file").read_text() == "x"


def test_samples_does_not_overwrite_other_files(work, refused):
    before = tree(work / "photos")
    assert refused("samples", "photos") == "photos has something other than samples; name a new or empty folder"
    assert refused("samples", "file") == "file is a file; name a new or empty folder for the samples"
    assert tree(work / "photos") == before


@pytest.mark.parametrize(
    "files, message",
    [
        ({"notes.txt": "mine"}, "output: out is not a run folder; choose another with output=FOLDER"),
        ({"recipe.yaml": "name: other\n"}, "output: out has a run of another recipe; choose another"),
        ({"recipe.yaml": "name: other\n", "DONE": ""}, "output: out has a finished run; choose another"),
    ],
)
@pytest.mark.parametrize("mode", [[], ["--resume"]], ids=["launch", "resume"])
def test_launch_does_not_overwrite_other_files_or_other_runs(work, refused, files, message, mode):
    (work / "out").mkdir()
    for name, text in files.items():
        (work / "out" / name).write_text(text)
    assert refused("launch", "small.yaml", "output=out", *mode).startswith(message)
    assert {name: content.decode() for name, content in tree(work / "out").items()} == files


def test_launch_does_not_overwrite_a_file_and_does_not_resume_a_missing_run(work, refused):
    message = "output: file is a file; choose another with output=FOLDER"
    assert refused("launch", "small.yaml", "output=file") == message
    assert refused("launch", "small.yaml", "--resume") == "output: runs/small has no run to resume"
    assert refused("launch", "small.yaml", "output=file/below") == "file/below: not a directory"


def test_a_folder_without_write_permission_is_named(refused, work):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        out = Path(folder) / "out"
        with without_root():
            message = refused("samples", out)
        assert "ermission denied" in message
        assert str(out) in message
        assert not out.exists()


# Models and puzzle sets


@pytest.mark.parametrize(
    "model, message",
    [
        ("gone", "gone: no such checkpoint folder"),
        ("photos", "photos: not a checkpoint, config.json is missing"),
        ("file", "file: no such checkpoint folder"),
    ],
)
def test_eval_names_a_folder_that_is_not_a_checkpoint(work, refused, puzzle_folder, model, message):
    assert refused("eval", model, puzzle_folder) == message


@pytest.mark.parametrize("data", ["gone", "photos", "file"])
def test_eval_names_a_folder_that_is_not_a_puzzle_set(work, refused, checkpoint, data):
    assert data in refused("eval", checkpoint, data)


def test_eval_refuses_unknown_rewards_and_types(work, refused, checkpoint, puzzle_folder):
    assert "did you mean" in refused("eval", checkpoint, puzzle_folder, "--reward", "visual_jigsw")
    message = "--dtype: 'float8' is none of float32, bfloat16"
    assert refused("eval", checkpoint, puzzle_folder, "--dtype", "float8") == message


# A full disk


@pytest.mark.parametrize("kilobytes", [1, 40])
def test_a_build_on_a_full_disk_leaves_no_partial_file_and_a_second_build_completes_it(
    work, command, refused, checkpoint, kilobytes
):
    settings = ["grid=2x2", "tile=28", "--per-source", "4", "--materialize", "--parts", "2", "--workers", "1"]
    assert command("build", "image", "photos", "complete", *settings)[0] == 0
    with full_disk(kilobytes):
        message = refused("build", "image", "photos", "cut", *settings)
    assert message.startswith("cut/data-0000")
    assert "File too large; no incomplete file was left" in message
    parts = {path.name: path.read_bytes() for path in (work / "cut").glob("*.parquet")}
    assert len(parts) < 2
    assert parts.items() <= tree(work / "complete").items(), "an existing part is complete"
    assert refused("eval", checkpoint, "cut").startswith("cut is not complete; "), (
        "a set with a missing part is refused"
    )
    assert command("build", "image", "photos", "cut", *settings)[0] == 0
    assert tree(work / "cut") == tree(work / "complete")


@pytest.mark.parametrize("kilobytes", [1, 100])
def test_samples_on_a_full_disk_are_completed_by_a_second_export(
    work, command, refused, sample_media, kilobytes, monkeypatch
):
    monkeypatch.setattr(
        "jigsaw.samples.rooms.COUNTS", {"train": 1, "heldout": 1}
    )  # rendered scenes, which take seconds
    with full_disk(kilobytes):
        assert refused("samples", "cut").endswith("cannot export the samples: File too large")
    assert tree(work / "cut").items() <= tree(sample_media).items()
    assert command("samples", "cut")[0] == 0
    files = tree(work / "cut")
    rooms = {name for name in files if name.startswith("rooms/")}
    assert {name: files[name] for name in files.keys() - rooms} == tree(sample_media)
    assert {name.split("/")[1] for name in rooms} == {"train", "heldout"}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, photos, command):
    """A working folder with a finished run."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    shutil.copytree(photos, folder / "photos")
    (folder / "small.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert command("launch", "small.yaml") == (0, [])
    return folder


def test_a_disk_that_is_full_from_the_start_leaves_no_run_folder(work, command, refused):
    with full_disk(0):
        assert refused("launch", "small.yaml").startswith("the disk is full")
    assert "source unusable has no pictures" in refused("launch", "small.yaml", "data.photos=unusable")
    assert not (work / "runs" / "small").exists(), "a run that did nothing leaves no folder"


EVALUATED = ["evaluation.json", "predictions", "report.html", "DONE"]


@pytest.mark.parametrize(
    "removed, kilobytes",
    [
        (["start", "warmup", "model", "metrics.jsonl", *EVALUATED], 100),
        (["model", *EVALUATED], 100),
        (EVALUATED, 0),
        (["report.html", "DONE"], 20),
    ],
    ids=["while the first model is saved", "while the last model is saved", "while evaluating", "while reporting"],
)
def test_a_run_on_a_full_disk_is_resumed_to_the_same_end(
    uninterrupted, tmp_path, monkeypatch, command, refused, removed, kilobytes
):
    """Given a run whose disk is full in a stage, the resumed run ends with the files of an uninterrupted run."""
    work = shutil.copytree(uninterrupted, tmp_path / "work")
    run, expected = work / "runs" / "small", uninterrupted / "runs" / "small"
    for name in removed:
        shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink()
    monkeypatch.chdir(work)
    with full_disk(kilobytes):
        message = refused("launch", "small.yaml", "--resume")
    assert message.startswith("the disk is full")
    assert message.endswith("make room and run the same command again (launch: with --resume)")
    assert "DONE" not in tree(run)
    for name in removed:
        if name not in ("metrics.jsonl", "warmup", "start", "predictions"):
            assert not (run / name).exists(), "a file with its final name is complete"
    assert command("launch", "small.yaml", "--resume") == (0, [])
    assert {path.name for path in run.iterdir() if not path.name.startswith(".")} == {
        p.name for p in expected.iterdir()
    }
    for name in ("evaluation.json", "model/model.safetensors", "predictions/model.jsonl", "predictions/warmup.jsonl"):
        assert (run / name).read_bytes() == (expected / name).read_bytes(), name
