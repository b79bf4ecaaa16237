"""A run that was cut off goes on as if nothing had happened: same data, same randomness, same log, same weights."""

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
"""24 puzzles in steps of eight: both stages go through the set once and begin again before they end."""

REWARD = '''
def by_text(completions, **columns):
    """A reward that a random model gets different amounts of."""
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
def undisturbed(recipe_file: Path) -> Path:
    return run(recipe_file, "undisturbed")


def warmed_up(recipe_file: Path, undisturbed: Path, name: str) -> Path:
    """A run whose supervised stage is complete; what is tested happens in GRPO."""
    recipe = load_recipe(str(recipe_file), [f"name={name}"])
    folder = RunFolder(recipe.output)
    with folder.locked(recipe, resume=False):
        shutil.copytree(undisturbed / "warmup", folder.model("warmup"))
        shutil.copy(undisturbed / "data.json", folder.data)
        log = (undisturbed / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        folder.metrics.write_text("".join(line for line in log if '"sft"' in line), encoding="utf-8")
    return folder.path


def lines(file: Path) -> list[dict[str, object]]:
    """A log without its clock."""
    return [
        {key: value for key, value in json.loads(line).items() if key != "seconds"}
        for line in file.read_text(encoding="utf-8").splitlines()
    ]


def assert_same(run: Path, undisturbed: Path) -> None:
    for stage in ("warmup", "model"):
        ours, theirs = (load_file(folder / stage / "model.safetensors") for folder in (run, undisturbed))
        assert all(ours[name].equal(theirs[name]) for name in theirs), stage
    for log in ("metrics.jsonl", "completions.jsonl"):
        assert lines(run / log) == lines(undisturbed / log)
    assert not (run / "checkpoints").exists(), "a finished run keeps no optimizer"


@pytest.fixture
def run_command(monkeypatch, capfd):
    """The command in this process; gives its exit code and the lines of its standard error."""

    def run(*arguments: str) -> tuple[int, list[str]]:
        monkeypatch.setattr("sys.argv", ["jigsaw", *arguments])
        monkeypatch.setattr(command, "_quiet_libraries", lambda debug: None)
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            command.main()
        return int(ended.value.code or 0), capfd.readouterr().err.splitlines()

    return run


class Killed(BaseException):
    """What no handler catches."""


@pytest.fixture
def at_step(monkeypatch):
    """Have something happen when the log is written of a stage's step."""

    def arrange(stage: str, step: int, happening) -> None:
        write = MetricsLog.write

        def writing(self, given_stage, given_step, values):
            write(self, given_stage, given_step, values)
            if (given_stage, given_step) == (stage, step):
                happening()

        monkeypatch.setattr(MetricsLog, "write", writing)

    return arrange


@pytest.mark.parametrize("stage, step", [("sft", 4), ("grpo", 1), ("grpo", 4)])
def test_a_run_that_was_killed_goes_on_from_its_last_checkpoint(
    recipe_file, undisturbed, at_step, monkeypatch, stage, step
):
    """Given a kill before the first checkpoint or after one, in the second epoch, then nothing shows of it."""

    def kill():
        raise Killed

    name = f"killed-{stage}-{step}"
    at_step(stage, step, kill)
    with pytest.raises(Killed):
        run(recipe_file, name)
    # Half a line, as a process leaves it that dies while writing.
    folder = recipe_file.parent / name
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"stage": "gr')
    steps = [path.name for path in sorted((folder / "checkpoints" / stage).glob("*"))]
    assert steps == ([] if step < 2 else ["checkpoint-2"])
    monkeypatch.undo()
    with pytest.raises(JigsawError, match="--resume continues it"):
        run(recipe_file, name)
    assert_same(run(recipe_file, name, resume=True), undisturbed)


def test_sigterm_saves_and_stops_and_the_run_goes_on_from_there(recipe_file, undisturbed, at_step):
    at_step("grpo", 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(StoppedError, match=r"/stopped: stopped and saved, after step 4 of grpo$") as stopped:
        run(recipe_file, "stopped")
    assert stopped.value.exit_code == 143
    folder = recipe_file.parent / "stopped"
    # The signal came while step 3 was being written down; step 4 was the next at whose end it was seen.
    assert {path.name for path in (folder / "checkpoints/grpo").iterdir()} == {"checkpoint-2", "checkpoint-4"}
    assert not (folder / "model").exists()
    assert_same(run(recipe_file, "stopped", resume=True), undisturbed)
    with pytest.raises(JigsawError, match="finished run"):
        run(recipe_file, "stopped", resume=True)


def test_ctrl_c_saves_and_prints_the_command_that_continues(
    recipe_file, undisturbed, at_step, monkeypatch, capfd, run_command
):
    at_step("grpo", 3, lambda: os.kill(os.getpid(), signal.SIGINT))
    folder = warmed_up(recipe_file, undisturbed, "interrupted")
    code, told = run_command("launch", str(recipe_file), "name=interrupted", "--resume")
    assert code == 130
    assert told.count("Stopping after this step and saving. Press Ctrl-C again to quit at once.") == 1
    assert told[-2:] == [
        f"jigsaw: {folder}: stopped and saved, after step 4 of grpo",
        f"Continue with: jigsaw launch {recipe_file} name=interrupted --resume",
    ]
    monkeypatch.undo()
    code, _ = run_command(*shlex.split(told[-1])[3:])
    assert code == 0
    assert_same(folder, undisturbed)


def test_a_second_ctrl_c_ends_at_once_and_says_what_is_kept(
    recipe_file, undisturbed, at_step, monkeypatch, run_command
):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    at_step("grpo", 3, twice)
    folder = warmed_up(recipe_file, undisturbed, "twice")
    code, told = run_command("launch", str(recipe_file), "name=twice", "--resume")
    assert code == 130
    assert told[-2] == f"jigsaw: {folder}: stopped at once; it keeps warmup/, steps 1 to 2 of grpo"
    assert told[-1].startswith("Continue with: ")
    monkeypatch.undo()
    assert_same(run(recipe_file, "twice", resume=True), undisturbed)


def test_a_stop_between_the_parts_of_a_run_is_heeded(recipe_file, undisturbed, at_step, monkeypatch):
    """Given a signal while data are built, or in the last step of a stage, then the run ends before its next part."""
    folder, set_of = recipe_file.parent / "parts", puzzle_sets._set_of

    def asked(*given):
        os.kill(os.getpid(), signal.SIGINT)
        return set_of(*given)

    monkeypatch.setattr(puzzle_sets, "_set_of", asked)
    with pytest.raises(StoppedError, match="stopped at once; nothing was trained yet") as stopped:
        run(recipe_file, "parts")
    assert stopped.value.exit_code == 130
    monkeypatch.undo()
    assert not (folder / "metrics.jsonl").exists()
    for stage, told in (("sft", "before grpo"), ("grpo", "after its training")):
        at_step(stage, 5, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(StoppedError, match=f"stopped and saved, {told}$"):
            run(recipe_file, "parts", resume=True)
        monkeypatch.undo()
    assert_same(run(recipe_file, "parts", resume=True), undisturbed)


@pytest.mark.parametrize("retrained", [False, True])
def test_an_evaluation_goes_on_after_its_last_batch(recipe_file, puzzle_folder, monkeypatch, retrained):
    """Given a stop between batches, then no puzzle is asked again, unless the checkpoint is another."""
    name = f"asked-{retrained}"
    folder, asked, open_engine = recipe_file.parent / name, [], generation.open_engine

    def opened(*given):
        engine = open_engine(*given)

        def ask(rows):
            asked.append([row["id"] for row in rows])
            if len(asked) == 2:
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
    assert len(asked) == (5 if retrained else 3)
    assert len({identity for batch in asked[-3:] for identity in batch}) == 6
    assert not (folder / ".answers").exists()
    figures = json.loads((folder / "evaluation.json").read_text())
    assert figures["sets"][0]["model"]["num_puzzles"] == 6

    (folder / "DONE").unlink()
    run(recipe_file, name, *options, resume=True)
    assert len(asked) == (5 if retrained else 3), "an evaluation that is whole is not made again"
    assert json.loads((folder / "evaluation.json").read_text()) == figures


def test_the_distance_is_from_the_start_after_a_resumption_too(recipe_file, at_step, monkeypatch):
    """Given grpo.beta, when a stage goes on, then its KL is of the model that the stage began with."""
    options = ["sft=null", "grpo.beta=0.1", "grpo.max_steps=3"]

    def kill():
        raise Killed

    whole = run(recipe_file, "distance", *options)
    at_step("grpo", 3, kill)
    with pytest.raises(Killed):
        run(recipe_file, "distance-killed", *options)
    monkeypatch.undo()
    resumed = run(recipe_file, "distance-killed", *options, resume=True)
    assert lines(whole / "metrics.jsonl")[-1]["kl"] > 0
    assert lines(resumed / "metrics.jsonl") == lines(whole / "metrics.jsonl")
    assert not [file for file in (resumed / "model").glob("*.json") if str(recipe_file.parent) in file.read_text()]


@pytest.mark.parametrize("full_at, begins", [(2, "at the start of the stage"), (4, "after step 2")])
def test_a_disk_that_fills_up_while_a_checkpoint_is_saved_costs_only_that_checkpoint(
    recipe_file, undisturbed, monkeypatch, full_at, begins
):
    """Given torch's own words for a full disk, then one line says what is kept, and the run resumes from there."""
    import torch

    name, save = f"full-{full_at}", torch.save

    def full_disk(content, file, *rest, **options):
        if f"checkpoint-{full_at}" in str(file):
            raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")
        save(content, file, *rest, **options)

    folder = warmed_up(recipe_file, undisturbed, name)
    monkeypatch.setattr(torch, "save", full_disk)
    told = rf"the checkpoint after step {full_at} could not be written .*: make room .* --resume, which begins {begins}"
    with pytest.raises(JigsawError, match=told):
        run(recipe_file, name, resume=True)
    assert [path.name for path in folder.glob("checkpoints/*/*")] == ([] if full_at == 2 else ["checkpoint-2"])
    assert not list(folder.glob(".trl/*/checkpoint-*")), "what was half-written gives its room back"
    monkeypatch.undo()
    assert_same(run(recipe_file, name, resume=True), undisturbed)


def test_a_damaged_newest_checkpoint_is_replaced_by_the_one_before(
    recipe_file, undisturbed, at_step, monkeypatch, capsys
):
    """Given one changed byte in the newest checkpoint, then the older one is used, and one line says so."""

    def kill():
        raise Killed

    warmed_up(recipe_file, undisturbed, "damaged")
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
    told = " ".join(capsys.readouterr().out.split())
    assert (
        f"{checkpoints}/checkpoint-4 is damaged (optimizer.pt has changed since it was saved); "
        f"continuing from checkpoint-2 instead" in told
    )
    assert_same(Path(recipe.output), undisturbed)


@pytest.fixture(scope="module", params=sorted(ROLLOUT))
def engine(request) -> str:
    if request.param == "vllm":
        pytest.importorskip("vllm")
    return str(request.param)


@pytest.fixture(scope="module")
def undisturbed_with(recipe_file, engine, request) -> Path:
    if engine == "transformers":
        return request.getfixturevalue("undisturbed")
    return run(recipe_file, f"undisturbed-{engine}", ROLLOUT[engine])


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_is_killed_goes_on_in_another(recipe_file, engine, undisturbed_with, sent):
    """The same through the command, with a real signal, in the middle of GRPO."""
    name, rollout = f"process-{sent.name}-{engine}", ROLLOUT[engine]
    command = [sys.executable, "-P", "-m", "jigsaw", "launch", str(recipe_file), f"name={name}", rollout]
    log = recipe_file.parent / name / "metrics.jsonl"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not (log.exists() and '"grpo", "step": 3' in log.read_text()):
            time.sleep(0.01)
        process.send_signal(sent)
        told = process.communicate(timeout=300)[1]
    if sent == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 143
        assert "stopped and saved, after step" in told
        assert f"Continue with: jigsaw launch {recipe_file} name={name} {shlex.quote(rollout)} --resume" in told
    assert_same(run(recipe_file, name, rollout, resume=True), undisturbed_with)


def heeding_ctrl_c():
    """A process that a shell starts in the background ignores Ctrl-C, and so would those that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
@pytest.mark.timeout(5400)  # eleven processes that import torch and TRL
def test_ctrl_c_at_ten_random_moments_changes_nothing(recipe_file, puzzle_folder, tmp_path):
    """Given ten interruptions while a run starts, trains, saves and evaluates, three of them double ones, then its
    weights, its logs and its figures are those of an undisturbed run."""
    rng = Random(20)
    options = ["sft.max_steps=8", "grpo.max_steps=14", f"data.eval=[{{path: {puzzle_folder}, limit: 12}}]"]
    options += ["evaluation={every: 3, puzzles: 6, batch_size: 2}"]
    whole = run(recipe_file, "whole", *options)
    first = ["jigsaw", "launch", str(recipe_file), "name=moments", *options]
    folder = recipe_file.parent / "moments"

    def steps() -> int:
        return (folder / "metrics.jsonl").read_text().count("\n") if (folder / "metrics.jsonl").exists() else 0

    words, met = first, set()
    for moment in range(10):
        starting, double, ahead = moment in (0, 5), moment in (2, 4, 7), steps() + rng.randrange(1, 4)
        command = [sys.executable, "-P", "-m", *words]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heeding_ctrl_c) as process:
            while not starting and process.poll() is None and steps() < ahead:
                time.sleep(0.01)
            # Python itself handles an interruption while it starts, with a traceback.
            time.sleep(rng.uniform(1.0, 9.0) if starting else rng.uniform(0.0, 0.5))
            process.send_signal(signal.SIGINT)
            if double:
                time.sleep(rng.uniform(0.0, 0.1))
                process.send_signal(signal.SIGINT)
            told = process.communicate(timeout=1200)[1]
        if process.returncode == 0:
            break
        assert process.returncode == 130, told
        assert "Traceback" not in told
        last = told.splitlines()[-1]
        if last.startswith("Continue with: "):
            assert last == f"Continue with: {shlex.join([*first, '--resume'])}"
            words = [*first, "--resume"]
        # Before the run has its folder there is one line alone.
        met.add(told.splitlines()[-2:][0].rpartition(": ")[2].split(",")[0].split(";")[0])
    if not (folder / "DONE").exists():
        run(recipe_file, "moments", *options, resume=True)
    assert {"stopped and saved", "stopped at once"} <= met
    assert_same(folder, whole)
    numbered = [(line["stage"], line["step"], "loss" in line) for line in lines(folder / "metrics.jsonl")]
    assert len(numbered) == len(set(numbered)), "no step twice"
    assert read_log(folder).sets == read_log(whole).sets
