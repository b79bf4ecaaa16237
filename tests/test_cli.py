"""The `jigsaw` command: help, exit codes, JSON output and one-line errors.

Tests of imports and of the module path run the command in its own process; the others call `main`.
"""

import errno
import importlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import typer

from jigsaw.cli import command as cli
from jigsaw.data import build_puzzles
from jigsaw.errors import JigsawError
from jigsaw.rewards import describe_reward

VERBS = sorted(typer.main.get_command(cli.app).commands)
HEAVY = {"torch", "transformers", "trl", "datasets", "numpy", "PIL", "pydantic", "omegaconf", "pyarrow", "rich"}
IMPORTED_BY_TYPER = {"pydantic"}
"""Packages that typer imports to read the options of a verb."""
SCRIPT = Path(sysconfig.get_path("scripts")) / "jigsaw"


def process(*command, cwd=None, **environment):
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, "PYTHONSAFEPATH": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def jigsaw(monkeypatch, capsys):
    """Run the command in this process; returns the exit code, the output and the error output."""
    # The first verb would change this for the whole process
    monkeypatch.setattr(cli, "_quiet_libraries", lambda debug: None)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["jigsaw", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        output = capsys.readouterr()
        return ended.value.code, output.out, output.err

    return run


def one_line(text):
    """Returns the single line of an error output."""
    assert text.count("\n") == 1, text
    assert text.endswith("\n")
    return text.rstrip("\n")


# Help


@pytest.mark.parametrize("command", [[SCRIPT], [sys.executable, "-m", "jigsaw"]], ids=["script", "module"])
def test_help_lists_every_verb(command, tmp_path):
    done = process(*command, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith("Usage: jigsaw ")
    for verb in VERBS:
        assert f"\n  {verb} " in done.stdout
    assert "..." not in done.stdout.split("Commands:")[1], "the summary of a verb is truncated"


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_shows_an_example_of_that_verb(jigsaw, verb):
    for flag in ("--help", "-h"):
        code, out, err = jigsaw(verb, flag)
        assert (code, err) == (0, "")
        assert f"Example: jigsaw {verb} " in out or out.rstrip().endswith(f"Example: jigsaw {verb}")


@pytest.mark.parametrize(
    "arguments, allowed",
    [(["--help"], set()), (["build", "--help"], IMPORTED_BY_TYPER), (["launch", "--help"], IMPORTED_BY_TYPER)],
)
def test_help_imports_no_heavy_package(arguments, allowed, tmp_path):
    code = f"""
import sys
from jigsaw.cli import command as cli
sys.argv = ["jigsaw", *{arguments}]
try:
    cli.main()
finally:
    print([name for name in {HEAVY - allowed} if name in sys.modules], file=sys.stderr)
"""
    done = process(sys.executable, "-c", code, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr.strip() == "[]"


def test_help_lists_the_arguments_and_options_of_a_verb(tmp_path):
    done = process(SCRIPT, "build", "--help", cwd=tmp_path)
    assert done.returncode == 0
    for word in ("source", "KEY=VALUE", "--per-source", "--shard", "--materialize", "--json"):
        assert word in done.stdout


# Wrong usage


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["bulid"], "jigsaw: no such command 'bulid'. Did you mean 'build'? (see jigsaw --help)"),
        (["zzz"], "jigsaw: no such command 'zzz' (see jigsaw --help)"),
        (["--nonsense"], "jigsaw: no such option: --nonsense (see jigsaw --help)"),
        (["build", "image"], "jigsaw build: missing argument 'source' (see jigsaw build --help)"),
        (
            ["build", "image", "a", "b", "--per-sorce", "2"],
            "jigsaw build: no such option: --per-sorce: did you mean --per-source? (see jigsaw build --help)",
        ),
        (
            ["build", "image", "a", "b", "grid"],
            "jigsaw build: invalid value for KEY=VALUE: 'grid' is not of the form KEY=VALUE (see jigsaw build --help)",
        ),
        (["launch"], "jigsaw launch: missing argument 'recipe' (see jigsaw launch --help)"),
        (["report"], "jigsaw report: missing argument 'runs' (see jigsaw report --help)"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(jigsaw, arguments, message):
    code, out, err = jigsaw(*arguments)
    assert (code, out) == (2, "")
    assert one_line(err) == message


@pytest.mark.parametrize(
    "options, message",
    [
        (["--shard", "3"], "invalid value for --shard: '3' is not of the form I/N"),
        (["--shard", "a/b"], "invalid value for --shard: 'a/b' is not of the form I/N"),
        (["--split", "test"], "invalid value for --split: 'test' is neither train nor heldout"),
        (["--seed", "x"], "invalid value for '--seed'"),
    ],
)
def test_an_invalid_option_value_is_wrong_usage(jigsaw, options, message):
    code, _, err = jigsaw("build", "image", "a", "b", *options)
    assert code == 2
    assert message in one_line(err)


@pytest.mark.parametrize("option", ["--limit", "--batch-size", "--max-new-tokens"])
def test_a_count_of_zero_is_wrong_usage(jigsaw, option):
    code, _, err = jigsaw("eval", "model", "data", option, "0")
    assert code == 2
    assert option in one_line(err)


@pytest.mark.parametrize(
    "words", [("build", "image", "a", "b"), ("check", "a"), ("import", "visual-jigsaw", "a", "b")], ids=" ".join
)
@pytest.mark.parametrize("workers", ["0", "-1"])
def test_fewer_than_one_worker_is_wrong_usage(jigsaw, words, workers):
    code, _, err = jigsaw(*words, "--workers", workers)
    assert code == 2
    assert "--workers" in one_line(err)


def test_a_missing_verb_prints_the_help_and_is_wrong_usage(jigsaw):
    code, out, err = jigsaw()
    assert (code, out) == (2, "")
    assert err.startswith("Usage: jigsaw ")
    assert "build" in err


def test_a_process_has_the_same_exit_codes(tmp_path):
    wrong = process(SCRIPT, "bulid", cwd=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "Did you mean 'build'?" in one_line(wrong.stderr)
    failed = process(sys.executable, "-m", "jigsaw", "launch", "quickstrat", cwd=tmp_path)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert one_line(failed.stderr).endswith("did you mean quickstart?")


def test_ctrl_c_during_the_imports_prints_one_line(tmp_path):
    """Given Ctrl-C before any verb is imported, one line is printed and no traceback."""
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt\n")
    done = process(sys.executable, "-m", "jigsaw", "launch", "quickstart", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "jigsaw: interrupted\n")


# Packages of the same name


@pytest.mark.parametrize("safe", ["1", ""])
def test_third_party_packages_named_tasks_or_rewards_are_not_imported(tmp_path, safe):
    (tmp_path / "tasks").mkdir()
    for name in ("tasks/__init__.py", "rewards.py", "recipes.py"):
        (tmp_path / name).write_text("raise SystemExit('the foreign package was run')\n")
    command = [sys.executable, "-m", "jigsaw", "tasks", "image"]
    done = process(*command, cwd=tmp_path, PYTHONSAFEPATH=safe, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "grid" in done.stdout


# Errors


def test_the_traceback_of_an_error_is_shown_only_with_debug(tmp_path):
    for place in (["--debug", "launch", "gone.yaml"], ["launch", "gone.yaml", "--debug"]):
        done = process(SCRIPT, *place, cwd=tmp_path)
        assert done.returncode == 1
        assert "Traceback (most recent call last)" in done.stderr
        assert "gone.yaml: no such recipe file" in done.stderr
    quiet = process(SCRIPT, "launch", "gone.yaml", cwd=tmp_path)
    assert (quiet.returncode, one_line(quiet.stderr)) == (1, "jigsaw: gone.yaml: no such recipe file")


@pytest.fixture
def failing(monkeypatch):
    """Makes `jigsaw samples` fail with an error."""

    def fail(error):
        def export(_):
            raise error

        monkeypatch.setattr("jigsaw.samples.samples.export_samples", export)

    return fail


@pytest.mark.parametrize(
    "error, message",
    [
        (OSError(errno.ENOSPC, "No space left on device", "runs/model"), "the disk is full while writing runs/model: "),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full: make room and run the same command again"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "the disk is full: make room"),
        (PermissionError(errno.EACCES, "Permission denied", "/root/x"), "/root/x: permission denied"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x.jpg"), "x.jpg: no such file or directory"),
        (
            ZeroDivisionError("division by zero\nmore"),
            "unexpected ZeroDivisionError: division by zero (this is a bug: ",
        ),
        (AssertionError(), "unexpected AssertionError: AssertionError (this is a bug: run again with --debug"),
    ],
)
def test_every_error_is_printed_in_one_line(jigsaw, failing, error, message):
    failing(error)
    code, out, err = jigsaw("samples", "somewhere")
    assert (code, out) == (1, "")
    assert one_line(err).startswith(f"jigsaw: {message}")


@pytest.mark.parametrize("module, name", [("jigsaw.rewards", "RewardError"), ("jigsaw.tasks", "TaskError")])
def test_errors_of_tasks_and_rewards_are_printed_in_one_line(jigsaw, failing, module, name):
    failing(getattr(importlib.import_module(module), name)("no such thing; use another"))
    assert one_line(jigsaw("samples", "somewhere")[2]) == "jigsaw: no such thing; use another"


def test_ctrl_c_prints_no_traceback(jigsaw, failing):
    failing(KeyboardInterrupt())
    code, out, err = jigsaw("samples", "somewhere")
    assert (code, out) == (130, "")
    assert "Traceback" not in err


# Output


def test_build_prints_its_result_as_json_or_as_text(jigsaw, photos, tmp_path):
    command = ["build", "image", photos, tmp_path / "set", "grid=2x2", "--limit", "3", "--workers", "1"]
    code, out, _ = jigsaw(*command, "--json")
    assert code == 0
    answer = json.loads(out)
    assert (answer["puzzles"], answer["parts_built"], answer["path"]) == (3, 1, str(tmp_path / "set"))
    code, out, _ = jigsaw(*command)
    assert code == 0
    assert out == f"Already built: 3 puzzles from 3 of 3 photos\nNext: jigsaw preview {tmp_path / 'set'}\n"


def test_build_accepts_the_name_of_a_built_in_source(jigsaw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written = []
    monkeypatch.setattr("jigsaw.samples.builtin.export_landscapes", lambda folder: written.append(folder))
    code, _, error = jigsaw("build", "image", "landscapes", "set", "--workers", "1")
    assert (code, written) == (1, [Path("data/landscapes")])
    assert "data/landscapes does not exist" in one_line(error)
    code, _, error = jigsaw("build", "image", "scenes", "set")
    assert "source scenes has no image sources" in one_line(error)


def test_build_reports_rejected_photos_with_the_reason(jigsaw, photos, tmp_path):
    from PIL import Image

    shutil.copytree(photos, tmp_path / "photos")
    for number in range(2):
        Image.new("RGB", (160, 160)).save(tmp_path / "photos" / f"flat-{number}.png")
    command = ["build", "image", tmp_path / "photos", tmp_path / "set", "grid=2x2", "--workers", "1"]
    lines = jigsaw(*command)[1].splitlines()
    rejects = tmp_path / "set" / "rejects.jsonl"
    assert lines[:2] == [
        f"6 puzzles from 6 of 8 photos; 2 were left out (see {rejects}):",
        "     2  two tiles look the same",
    ]
    (tmp_path / "photos" / "broken.png").write_bytes(b"nothing")
    command[3] = tmp_path / "other"
    lines = jigsaw(*command)[1].splitlines()
    assert lines[0].startswith("6 puzzles from 6 of 9 photos; 3 were left out ")
    assert lines[1:] == [
        "     2  two tiles look the same",
        "     1  the file cannot be read as a picture",
        f"Next: jigsaw preview {tmp_path / 'other'}",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--grid", "3x3"], "grid is a setting of the task: write grid=3x3"),
        (["--grid=3x3"], "grid is a setting of the task: write grid=3x3"),
        (["--answer-style", "direct"], "answer_style is a setting of the task: write answer_style=direct"),
        (["per_source=2"], "per_source is a setting of the build: write --per-source 2"),
        (["time-limit=9"], "time_limit is a setting of the build: write --time-limit 9"),
        (["materialize=true"], "materialize is a setting of the build: write --materialize"),
        (["--per-sorce", "2"], "did you mean --per-source?"),
    ],
)
def test_a_setting_of_the_task_and_an_option_of_build_cannot_be_confused(jigsaw, photos, tmp_path, words, message):
    code, _, err = jigsaw("build", "image", photos, tmp_path / "set", *words)
    assert code == 2
    assert message in one_line(err)
    assert not (tmp_path / "set").exists()


def test_samples_prints_its_result_as_json(jigsaw, tmp_path, sample_media):
    shutil.copytree(sample_media, tmp_path / "samples")
    code, out, _ = jigsaw("samples", tmp_path / "samples", "--json")
    assert code == 0
    assert json.loads(out)["folder"] == str(tmp_path / "samples")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["eval", "model", "data", "--frames", "3"], "no such option: --frames"),
        (["eval", "model", "data", "--set", "variants=1"], "--set: unknown setting 'variants'; known: temperature,"),
        (["eval", "model", "data", "--set", "seed=x"], "--set: seed: 'x' is not a number"),
        (["bench", "model", "image"], "missing option '--data-root'"),
        (["bench", "model", "image", "--data-root", "x", "--samples", "2"], "no such option: --samples"),
        (["realunify", "model", "--data-root", "x", "--grid", "3"], "--grid: '3' is not of the form RxC"),
    ],
)
def test_a_verb_refuses_options_and_settings_that_it_does_not_have(jigsaw, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "data").mkdir()
    code, _, error = jigsaw(*words)
    assert code == 2
    assert message in one_line(error)


def test_eval_has_at_most_twelve_options():
    command = typer.main.get_command(cli.app).commands["eval"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    assert len([parameter for parameter in options if parameter.name != "help"]) <= 12


@pytest.mark.parametrize("kind, name", [("tasks", "image"), ("rewards", "visual_jigsaw")])
def test_tasks_and_rewards_have_sub_commands(jigsaw, kind, name):
    code, listed, _ = jigsaw(kind, "--json")
    assert code == 0 and name in [one["name"] for one in json.loads(listed)]
    assert jigsaw(kind, name, "--json") == jigsaw(kind, "show", name, "--json")
    code, helped, _ = jigsaw(kind, "check", "--help")
    assert code == 0 and "KEY=VALUE" in helped


def test_eval_prints_its_result_as_json_or_as_a_table(jigsaw, checkpoint, puzzle_folder):
    command = ["eval", checkpoint, puzzle_folder, "--limit", "4", "--max-new-tokens", "3"]
    code, out, _ = jigsaw(*command, "--json")
    assert code == 0
    model = json.loads(out)["sets"][0]["model"]
    assert model["num_puzzles"] == 4
    assert model["estimates"]["place_accuracy"]["chance"] == 0.25
    code, out, _ = jigsaw(*command)
    assert code == 0
    assert "place accuracy" in out
    assert "0.250" in out


# Public modules


@pytest.mark.parametrize(
    "package",
    [
        "jigsaw.data",
        "jigsaw.evaluation",
        "jigsaw.models",
        "jigsaw.report",
        "jigsaw.testing",
        "jigsaw.tasks",
        "jigsaw.rewards",
    ],
)
def test_every_name_in_all_of_a_public_package_exists(package):
    module = importlib.import_module(package)
    assert len(module.__all__) == len(set(module.__all__))
    for name in module.__all__:
        assert getattr(module, name) is not None
    assert not hasattr(module, "no_such_name")


def test_importing_the_public_modules_loads_no_heavy_package(tmp_path):
    packages = "sys, jigsaw, jigsaw.evaluation, jigsaw.models"
    code = f"import {packages}; print([name for name in {HEAVY} if name in sys.modules])"
    done = process(sys.executable, "-c", code, cwd=tmp_path)
    assert done.stdout.strip() == "[]", done.stderr


# Unusual options of Python and deleted working directories


def test_descriptions_are_complete_when_python_drops_docstrings(tmp_path):
    """The help of verbs and the descriptions of tasks and rewards are docstrings, which `python -OO` drops."""
    (tmp_path / "mine.py").write_text('def brevity(completions, **columns):\n    """Short answers."""\n    return []\n')
    code = """
import json
from jigsaw.cli import command
from jigsaw.rewards import describe_reward, list_rewards
from jigsaw.tasks import describe_task, task_names
import typer
if command.__doc__ is not None:
    raise SystemExit("docstrings are there")
command._describe(command.app)
texts = {name: describe_task(name)["doc"] for name in task_names()}
texts |= {info.name: info.summary for info in list_rewards()}
texts |= {name: verb.help for name, verb in typer.main.get_command(command.app).commands.items()}
print(json.dumps(texts | {"brevity": describe_reward("mine.py:brevity").summary}))
"""
    done = process(sys.executable, "-OO", "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    texts = json.loads(done.stdout)
    assert all(texts.values()), texts
    assert texts["image"] == "Put shuffled image tiles back in raster order."
    assert texts["exact"] == describe_reward("exact").summary
    assert texts["brevity"] == "Short answers."
    assert texts["build"].startswith("Build a puzzle set from a folder of sources.")


@pytest.mark.parametrize("words", [["tasks"], ["build", "image", "/", "/tmp/never"], ["launch", "quickstart"]])
def test_a_deleted_working_directory_is_reported_in_one_line(jigsaw, tmp_path, monkeypatch, words):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    code, _, err = jigsaw(*words)
    assert code == 1
    assert one_line(err) == "jigsaw: the working directory has been deleted; change to a folder that exists: cd FOLDER"


def test_build_puzzles_reports_a_deleted_working_directory(tmp_path, photos, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(JigsawError, match="the working directory has been deleted"):
        build_puzzles("image", photos, tmp_path / "set", config={"grid": "2x2"}, workers=1, progress=False)
