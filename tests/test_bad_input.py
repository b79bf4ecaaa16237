"""Bad input as a user gives it: one clear line, a failing exit code, nothing half-written that a second run trusts.

All goes through `jigsaw.cli.command.main`, in this process: it is the imports that take time. A full disk is simulated
by a limit on the size of a file, at which writing fails as it does on a disk without room.
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
    """Run the command in this process; gives exit code and error output, and holds the latter to one line."""

    def run(*arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cli, "_quiet_libraries", lambda debug: None)
            patch.setattr(sys, "argv", ["jigsaw", *map(str, arguments)])
            patch.setattr(sys, "stderr", open(os.devnull, "w"))  # noqa: PTH123, SIM115  # libraries' chatter
            lines = []
            patch.setattr(cli, "print", lambda line, file: lines.append(line), raising=False)
            with pytest.raises(SystemExit) as ended:
                cli.main()
            sys.stderr.close()
        return ended.value.code, lines

    return run


@pytest.fixture
def refused(command):
    """The one line with which the command fails; a line that calls the failure a bug of ours is none."""

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
    """A working folder with photos, broken ones, and a recipe."""
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
    """Files can grow to this size and no further."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def as_nobody():
    """Without the rights of root, who may read and write everything."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def tree(folder):
    """Every file below a folder with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# A recipe


