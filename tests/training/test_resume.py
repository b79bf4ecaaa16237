"""Resuming: an interrupted run ends with the log and the weights of an uninterrupted one."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from rich.console import Console
from safetensors.torch import load_file

from jigsaw.cli import command
from jigsaw.config.loading import load_recipe
from jigsaw.errors import JigsawError, StoppedError
from jigsaw.evaluation import evaluate as generation
from jigsaw.evaluation.log import read_log
from jigsaw.launch import puzzle_sets
from jigsaw.run import run as run_recipe
from jigsaw.run_folder import RunFolder
from jigsaw.training.logs import MetricsLog

RECIPE = """
name: resumed
seed: 3
model: {path: CHECKPOINT}
data: {train: [{path: PUZZLES}]}
sft: {max_steps: 5, prompts_per_step: 8, learning_rate: 1.0e-3, gradient_checkpointing: false}
grpo: {max_steps: 5, prompts_per_step: 8, num_generations: 2, max_completion_length: 4, learning_rate: 1.0e-3,
       gradient_checkpointing: false}
rewards: [{use: visual_jigsaw}, {use: "REWARD:by_text"}]
checkpoint: {every: 2}
logging: {completions_every: 1}
output: FOLDER/${name}
"""
"""24 puzzles in steps of eight: both stages start a second epoch before they end."""

REWARD = '''
def by_text(completions, **columns):
    """A reward that differs between the completions of a random model."""
    return [sum(map(ord, text[0]["content"])) % 7 / 7 for text in completions]
'''


@pytest.fixture(scope="module")
def recipe_file(checkpoint, puzzle_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    (folder / "reward.py").write_text(REWARD, encoding="utf-8")
    text = RECIPE.replace("CHECKPOINT", checkpoint).replace("PUZZLES", str(puzzle_folder))
    text = text.replace("REWARD", str(folder / "reward.py")).replace("FOLDER", str(folder))
    (folder / "resumed.yaml").write_text(text, encoding="utf-8")
    return folder / "resumed.yaml"


ROLLOUT = {"transformers": "rollout.engine=transformers", "vllm": "rollout={engine: vllm, max_model_len: 1024}"}


def run(recipe_file: Path, name: str, *overrides: str, resume: bool = False) -> Path:
    return run_recipe(load_recipe(str(recipe_file), [f"name={name}", *overrides]), Console(quiet=True), resume=resume)


@pytest.fixture(scope="module")
def uninterrupted(recipe_file: Path) -> Path:
    return run(recipe_file, "uninterrupted")


def warmed_up(recipe_file: Path, uninterrupted: Path, name: str) -> Path:
    """Creates a run whose supervised stage is complete, for tests of GRPO."""
    recipe = load_recipe(str(recipe_file), [f"name={name}"])
    folder = RunFolder(recipe.output)
    with folder.locked(recipe, resume=False):
        shutil.copytree(uninterrupted / "warmup", folder.model("warmup"))
        shutil.copy(uninterrupted / "data.json", folder.data)
        log = (uninterrupted / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        folder.metrics.write_text("".join(line for line in log if '"sft"' in line), encoding="utf-8")
    return folder.path


def lines(file: Path) -> list[dict[str, object]]:
    """Returns the lines of a log without the times."""
    return [
        {key: value for key, value in json.loads(line).items() if key != "seconds"}
        for line in file.read_text(encoding="utf-8").splitlines()
    ]


def assert_same(run: Path, uninterrupted: Path) -> None:
    for stage in ("warmup", "model"):
        actual, expected = (load_file(folder / stage / "model.safetensors") for folder in (run, uninterrupted))
        assert all(actual[name].equal(expected[name]) for name in expected), stage
    for log in ("metrics.jsonl", "completions.jsonl"):
        assert lines(run / log) == lines(uninterrupted / log)
    assert not (run / "checkpoints").exists(), "a finished run keeps no checkpoints"


@pytest.fixture
def run_command(monkeypatch, capfd):
    """Run the command in this process; returns its exit code and the lines of its standard error."""

    def run(*arguments: str) -> tuple[int, list[str]]:
        monkeypatch.setattr("sys.argv", ["jigsaw", *arguments])
        monkeypatch.setattr(command, "_quiet_libraries", lambda debug: None)
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            command.main()
        return int(ended.value.code or 0), capfd.readouterr().err.splitlines()

    return run


class Killed(BaseException):
    """An exception that no handler catches."""


@pytest.fixture
def at_step(monkeypatch):
    """Calls a function when the log line of a step of a stage is written."""

    def arrange(stage: str, step: int, action) -> None:
        write = MetricsLog.write

        def writing(self, written_stage, written_step, values):
            write(self, written_stage, written_step, values)
            if (written_stage, written_step) == (stage, step):
                action()

        monkeypatch.setattr(MetricsLog, "write", writing)

    return arrange


@pytest.mark.parametrize("stage, step", [("sft", 4), ("grpo", 1), ("grpo", 4)])
def test_a_killed_run_resumes_from_its_last_checkpoint(recipe_file, uninterrupted, at_step, monkeypatch, stage, step):
    """The run is killed before its first checkpoint, or after one in the second epoch."""

    def kill():
        raise Killed

    name = f"killed-{stage}-{step}"
    at_step(stage, step, kill)
    with pytest.raises(Killed):
        run(recipe_file, name)
    # An incomplete line, as of a process that dies while writing.
    folder = recipe_file.parent / name
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"stage": "gr')
    steps = [path.name for path in sorted((folder / "checkpoints" / stage).glob("*"))]
    assert steps == ([] if step < 2 else ["checkpoint-2"])
    monkeypatch.undo()
    with pytest.raises(JigsawError, match="--resume continues it"):
        run(recipe_file, name)
    assert_same(run(recipe_file, name, resume=True), uninterrupted)


def test_sigterm_saves_and_stops_a_run_that_resumes_from_there(recipe_file, uninterrupted, at_step):
    at_step("grpo", 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(StoppedError, match=r"/stopped: stopped and saved, after step 4 of grpo$") as stopped:
        run(recipe_file, "stopped")
    assert stopped.value.exit_code == 143
    folder = recipe_file.parent / "stopped"
    # The signal arrives while step 3 is logged; it is checked at the end of the next step, which is step 4.
    assert {path.name for path in (folder / "checkpoints/grpo").iterdir()} == {"checkpoint-2", "checkpoint-4"}
    assert not (folder / "model").exists()
    assert_same(run(recipe_file, "stopped", resume=True), uninterrupted)
    with pytest.raises(JigsawError, match="finished run"):
        run(recipe_file, "stopped", resume=True)


def test_ctrl_c_saves_and_prints_the_resume_command(
    recipe_file, uninterrupted, at_step, monkeypatch, capfd, run_command
):
    at_step("grpo", 3, lambda: os.kill(os.getpid(), signal.SIGINT))
    folder = warmed_up(recipe_file, uninterrupted, "interrupted")
    code, lines_of_stderr = run_command("launch", str(recipe_file), "name=interrupted", "--resume")
    assert code == 130
    assert lines_of_stderr.count("Stopping after this step and saving. Press Ctrl-C again to quit at once.") == 1
    assert lines_of_stderr[-2:] == [
        f"jigsaw: {folder}: stopped and saved, after step 4 of grpo",
        f"Continue with: jigsaw launch {recipe_file} name=interrupted --resume",
    ]
    monkeypatch.undo()
    code, _ = run_command(*shlex.split(lines_of_stderr[-1])[3:])
    assert code == 0
    assert_same(folder, uninterrupted)


def test_a_second_ctrl_c_ends_the_run_at_once_and_lists_what_is_kept(
    recipe_file, uninterrupted, at_step, monkeypatch, run_command
):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    at_step("grpo", 3, twice)
    folder = warmed_up(recipe_file, uninterrupted, "twice")
    code, lines_of_stderr = run_command("launch", str(recipe_file), "name=twice", "--resume")
    assert code == 130
    assert lines_of_stderr[-2] == f"jigsaw: {folder}: stopped at once; it keeps warmup/, steps 1 to 2 of grpo"
    assert lines_of_stderr[-1].startswith("Continue with: ")
    monkeypatch.undo()
    assert_same(run(recipe_file, "twice", resume=True), uninterrupted)


def test_a_request_to_stop_between_the_parts_of_a_run_stops_it(recipe_file, uninterrupted, at_step, monkeypatch):
    """Given a signal while data are built, or in the last step of a stage, the run stops before its next part."""
    folder, set_of = recipe_file.parent / "parts", puzzle_sets._set_of

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return set_of(*arguments)

    monkeypatch.setattr(puzzle_sets, "_set_of", interrupted)
    with pytest.raises(StoppedError, match="stopped at once; nothing was trained yet") as stopped:
        run(recipe_file, "parts")
    assert stopped.value.exit_code == 130
    monkeypatch.undo()
    assert not (folder / "metrics.jsonl").exists()
    for stage, message in (("sft", "before grpo"), ("grpo", "after its training")):
        at_step(stage, 5, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(StoppedError, match=f"stopped and saved, {message}$"):
            run(recipe_file, "parts", resume=True)
        monkeypatch.undo()
    assert_same(run(recipe_file, "parts", resume=True), uninterrupted)


@pytest.mark.parametrize("retrained", [False, True])
def test_an_evaluation_resumes_after_its_last_batch(recipe_file, puzzle_folder, monkeypatch, retrained):
    """Given a stop between batches, no puzzle is evaluated again, unless the checkpoint has changed."""
    name = f"evaluated-{retrained}"
    folder, batches, open_engine = recipe_file.parent / name, [], generation.open_engine

    def opened(*arguments):
        engine = open_engine(*arguments)

        def ask(rows):
            batches.append([row["id"] for row in rows])
            if len(batches) == 2:
                (folder / ".stop").touch()
            return engine(rows)

        return ask

    monkeypatch.setattr(generation, "open_engine", opened)
    options = ["sft=null", "grpo.max_steps=1", f"data.eval=[{{path: {puzzle_folder}, limit: 6}}]"]
    options += ["evaluation={every: 9, batch_size: 2}"]
    with pytest.raises(StoppedError, match="stopped and saved, in its evaluation"):
        run(recipe_file, name, *options)
    if retrained:
        shutil.rmtree(folder / "model")
    run(recipe_file, name, *options, resume=True)
    assert len(batches) == (5 if retrained else 3)
    assert len({identity for batch in batches[-3:] for identity in batch}) == 6
    assert not (folder / ".answers").exists()
    figures = json.loads((folder / "evaluation.json").read_text())
    assert figures["sets"][0]["model"]["num_puzzles"] == 6

    (folder / "DONE").unlink()
    run(recipe_file, name, *options, resume=True)
    assert len(batches) == (5 if retrained else 3), "a complete evaluation is not repeated"
    assert json.loads((folder / "evaluation.json").read_text()) == figures


def test_the_kl_of_a_resumed_run_is_relative_to_the_start_of_the_stage(recipe_file, at_step, monkeypatch):
    """Given `grpo.beta`, the reference model of a resumed stage is the model with which the stage started."""
    options = ["sft=null", "grpo.beta=0.1", "grpo.max_steps=3"]

    def kill():
        raise Killed

    uninterrupted = run(recipe_file, "distance", *options)
    at_step("grpo", 3, kill)
    with pytest.raises(Killed):
        run(recipe_file, "distance-killed", *options)
    monkeypatch.undo()
    resumed = run(recipe_file, "distance-killed", *options, resume=True)
    assert lines(uninterrupted / "metrics.jsonl")[-1]["kl"] > 0
    assert lines(resumed / "metrics.jsonl") == lines(uninterrupted / "metrics.jsonl")
    assert not [file for file in (resumed / "model").glob("*.json") if str(recipe_file.parent) in file.read_text()]


@pytest.mark.parametrize("full_at, begins", [(2, "at the start of the stage"), (4, "after step 2")])
def test_a_full_disk_while_a_checkpoint_is_saved_loses_only_that_checkpoint(
    recipe_file, uninterrupted, monkeypatch, full_at, begins
):
    """Given the error of torch for a full disk, the error names what is kept, and the run resumes from there."""
    import torch

    name, save = f"full-{full_at}", torch.save

    def full_disk(content, file, *rest, **options):
        if f"checkpoint-{full_at}" in str(file):
            raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")
        save(content, file, *rest, **options)

    folder = warmed_up(recipe_file, uninterrupted, name)
    monkeypatch.setattr(torch, "save", full_disk)
    message = (
        rf"the checkpoint after step {full_at} could not be written .*: make room .* --resume, which begins {begins}"
    )
    with pytest.raises(JigsawError, match=message):
        run(recipe_file, name, resume=True)
    assert [path.name for path in folder.glob("checkpoints/*/*")] == ([] if full_at == 2 else ["checkpoint-2"])
    assert not list(folder.glob(".trl/*/checkpoint-*")), "the incomplete checkpoint is removed"
    monkeypatch.undo()
    assert_same(run(recipe_file, name, resume=True), uninterrupted)


def test_a_damaged_checkpoint_is_replaced_by_the_previous_one(recipe_file, uninterrupted, at_step, monkeypatch, capsys):
    """Given one changed byte in the newest checkpoint, the older one is used and a line reports it."""

    def kill():
        raise Killed

    warmed_up(recipe_file, uninterrupted, "damaged")
    at_step("grpo", 5, kill)
    with pytest.raises(Killed):
        run(recipe_file, "damaged", resume=True)
    monkeypatch.undo()
    checkpoints = RunFolder(recipe_file.parent / "damaged").checkpoints("grpo")
    optimizer = checkpoints / "checkpoint-4" / "optimizer.pt"
    content = bytearray(optimizer.read_bytes())
    content[len(content) // 2] ^= 1
    optimizer.write_bytes(content)
    recipe = load_recipe(str(recipe_file), ["name=damaged"])
    run_recipe(recipe, Console(), resume=True)
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        f"{checkpoints}/checkpoint-4 is damaged (optimizer.pt has changed since it was saved); "
        f"continuing from checkpoint-2 instead" in printed
    )
    assert_same(Path(recipe.output), uninterrupted)


@pytest.fixture(scope="module", params=sorted(ROLLOUT))
def engine(request) -> str:
    if request.param == "vllm":
        pytest.importorskip("vllm")
    return str(request.param)


@pytest.fixture(scope="module")
def uninterrupted_with(recipe_file, engine, request) -> Path:
    if engine == "transformers":
        return request.getfixturevalue("uninterrupted")
    return run(recipe_file, f"uninterrupted-{engine}", ROLLOUT[engine])


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_is_resumed_in_another_process(recipe_file, engine, uninterrupted_with, sent):
    """The command gets a real signal in the middle of GRPO."""
    name, rollout = f"process-{sent.name}-{engine}", ROLLOUT[engine]
    command = [sys.executable, "-P", "-m", "jigsaw", "launch", str(recipe_file), f"name={name}", rollout]
    log = recipe_file.parent / name / "metrics.jsonl"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not (log.exists() and '"grpo", "step": 3' in log.read_text()):
            time.sleep(0.01)
        process.send_signal(sent)
        stderr = process.communicate(timeout=300)[1]
    if sent == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 143
        assert "stopped and saved, after step" in stderr
        assert f"Continue with: jigsaw launch {recipe_file} name={name} {shlex.quote(rollout)} --resume" in stderr
    assert_same(run(recipe_file, name, rollout, resume=True), uninterrupted_with)


def restore_sigint():
    """Restores the handler of Ctrl-C, which background processes of a shell and their children ignore."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
