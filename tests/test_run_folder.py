"""A run folder belongs to one run at a time, and a refused one leaves nothing behind."""

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
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder), *options], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


@pytest.fixture
def run_command(monkeypatch, capsys):
    """The command; gives its exit code, standard output and standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["jigsaw", *arguments])
        monkeypatch.setattr(command, "_quiet_libraries", lambda debug: None)
        with pytest.raises(SystemExit) as ended:
            command.main()
        return (int(ended.value.code or 0), *capsys.readouterr())

    return run


def claim(recipe: Recipe, *, resume: bool = False) -> None:
    """A run that does nothing, but one thing."""
    with RunFolder(recipe.output).locked(recipe, resume=resume):
        RunFolder(recipe.output).write_text_once(RunFolder(recipe.output).data, "{}")


# The lock


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_of_a_living_run_is_refused_with_the_process_that_has_it(recipe, resume):
    claim(recipe)
    folder = Path(recipe.output)
    with holding(folder) as other:
        before = sorted(path.name for path in folder.iterdir())
        told = (
            rf"^{folder} is in use by process {other.pid} on {socket.gethostname()} since \d\d:\d\d\. Stop it first, "
        )
        with pytest.raises(JigsawError, match=told + "or choose output=FOLDER$"):
            claim(recipe, resume=resume)
        assert sorted(path.name for path in folder.iterdir()) == before
        other.kill()
    claim(recipe, resume=True)
    assert not (folder / HOLDER).exists()


def test_a_lock_that_a_child_of_a_killed_process_inherited_is_waited_for(tmp_path):
    with holding(tmp_path, "fork") as other:
        other.kill()
    with locked(tmp_path):
        assert json.loads((tmp_path / HOLDER).read_text())["process"] == os.getpid()


def test_of_two_runs_that_start_at_once_one_has_the_folder(recipe):
    """Given eight threads that claim a folder at once, then one gets it and the others name its process."""
    together, ended = threading.Barrier(8), threading.Barrier(8)
    told: list[str] = []

    def start() -> None:
        together.wait()
        try:
            with RunFolder(recipe.output).locked(recipe, resume=False):
                ended.wait(300)
        except JigsawError as error:
            told.append(str(error))
            ended.wait(300)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 7
    assert all("is in use by" in line for line in told), told


def other_machine(folder: Path) -> Path:
    """The file of a holder on another machine whose file system does not pass locks on."""
    holder = replace(Holder.this_process(), host="node-2", machine="another")
    (folder / LOCK).touch()
    (folder / HOLDER).write_text(json.dumps(asdict(holder)), encoding="utf-8")
    return folder / HOLDER


def test_a_holder_on_another_machine_that_shows_life_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "RENEWED_EVERY", 0.05)
    file, ended = other_machine(tmp_path), threading.Event()
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
def test_a_holder_on_another_machine_that_shows_no_life_is_replaced(tmp_path, monkeypatch, silent):
    monkeypatch.setattr(run_lock, "RENEWED_EVERY", 0.05)
    monkeypatch.setattr(run_lock, "DEAD_AFTER", 0.3 if not silent else 60.0)
    file = other_machine(tmp_path)
    then = time.time() - silent
    os.utime(file, (then, then))
    with locked(tmp_path):
        assert json.loads(file.read_text())["process"] == os.getpid()


def test_a_living_holder_renews_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "RENEWED_EVERY", 0.02)
    with locked(tmp_path):
        os.utime(tmp_path / HOLDER, (0, 0))
        deadline = time.monotonic() + 30
        while (tmp_path / HOLDER).stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (tmp_path / HOLDER).stat().st_mtime > 0


# What is left behind


def test_a_run_that_fails_before_anything_was_done_leaves_no_folder(recipe):
    with pytest.raises(JigsawError, match="no such photos"), RunFolder(recipe.output).locked(recipe, resume=False):
        raise JigsawError("no such photos")
    assert not Path(recipe.output).exists()
    with pytest.raises(StoppedError), RunFolder(recipe.output).locked(recipe, resume=False):
        raise StoppedError("asked to")
    assert Path(recipe.output, "recipe.yaml").exists(), "a run that was stopped can be resumed"


def test_temporary_files_of_a_killed_run_are_removed_and_others_are_not(recipe):
    claim(recipe)
    folder = RunFolder(recipe.output)
    (folder.path / ".start.0123abcd.tmp").mkdir()
    (folder.path / ".start.0123abcd.tmp" / "config.json").touch()
    (folder.path / "predictions").mkdir()
    (folder.path / "predictions" / ".model.jsonl.0123abcd.tmp").touch()
    (folder.path / "notes.tmp").touch()
    folder.stop.touch()
    claim(recipe, resume=True)
    assert {path.name for path in folder.path.iterdir()} == {
        LOCK,
        "data.json",
        "notes.tmp",
        "predictions",
        "recipe.yaml",
    }
    assert not list((folder.path / "predictions").iterdir())


def test_a_finished_run_keeps_no_lock(recipe):
    with RunFolder(recipe.output).locked(recipe, resume=False):
        RunFolder(recipe.output).done.touch()
    assert {path.name for path in Path(recipe.output).iterdir()} == {"DONE", "recipe.yaml"}


# Fresh folders


FRESH = RECIPE.replace("FOLDER/run", "${fresh:FOLDER/runs/held}")


@pytest.fixture
def fresh_recipe(tmp_path) -> str:
    (tmp_path / "fresh.yaml").write_text(FRESH.replace("FOLDER", str(tmp_path)), encoding="utf-8")
    return str(tmp_path / "fresh.yaml")


def test_launches_in_the_same_moment_get_folders_of_their_own(tmp_path):
    together, found = threading.Barrier(8), []

    def start() -> None:
        with FreshFolders(create=True) as fresh:
            together.wait()
            found.append((fresh.resolve(f"{tmp_path}/runs/x"), fresh.resolve(f"{tmp_path}/runs/x")))
            together.wait()

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(first == second for first, second in found), "one recipe may name its folder twice"
    assert sorted(first for first, _ in found) == sorted(f"{tmp_path}/runs/x{n}" for n in ["", *range(-8, -1)])
    left = list(tmp_path.glob("runs/*"))  # `runs` itself stays if the launch that made it ends before another
    assert not left, "nothing was done in any of them"


def test_a_launch_outlives_the_end_of_the_one_that_made_the_folder_above(tmp_path, monkeypatch):
    """Given one launch that is refused, and removes `runs`, just before another claims its folder in there."""
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
    assert not (tmp_path / "runs").exists(), "it was made anew by the other, which removes it"


def test_a_run_that_begins_between_two_looks_at_its_folder_is_named(recipe, monkeypatch):
    """Given a folder that another run takes after its holder was looked for, and before its files are."""
    Path(recipe.output).mkdir()
    look, others = RunFolder._refuse_unless_own, []

    def look_after_the_other_began(folder: RunFolder, resolved: str, resume: bool) -> None:
        if not others:
            others.append(holding(folder.path))
            folder.recipe.write_text(resolved, encoding="utf-8")
        look(folder, resolved, resume)

    monkeypatch.setattr(RunFolder, "_refuse_unless_own", look_after_the_other_began)
    try:
        with pytest.raises(JigsawError) as refused:
            claim(recipe)
        assert f"is in use by process {others[0].pid} on " in str(refused.value)
    finally:
        for other in others:
            with other:
                other.kill()


def test_a_claimed_folder_that_is_used_stays(tmp_path):
    with FreshFolders(create=True) as fresh:
        Path(fresh.resolve(f"{tmp_path}/runs/x"), "recipe.yaml").touch()
    assert (tmp_path / "runs/x/recipe.yaml").exists()


NOWHERE = "jigsaw: model.path: somewhere: no such checkpoint folder\n"
CANNOT_START = "jigsaw: this run cannot start here; the list above names what is missing\n"


@pytest.mark.parametrize(
    "options, ended", [([], (1, NOWHERE)), (["--dry-run"], (1, CANNOT_START)), (["--slurm"], (0, ""))]
)
def test_a_refused_recipe_a_dry_run_and_a_batch_file_leave_no_fresh_folder(
    fresh_recipe, tmp_path, run_command, options, ended
):
    code, _, told = run_command("launch", fresh_recipe, *options)
    assert (code, told) == ended
    assert not (tmp_path / "runs").exists()


def test_nodes_of_a_run_must_be_told_its_folder(fresh_recipe, tmp_path, run_command):
    nodes = ["--nodes", "2", "--rendezvous", "node-1:29500", "distributed.cpu_processes=1"]
    _, _, told = run_command("launch", fresh_recipe, *nodes)
    reason, remedy = "${fresh:} would be a different folder on each node", "set one for all nodes with output=FOLDER"
    assert told == f"jigsaw: output: {reason}; {remedy}\n"
    assert not (tmp_path / "runs").exists()


def test_the_command_that_continues_names_the_folder_only_where_it_must(fresh_recipe, tmp_path):
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


def test_a_signal_where_nothing_is_lost_ends_at_once(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with StopRequest(tmp_path / "stop") as stop, pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert stop.exit_code == 143
    assert signal.getsignal(signal.SIGINT) is before


def test_the_first_ctrl_c_in_a_step_is_recorded_and_the_second_ends_at_once(tmp_path, capfd):
    with StopRequest(tmp_path / "run.stop") as stop, stop.deferred("after this step and saving"):
        stop.check("nowhere")
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested and (tmp_path / "run.stop").exists()
        told = "Stopping after this step and saving. Press Ctrl-C again to quit at once.\n"
        assert capfd.readouterr().err == told
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
    assert os.waitpid(child, os.WNOHANG) == (0, 0), "Ctrl-C is the parent's business"
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    assert not stop.requested
"""


