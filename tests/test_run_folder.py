"""Run folders: the lock, cleaning up, fresh folders, requests to stop, and damaged checkpoints."""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from jigsaw import run_lock
from jigsaw.cli import command
from jigsaw.config.fresh import FreshFolders
from jigsaw.config.loading import load_recipe
from jigsaw.config.schema import Recipe
from jigsaw.errors import JigsawError, StoppedError
from jigsaw.launch.resuming import resume_command
from jigsaw.run_folder import RunFolder
from jigsaw.run_lock import HOLDER, LOCK, Holder, locked
from jigsaw.stop_request import StopRequest
from jigsaw.training import checkpoints
from jigsaw.training.checkpoints import damage_of, list_files, quarantine_damaged

RECIPE = """
name: held
model: {path: somewhere}
data: {train: [{path: puzzles}]}
grpo: {prompts_per_step: 16}
output: FOLDER/run
"""

HOLD = """
import os, sys, time
from pathlib import Path
from jigsaw.run_lock import locked
with locked(Path(sys.argv[1])):
    if "fork" in sys.argv and os.fork() == 0:
        time.sleep(1)
        os._exit(0)
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def recipe(tmp_path) -> Recipe:
    (tmp_path / "held.yaml").write_text(RECIPE.replace("FOLDER", str(tmp_path)), encoding="utf-8")
    return load_recipe(str(tmp_path / "held.yaml"))


def holding(folder: Path, *options: str) -> subprocess.Popen[str]:
    """Starts a process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder), *options], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