@pytest.mark.timeout(5400)  # eleven processes that import torch and TRL
def test_ctrl_c_at_ten_random_moments_does_not_change_the_result(recipe_file, puzzle_folder, tmp_path):
    """Given ten interruptions while a run starts, trains, saves and evaluates, three of them with a second Ctrl-C, its
    weights, logs and metrics equal those of an uninterrupted run."""
    rng = Random(20)
    options = ["sft.max_steps=8", "grpo.max_steps=14", f"data.eval=[{{path: {puzzle_folder}, limit: 12}}]"]
    options += ["evaluation={every: 3, puzzles: 6, batch_size: 2}"]
    uninterrupted = run(recipe_file, "uninterrupted-moments", *options)
    first = ["jigsaw", "launch", str(recipe_file), "name=moments", *options]
    folder = recipe_file.parent / "moments"

    def steps() -> int:
        return (folder / "metrics.jsonl").read_text().count("\n") if (folder / "metrics.jsonl").exists() else 0

    words, endings = first, set()
    for moment in range(10):
        starting, double, ahead = moment in (0, 5), moment in (2, 4, 7), steps() + rng.randrange(1, 4)
        command = [sys.executable, "-P", "-m", *words]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=restore_sigint) as process:
            while not starting and process.poll() is None and steps() < ahead:
                time.sleep(0.01)
            # While Python starts, it prints a traceback on Ctrl-C.
            time.sleep(rng.uniform(1.0, 9.0) if starting else rng.uniform(0.0, 0.5))
            process.send_signal(signal.SIGINT)
            if double:
                time.sleep(rng.uniform(0.0, 0.1))
                process.send_signal(signal.SIGINT)
            stderr = process.communicate(timeout=1200)[1]
        if process.returncode == 0:
            break
        assert process.returncode == 130, stderr
        assert "Traceback" not in stderr
        last = stderr.splitlines()[-1]
        if last.startswith("Continue with: "):
            assert last == f"Continue with: {shlex.join([*first, '--resume'])}"
            words = [*first, "--resume"]
        # Before the run has its folder, only one line is printed.
        endings.add(stderr.splitlines()[-2:][0].rpartition(": ")[2].split(",")[0].split(";")[0])
    if not (folder / "DONE").exists():
        run(recipe_file, "moments", *options, resume=True)
    assert {"stopped and saved", "stopped at once"} <= endings
    assert_same(folder, uninterrupted)
    numbered = [(line["stage"], line["step"], "loss" in line) for line in lines(folder / "metrics.jsonl")]
    assert len(numbered) == len(set(numbered)), "no step is logged twice"
    assert read_log(folder).sets == read_log(uninterrupted).sets