@pytest.mark.parametrize(
    "recipe, override, told",
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
def test_a_recipe_that_cannot_run_is_refused_before_anything_is_written(work, refused, mode, recipe, override, told):
    before = tree(work)
    assert refused("launch", recipe, override, *mode).startswith(told)
    assert tree(work) == before
    assert not (work / "runs").exists()


@pytest.mark.parametrize(
    "overrides, told",
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
def test_data_or_a_model_that_is_not_there_is_told_before_anything_is_written(work, refused, overrides, told):
    before = tree(work)
    assert refused("launch", "small.yaml", *overrides) == told
    assert tree(work) == before


def test_a_curriculum_without_puzzles_is_told_before_anything_is_trained(work, refused):
    told = refused("launch", "small.yaml", "curriculum={mode: static, stages: [{until: 0.5, pieces: [9]}]}")
    assert told == "curriculum.stages[0]: no image puzzle has 9 pieces: image puzzles have 4"
    assert not (work / "runs" / "small" / "start").exists()


def test_a_given_source_of_another_kind_is_refused(work, refused):
    told = refused("launch", "small.yaml", "data.photos=big-buck-bunny")
    remedy = "use samples, landscapes, or a folder of your own"
    assert told == f"data.train.0.build: source big-buck-bunny has no image sources; {remedy}"


def test_an_unreadable_recipe_is_named(command, refused):
    """Given a recipe without read permission, when someone other than root launches it, then the line says so."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "secret.yaml"
        recipe.write_text(RECIPE)
        recipe.chmod(0o000)
        Path(folder).chmod(0o755)
        with as_nobody():
            assert refused("launch", recipe, "--dry-run") == f"{recipe}: cannot be read (Permission denied)"
        Path(folder).chmod(0o000)
        with as_nobody():
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


@pytest.mark.parametrize("source, config, told", [("empty", [], "source empty has no pictures"), *PHOTOS])
def test_build_refuses_photos_that_give_no_puzzle(work, refused, source, config, told):
    assert told in refused("build", "image", source, "out", *config)
    left = set(tree(work / "out")) if (work / "out").exists() else set()
    assert left <= {"rejects.jsonl"}, "nothing that looks like a puzzle set"


EMPTY = "data.train.0.build: source empty is an empty folder"


@pytest.mark.parametrize("source, config, told", [("empty", [], EMPTY), *PHOTOS])
def test_launch_refuses_photos_that_give_no_puzzle(work, refused, source, config, told):
    overrides = [f"data.train.0.build.{item}" for item in config]
    assert told in refused("launch", "small.yaml", f"data.photos={source}", *overrides)
    assert not list((work / "runs").rglob("start")), "no model before there are puzzles"
    assert not list((work / "data").rglob("*.parquet"))


def test_some_broken_photos_are_left_out_and_counted(work, command):
    for path in (work / "broken").iterdir():
        shutil.copy(path, work / "photos" / f"broken-{path.name}")
    code, lines = command("build", "image", "photos", "out", "grid=2x2", "tile=28", "--workers", "1")
    assert (code, lines) == (0, [])
    counts = json.loads((work / "out" / "manifest.json").read_text())["counts"]
    assert counts["puzzles"] == 6
    assert counts["rejects"] == {"unreadable": 4}


# Output folders


def test_build_leaves_another_puzzle_set_and_a_file_alone(work, command, refused):
    build = ["build", "image", "photos", "out", "grid=2x2", "tile=28", "--workers", "1"]
    assert command(*build)[0] == 0
    before = tree(work / "out")
    assert "seed was 0, now 1; choose another folder or delete it" in refused(*build, "--seed", "1")
    assert tree(work / "out") == before
    assert (
        refused("build", "image", "photos", "file") == "file cannot be written: Not a directory; choose another folder"
    )
    assert (work / "file").read_text() == "x"


def test_samples_leave_a_folder_of_something_else_alone(work, refused):
    before = tree(work / "photos")
    assert refused("samples", "photos") == "photos has something other than samples; name a new or empty folder"
    assert refused("samples", "file") == "file is a file; name a new or empty folder for the samples"
    assert tree(work / "photos") == before


@pytest.mark.parametrize(
    "made, told",
    [
        ({"notes.txt": "mine"}, "output: out is not a run folder; choose another with output=FOLDER"),
        ({"recipe.yaml": "name: other\n"}, "output: out has a run of another recipe; choose another"),
        ({"recipe.yaml": "name: other\n", "DONE": ""}, "output: out has a finished run; choose another"),
    ],
)
@pytest.mark.parametrize("mode", [[], ["--resume"]], ids=["launch", "resume"])
def test_launch_leaves_a_folder_that_is_not_its_own_alone(work, refused, made, told, mode):
    (work / "out").mkdir()
    for name, text in made.items():
        (work / "out" / name).write_text(text)
    assert refused("launch", "small.yaml", "output=out", *mode).startswith(told)
    assert {name: content.decode() for name, content in tree(work / "out").items()} == made


def test_launch_leaves_a_file_alone_and_resumes_nothing_that_is_not_there(work, refused):
    told = "output: file is a file; choose another with output=FOLDER"
    assert refused("launch", "small.yaml", "output=file") == told
    assert refused("launch", "small.yaml", "--resume") == "output: runs/small has no run to resume"
    assert refused("launch", "small.yaml", "output=file/below") == "file/below: not a directory"


def test_a_folder_that_may_not_be_written_is_named(refused, work):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        out = Path(folder) / "out"
        with as_nobody():
            told = refused("samples", out)
        assert "ermission denied" in told
        assert str(out) in told
        assert not out.exists()


# Models and puzzle sets


@pytest.mark.parametrize(
    "model, told",
    [
        ("gone", "gone: no such checkpoint folder"),
        ("photos", "photos: not a checkpoint, config.json is missing"),
        ("file", "file: no such checkpoint folder"),
    ],
)
def test_eval_names_what_is_no_checkpoint(work, refused, puzzle_folder, model, told):
    assert refused("eval", model, puzzle_folder) == told


@pytest.mark.parametrize("data", ["gone", "photos", "file"])
def test_eval_names_what_is_no_puzzle_set_and_makes_nothing_of_it(work, refused, checkpoint, data):
    assert data in refused("eval", checkpoint, data)


def test_eval_refuses_unknown_rewards_and_types(work, refused, checkpoint, puzzle_folder):
    assert "did you mean" in refused("eval", checkpoint, puzzle_folder, "--reward", "visual_jigsw")
    told = "--dtype: 'float8' is none of float32, bfloat16"
    assert refused("eval", checkpoint, puzzle_folder, "--dtype", "float8") == told


# A full disk


@pytest.mark.parametrize("kilobytes", [1, 40])
def test_a_build_on_a_full_disk_leaves_nothing_that_a_second_build_trusts(
    work, command, refused, checkpoint, kilobytes
):
    settings = ["grid=2x2", "tile=28", "--per-source", "4", "--materialize", "--parts", "2", "--workers", "1"]
    assert command("build", "image", "photos", "whole", *settings)[0] == 0
    with full_disk(kilobytes):
        told = refused("build", "image", "photos", "cut", *settings)
    assert told.startswith("cut/data-0000")
    assert "File too large; no incomplete file was left" in told
    parts = {path.name: path.read_bytes() for path in (work / "cut").glob("*.parquet")}
    assert len(parts) < 2
    assert parts.items() <= tree(work / "whole").items(), "a part that is there is whole"
    assert refused("eval", checkpoint, "cut").startswith("cut is not complete; "), "a set with a part missing is no set"
    assert command("build", "image", "photos", "cut", *settings)[0] == 0
    assert tree(work / "cut") == tree(work / "whole")


@pytest.mark.parametrize("kilobytes", [1, 100])
def test_samples_on_a_full_disk_are_completed_by_a_second_export(
    work, command, refused, sample_media, kilobytes, monkeypatch
):
    monkeypatch.setattr("jigsaw.samples.rooms.COUNTS", {"train": 1, "heldout": 1})  # drawn ones, which take seconds
    with full_disk(kilobytes):
        assert refused("samples", "cut").endswith("cannot export the samples: File too large")
    assert tree(work / "cut").items() <= tree(sample_media).items()
    assert command("samples", "cut")[0] == 0
    found = tree(work / "cut")
    rooms = {name for name in found if name.startswith("rooms/")}
    assert {name: found[name] for name in found.keys() - rooms} == tree(sample_media)
    assert {name.split("/")[1] for name in rooms} == {"train", "heldout"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, photos, command):
    """A working folder with a whole run in it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(photos, folder / "photos")
    (folder / "small.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert command("launch", "small.yaml") == (0, [])
    return folder


def test_a_disk_that_is_full_from_the_start_leaves_a_folder_that_can_be_taken(work, command, refused):
    with full_disk(0):
        assert refused("launch", "small.yaml").startswith("the disk is full")
    assert "source unusable has no pictures" in refused("launch", "small.yaml", "data.photos=unusable")
    assert not (work / "runs" / "small").exists(), "nothing was done, so nothing is left"


EVALUATED = ["evaluation.json", "predictions", "report.html", "DONE"]


@pytest.mark.parametrize(
    "gone, kilobytes",
    [
        (["start", "warmup", "model", "metrics.jsonl", *EVALUATED], 100),
        (["model", *EVALUATED], 100),
        (EVALUATED, 0),
        (["report.html", "DONE"], 20),
    ],
    ids=["while the first model is saved", "while the last model is saved", "while evaluating", "while reporting"],
)
def test_a_run_on_a_full_disk_is_resumed_to_the_same_end(
    undisturbed, tmp_path, monkeypatch, command, refused, gone, kilobytes
):
    """Given a run as it was before a stage and a disk that is full in it, resuming ends as if that had never been."""
    work = shutil.copytree(undisturbed, tmp_path / "work")
    run, whole = work / "runs" / "small", undisturbed / "runs" / "small"
    for name in gone:
        shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink()
    monkeypatch.chdir(work)
    with full_disk(kilobytes):
        told = refused("launch", "small.yaml", "--resume")
    assert told.startswith("the disk is full")
    assert told.endswith("make room and run the same command again (launch: with --resume)")
    assert "DONE" not in tree(run)
    for name in gone:
        if name not in ("metrics.jsonl", "warmup", "start", "predictions"):
            assert not (run / name).exists(), "what has its name is whole"
    assert command("launch", "small.yaml", "--resume") == (0, [])
    assert {path.name for path in run.iterdir() if not path.name.startswith(".")} == {p.name for p in whole.iterdir()}
    for name in ("evaluation.json", "model/model.safetensors", "predictions/model.jsonl", "predictions/warmup.jsonl"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