@pytest.fixture
def run_command(monkeypatch, capsys):
    """Run the command; returns the exit code, standard output and standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["jigsaw", *arguments])
        monkeypatch.setattr(command, "_quiet_libraries", lambda debug: None)
        with pytest.raises(SystemExit) as ended:
            command.main()
        return (int(ended.value.code or 0), *capsys.readouterr())

    return run


def write_record(recipe: Recipe, *, resume: bool = False) -> None:
    """Runs a minimal run, which only writes `data.json`."""
    with RunFolder(recipe.output).locked(recipe, resume=resume):
        RunFolder(recipe.output).write_text_once(RunFolder(recipe.output).data, "{}")


# The lock


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_in_use_is_refused_with_the_process_that_uses_it(recipe, resume):
    write_record(recipe)
    folder = Path(recipe.output)
    with holding(folder) as other:
        before = sorted(path.name for path in folder.iterdir())
        message = (
            rf"^{folder} is in use by process {other.pid} on {socket.gethostname()} since \d\d:\d\d\. Stop it first, "
        )
        with pytest.raises(JigsawError, match=message + "or choose output=FOLDER$"):
            write_record(recipe, resume=resume)
        assert sorted(path.name for path in folder.iterdir()) == before
        other.kill()
    write_record(recipe, resume=True)
    assert not (folder / HOLDER).exists()


def test_a_lock_inherited_by_a_child_of_a_killed_process_is_waited_for(tmp_path):
    with holding(tmp_path, "fork") as other:
        other.kill()
    with locked(tmp_path):
        assert json.loads((tmp_path / HOLDER).read_text())["process"] == os.getpid()


def test_only_one_of_several_concurrent_runs_gets_the_folder(recipe):
    """Given eight threads that lock a folder at the same time, one gets it and the others name its process."""
    together, ended = threading.Barrier(8), threading.Barrier(8)
    errors: list[str] = []

    def start() -> None:
        together.wait()
        try:
            with RunFolder(recipe.output).locked(recipe, resume=False):
                ended.wait(300)
        except JigsawError as error:
            errors.append(str(error))
            ended.wait(300)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 7
    assert all("is in use by" in line for line in errors), errors


def holder_on_another_machine(folder: Path) -> Path:
    """Writes the holder file of another machine, on a file system that does not share locks; returns its path."""
    holder = replace(Holder.this_process(), host="node-2", machine="another")
    (folder / LOCK).touch()
    (folder / HOLDER).write_text(json.dumps(asdict(holder)), encoding="utf-8")
    return folder / HOLDER


def test_a_folder_whose_holder_on_another_machine_renews_its_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "RENEWED_EVERY", 0.05)
    file, ended = holder_on_another_machine(tmp_path), threading.Event()
    renewing = threading.Thread(target=run_lock._renew, args=(file, ended))
    renewing.start()
    try:
        with pytest.raises(JigsawError, match=r"in use by process \d+ on node-2 since"), locked(tmp_path):
            pass
    finally:
        ended.set()
        renewing.join()
    assert "node-2" in file.read_text()


@pytest.mark.parametrize("silent", [0.0, 3600.0], ids=["silent from now on", "silent for an hour"])
def test_a_holder_on_another_machine_that_stopped_renewing_is_replaced(tmp_path, monkeypatch, silent):
    monkeypatch.setattr(run_lock, "RENEWED_EVERY", 0.05)
    monkeypatch.setattr(run_lock, "DEAD_AFTER", 0.3 if not silent else 60.0)
    file = holder_on_another_machine(tmp_path)
    then = time.time() - silent
    os.utime(file, (then, then))
    with locked(tmp_path):
        assert json.loads(file.read_text())["process"] == os.getpid()


def test_a_holder_renews_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "RENEWED_EVERY", 0.02)
    with locked(tmp_path):
        os.utime(tmp_path / HOLDER, (0, 0))
        deadline = time.monotonic() + 30
        while (tmp_path / HOLDER).stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (tmp_path / HOLDER).stat().st_mtime > 0


# Cleaning up


def test_a_run_that_fails_at_its_start_leaves_no_folder(recipe):
    with pytest.raises(JigsawError, match="no such photos"), RunFolder(recipe.output).locked(recipe, resume=False):
        raise JigsawError("no such photos")
    assert not Path(recipe.output).exists()
    with pytest.raises(StoppedError), RunFolder(recipe.output).locked(recipe, resume=False):
        raise StoppedError("asked to")
    assert Path(recipe.output, "recipe.yaml").exists(), "a run that was stopped can be resumed"


def test_only_temporary_files_of_a_killed_run_are_removed(recipe):
    write_record(recipe)
    folder = RunFolder(recipe.output)
    (folder.path / ".start.0123abcd.tmp").mkdir()
    (folder.path / ".start.0123abcd.tmp" / "config.json").touch()
    (folder.path / "predictions").mkdir()
    (folder.path / "predictions" / ".model.jsonl.0123abcd.tmp").touch()
    (folder.path / "notes.tmp").touch()
    folder.stop.touch()
    write_record(recipe, resume=True)
    assert {path.name for path in folder.path.iterdir()} == {
        LOCK,
        "data.json",
        "notes.tmp",
        "predictions",
        "recipe.yaml",
    }
    assert not list((folder.path / "predictions").iterdir())


def test_a_finished_run_has_no_lock_file(recipe):
    with RunFolder(recipe.output).locked(recipe, resume=False):
        RunFolder(recipe.output).done.touch()
    assert {path.name for path in Path(recipe.output).iterdir()} == {"DONE", "recipe.yaml"}


# Fresh folders


FRESH = RECIPE.replace("FOLDER/run", "${fresh:FOLDER/runs/held}")


@pytest.fixture
def fresh_recipe(tmp_path) -> str:
    (tmp_path / "fresh.yaml").write_text(FRESH.replace("FOLDER", str(tmp_path)), encoding="utf-8")
    return str(tmp_path / "fresh.yaml")


def test_concurrent_launches_get_different_fresh_folders(tmp_path):
    together, folders = threading.Barrier(8), []

    def start() -> None:
        with FreshFolders(create=True) as fresh:
            together.wait()
            folders.append((fresh.resolve(f"{tmp_path}/runs/x"), fresh.resolve(f"{tmp_path}/runs/x")))
            together.wait()

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(first == second for first, second in folders), "a recipe may use its fresh folder twice"
    assert sorted(first for first, _ in folders) == sorted(f"{tmp_path}/runs/x{n}" for n in ["", *range(-8, -1)])
    remaining = list(tmp_path.glob("runs/*"))  # `runs` remains if the launch that created it ends before another one
    assert not remaining, "unused folders are removed"


def test_a_launch_continues_if_another_launch_removes_the_parent_folder(tmp_path, monkeypatch):
    """Given a refused launch that removes `runs` just before another launch creates its folder in it."""
    with FreshFolders(create=True) as fresh:
        make, refused = Path.mkdir, FreshFolders(create=True)
        assert refused.resolve(f"{tmp_path}/runs/a") == f"{tmp_path}/runs/a"

        def make_after_the_other_ended(folder: Path, *arguments: object, **options: object) -> None:
            if folder == tmp_path / "runs/b" and (tmp_path / "runs/a").exists():
                refused.__exit__(None, None, None)
            make(folder, *arguments, **options)

        monkeypatch.setattr(Path, "mkdir", make_after_the_other_ended)
        assert fresh.resolve(f"{tmp_path}/runs/b") == f"{tmp_path}/runs/b"
        assert (tmp_path / "runs/b").is_dir()
    assert not (tmp_path / "runs").exists(), "the second launch created it again and removes it"


def test_a_run_that_starts_between_the_two_checks_of_its_folder_is_named(recipe, monkeypatch):
    """Given a folder that another run locks after the check of its holder and before the check of its files."""
    Path(recipe.output).mkdir()
    check, others = RunFolder._refuse_unless_own, []

    def check_after_the_other_started(folder: RunFolder, resolved: str, resume: bool) -> None:
        if not others:
            others.append(holding(folder.path))
            folder.recipe.write_text(resolved, encoding="utf-8")
        check(folder, resolved, resume)

    monkeypatch.setattr(RunFolder, "_refuse_unless_own", check_after_the_other_started)
    try:
        with pytest.raises(JigsawError) as refused:
            write_record(recipe)
        assert f"is in use by process {others[0].pid} on " in str(refused.value)
    finally:
        for other in others:
            with other:
                other.kill()


def test_a_fresh_folder_with_a_recipe_is_kept(tmp_path):
    with FreshFolders(create=True) as fresh:
        Path(fresh.resolve(f"{tmp_path}/runs/x"), "recipe.yaml").touch()
    assert (tmp_path / "runs/x/recipe.yaml").exists()


NOWHERE = "jigsaw: model.path: somewhere: no such checkpoint folder\n"
CANNOT_START = "jigsaw: this run cannot start here; the list above names what is missing\n"


@pytest.mark.parametrize(
    "options, ended", [([], (1, NOWHERE)), (["--dry-run"], (1, CANNOT_START)), (["--slurm"], (0, ""))]
)
def test_refused_recipes_dry_runs_and_batch_files_leave_no_fresh_folder(
    fresh_recipe, tmp_path, run_command, options, ended
):
    code, _, error = run_command("launch", fresh_recipe, *options)
    assert (code, error) == ended
    assert not (tmp_path / "runs").exists()


def test_a_fresh_folder_is_refused_for_several_nodes(fresh_recipe, tmp_path, run_command):
    nodes = ["--nodes", "2", "--rendezvous", "node-1:29500", "distributed.cpu_processes=1"]
    _, _, error = run_command("launch", fresh_recipe, *nodes)
    reason, remedy = "${fresh:} would be a different folder on each node", "set one for all nodes with output=FOLDER"
    assert error == f"jigsaw: output: {reason}; {remedy}\n"
    assert not (tmp_path / "runs").exists()


def test_the_resume_command_names_the_folder_only_if_it_is_not_the_latest(fresh_recipe, tmp_path):
    for name in ("held", "held-2"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "recipe.yaml").touch()
    (tmp_path / "runs" / "held-3").mkdir()  # created a moment ago by another launch

    def command(output: str, *overrides: str) -> list[str]:
        text = resume_command(fresh_recipe, overrides, ["--tiny"], output, tiny=False)
        return shlex.split(text)

    start, newest, older = ["jigsaw", "launch", fresh_recipe], f"{tmp_path}/runs/held-2", f"{tmp_path}/runs/held"
    assert command(newest, "seed=1", "grpo={beta: 0.1}") == [*start, "seed=1", "grpo={beta: 0.1}", "--tiny", "--resume"]
    assert command(older, "seed=1") == [*start, "seed=1", f"output={older}", "--tiny", "--resume"]
    assert command("else", "output=else") == [*start, "output=else", "--tiny", "--resume"]


# Requests to stop


def test_a_signal_outside_a_deferred_block_ends_the_run_at_once(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with StopRequest(tmp_path / "stop") as stop, pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert stop.exit_code == 143
    assert signal.getsignal(signal.SIGINT) is before


def test_the_first_ctrl_c_in_a_step_is_a_request_to_stop_and_the_second_ends_the_run_at_once(tmp_path, capfd):
    with StopRequest(tmp_path / "run.stop") as stop, stop.deferred("after this step and saving"):
        stop.check("nowhere")
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested and (tmp_path / "run.stop").exists()
        message = "Stopping after this step and saving. Press Ctrl-C again to quit at once.\n"
        assert capfd.readouterr().err == message
        with pytest.raises(StoppedError, match="stopped and saved, in its evaluation") as stopped:
            stop.check("in its evaluation")
        assert stopped.value.exit_code == 130
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        assert capfd.readouterr().err == ""


CHILD = """
import os, signal, sys, time
from pathlib import Path
from jigsaw.stop_request import StopRequest
with StopRequest(Path(sys.argv[1])) as stop, stop.deferred("after this step"):
    child = os.fork()
    if child == 0:
        print("forked", flush=True)
        time.sleep(60)
        os._exit(0)
    time.sleep(0.2)
    os.kill(child, signal.SIGINT)
    time.sleep(0.2)
    assert os.waitpid(child, os.WNOHANG) == (0, 0), "the child ignores Ctrl-C"
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    assert not stop.requested
"""


def test_child_processes_ignore_ctrl_c(tmp_path):
    ended = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path / "stop")], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert not (tmp_path / "stop").exists()


# Checkpoints


def checkpoint(folder: Path, step: int) -> Path:
    path = folder / f"checkpoint-{step}"
    (path / "global_step").mkdir(parents=True)
    (path / "optimizer.pt").write_bytes(b"momenta")
    (path / "global_step" / "shard.pt").write_bytes(b"shard")
    list_files(path)
    return path


@pytest.mark.parametrize(
    "name, content, damage",
    [
        ("optimizer.pt", b"Momenta", "optimizer.pt has changed since it was saved"),
        ("global_step/shard.pt", b"sha", "global_step/shard.pt has 3 bytes instead of 5"),
        ("optimizer.pt", None, "optimizer.pt is missing"),
        ("files.json", b'{"optimizer.pt": 1}', "files.json cannot be read"),
        ("files.json", None, "files.json cannot be read"),
    ],
)
def test_a_damaged_checkpoint_is_replaced_by_the_newest_intact_one(tmp_path, name, content, damage):
    from jigsaw.run_folder import latest_checkpoint

    for step in (9, 10):
        checkpoint(tmp_path, step)
    assert quarantine_damaged(tmp_path) == []
    for step in (10, 9):
        place = tmp_path / f"checkpoint-{step}" / name
        place.unlink() if content is None else place.write_bytes(content)
        if step == 10:
            (line,) = quarantine_damaged(tmp_path)
            assert line.startswith(f"{tmp_path}/checkpoint-10 is damaged ({damage}")
            assert line.endswith("; continuing from checkpoint-9 instead")
            assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint-9"
    with pytest.raises(JigsawError, match=r"checkpoint-9 is damaged \(.*there is no older one: restore it, or delete"):
        quarantine_damaged(tmp_path)


def test_a_large_file_is_hashed_in_blocks_including_both_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "BLOCK", 8)
    monkeypatch.setattr(checkpoints, "HASHED_BLOCKS", 4)
    for place in (0, 40, 99):
        folder = tmp_path / str(place)
        folder.mkdir()
        (folder / "model.bin").write_bytes(bytes(100))
        list_files(folder)
        assert damage_of(folder) is None
        changed = bytearray(100)
        changed[place] = 1
        (folder / "model.bin").write_bytes(changed)
        assert (damage_of(folder) is None) == (place == 40), "40 is between the blocks at 0, 30, 61 and 92"


HUNG_UP = """
import sys, time
from pathlib import Path
from jigsaw.errors import StoppedError
from jigsaw.stop_request import StopRequest
with StopRequest(Path(sys.argv[1])) as stop, stop.deferred("after this step"):
    print("started", flush=True)
    for _ in range(100 if sys.argv[2] == "stops" else 5):
        time.sleep(0.1)
        print("running", flush=True)
        print("a warning", file=sys.stderr, flush=True)
        if stop.requested:
            break
    Path(sys.argv[1] + ".saved").write_text(str(stop.exit_code if stop.requested else 0))
"""


@pytest.mark.parametrize(("prefix", "kind", "code"), [([], "stops", 129), (["nohup"], "continues", 0)])
def test_a_closed_terminal_is_a_request_to_stop_unless_nohup_is_used(tmp_path, prefix, kind, code):
    child, terminal = pty.fork()
    if child == 0:
        command = [*prefix, sys.executable, "-c", HUNG_UP, str(tmp_path / "stop"), kind]
        os.chdir(tmp_path)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
        os.execvp(command[0], command)
    os.read(terminal, 1)
    while prefix and "started" not in (tmp_path / "nohup.out").read_text():
        time.sleep(0.05)  # nohup prints a line before it ignores the signal
    os.close(terminal)
    os.waitpid(child, 0)
    assert (tmp_path / "stop.saved").read_text() == str(code)