def test_processes_that_load_data_leave_ctrl_c_to_the_run(tmp_path):
    ended = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path / "stop")], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert not (tmp_path / "stop").exists()


# Checkpoints


def checkpoint(folder: Path, step: int) -> Path:
    made = folder / f"checkpoint-{step}"
    (made / "global_step").mkdir(parents=True)
    (made / "optimizer.pt").write_bytes(b"momenta")
    (made / "global_step" / "shard.pt").write_bytes(b"shard")
    list_files(made)
    return made


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
def test_a_damaged_checkpoint_gives_way_to_the_newest_intact_one(tmp_path, name, content, damage):
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


def test_a_large_file_is_compared_at_both_ends_and_between(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "BLOCK", 8)
    monkeypatch.setattr(checkpoints, "HASHED_BLOCKS", 4)
    for place in (0, 40, 99):
        made = tmp_path / str(place)
        made.mkdir()
        (made / "model.bin").write_bytes(bytes(100))
        list_files(made)
        assert damage_of(made) is None
        changed = bytearray(100)
        changed[place] = 1
        (made / "model.bin").write_bytes(changed)
        assert (damage_of(made) is None) == (place == 40), "40 lies between the blocks at 0, 30, 61 and 92"


HUNG_UP = """
import sys, time
from pathlib import Path
from jigsaw.errors import StoppedError
from jigsaw.stop_request import StopRequest
with StopRequest(Path(sys.argv[1])) as stop, stop.deferred("after this step"):
    print("started", flush=True)
    for _ in range(100 if sys.argv[2] == "stops" else 5):
        time.sleep(0.1)
        print("on the way", flush=True)
        print("a warning", file=sys.stderr, flush=True)
        if stop.requested:
            break
    Path(sys.argv[1] + ".saved").write_text(str(stop.exit_code if stop.requested else 0))
"""


@pytest.mark.parametrize(("prefix", "kind", "code"), [([], "stops", 129), (["nohup"], "goes on", 0)])
def test_a_closed_terminal_is_a_request_to_stop_unless_nohup_was_asked_for(tmp_path, prefix, kind, code):
    child, terminal = pty.fork()
    if child == 0:
        command = [*prefix, sys.executable, "-c", HUNG_UP, str(tmp_path / "stop"), kind]
        os.chdir(tmp_path)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
        os.execvp(command[0], command)
    os.read(terminal, 1)
    while prefix and "started" not in (tmp_path / "nohup.out").read_text():
        time.sleep(0.05)  # nohup speaks before it ignores the signal
    os.close(terminal)
    os.waitpid(child, 0)
    assert (tmp_path / "stop.saved").read_text() == str(code)
