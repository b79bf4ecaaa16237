"""The batch file for SLURM: its options, and how it runs in bash with fakes of `srun` and `scontrol`."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from jigsaw.config.loading import load_recipe
from jigsaw.config.schema import DistributedSection
from jigsaw.errors import JigsawError
from jigsaw.launch.slurm import batch_file

RECIPE = """
name: batch
model: {path: somewhere}
data: {train: [{path: puzzles}]}
grpo: {prompts_per_step: 16}
distributed: {gpus: 4, nodes: 2, zero: 3, slurm: {partition: gpu, time: "24:00:00", mem: 0, exclusive: true}}
output: FOLDER/run
"""

SRUN = """#!/bin/bash
echo "$@" > "$FOLDER/srun-arguments"
while [ ! -e "$FOLDER/run/.stop" ]; do sleep 0.05; done
echo saved > "$FOLDER/run/saved"
exit 143
"""


@pytest.fixture
def load(tmp_path):
    def with_overrides(*overrides: str):
        (tmp_path / "batch.yaml").write_text(RECIPE.replace("FOLDER", str(tmp_path)), encoding="utf-8")
        return load_recipe(str(tmp_path / "batch.yaml"), overrides)

    return with_overrides


def options(text: str) -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def test_the_options_start_one_launcher_per_node_with_requeue_and_a_signal_before_the_end(load):
    written = options(batch_file(load(), "batch.yaml", []))
    assert written == {
        "job-name": "batch",
        "nodes": "2",
        "ntasks-per-node": "1",
        "requeue": "",
        "open-mode": "append",
        "signal": "B:USR1@1200",
        "gpus-per-node": "4",
        "partition": "gpu",
        "time": "24:00:00",
        "mem": "0",
        "exclusive": "",
        "output": "batch-%j.log",
        "cpus-per-task": "32",
    }


def test_a_recipe_can_change_the_default_options(load):
    bare = load().model_copy(update={"distributed": DistributedSection(gpus=4, nodes=2, zero=3)})
    written = options(batch_file(bare, "batch.yaml", []))
    assert (written["time"], written["output"], written["cpus-per-task"]) == ("24:00:00", "batch-%j.log", "32")
    written = options(batch_file(load("distributed.slurm={cpus-per-task: 12, output: logs/%j}"), "batch.yaml", []))
    assert (written["cpus-per-task"], written["output"]) == ("12", "logs/%j")
    assert "output" not in options(batch_file(load("distributed.slurm={output: false}"), "batch.yaml", []))


def test_the_time_to_save_depends_on_the_size_of_the_model_unless_the_recipe_sets_it(load):
    def lead(*overrides: str) -> int:
        return int(options(batch_file(load(*overrides), "batch.yaml", []))["signal"].removeprefix("B:USR1@"))

    large, small = lead("model.path=Qwen/Qwen2.5-VL-7B-Instruct"), lead("model.path=Qwen/Qwen2.5-VL-3B-Instruct")
    assert large > small >= 300
    assert large > 3 * 116, "three times the seconds that 116 GB take on a shared disk, and a step"
    assert lead() == 1200, "a model of unknown size"
    assert lead("distributed.gpus=null", "distributed.cpu_processes=2", "distributed.zero=0") == 300
    assert lead("distributed.seconds_to_save=900", "model.path=Qwen/Qwen2.5-VL-7B-Instruct") == 900


def test_host_memory_is_requested_for_models_of_known_size(load):
    bare = {"distributed": DistributedSection(gpus=4, nodes=2, zero=3)}
    assert "mem" not in options(batch_file(load().model_copy(update=bare), "batch.yaml", []))
    known = load("model.path=Qwen/Qwen2.5-VL-7B-Instruct", "model.dtype=bfloat16")
    assert options(batch_file(known, "batch.yaml", []))["mem"] == "0", "the value of the recipe"
    gigabytes = int(options(batch_file(known.model_copy(update=bare), "batch.yaml", []))["mem"].removesuffix("G"))
    assert 4 * (6 + 16.6) < gigabytes < 1.5 * 4 * (6 + 16.6), "four processes, each reading a copy of the model"


def test_cpus_per_gpu_replaces_cpus_per_task(load):
    written = options(batch_file(load("distributed.slurm={cpus-per-gpu: 12}"), "batch.yaml", []))
    assert written["cpus-per-gpu"] == "12" and "cpus-per-task" not in written


@pytest.mark.parametrize("gres", ["gpu:4", "gpu:h100:4", "gpu:a:2,gpu:b:2,nvme:1"])
def test_gres_replaces_gpus_per_node(load, gres):
    assert "--gpus-per-node: distributed.slurm.gres=gpu:4" in batch_file(load(), "batch.yaml", [])
    text = batch_file(load(f"distributed.slurm={{gres: '{gres}'}}"), "batch.yaml", [])
    assert options(text)["gres"] == gres and "gpus-per-node" not in options(text)


def test_gpus_of_a_server_are_requested(load):
    recipe = load("rollout={engine: vllm, mode: server, tensor_parallel_size: 2}")
    assert options(batch_file(recipe, "batch.yaml", []))["gpus-per-node"] == "6"


@pytest.mark.parametrize(
    "override, message",
    [
        ("distributed.slurm={nodes: 3}", r"slurm\.nodes is set by the framework \(nodes=2\)"),
        (
            "distributed.slurm={signal: USR2}",
            r"signal is set by .*; change distributed\.seconds_to_save \(1200\)",
        ),
        (
            "distributed.slurm={gres: 'gpu:2'}",
            r"slurm\.gres: gpu:2 is 2 GPUs per node, but the recipe uses 4",
        ),
        ("distributed.slurm={gpus-per-node: 'h100:8'}", r"slurm\.gpus-per-node: h100:8 is 8 GPUs"),
        ("distributed.slurm={time: 86400}", r"slurm\.time: YAML reads 86400 as a number; put it in quotes"),
        ("distributed.slurm={time: 'a day'}", r"slurm\.time: 'a day' is not a time for sbatch"),
        ("distributed.slurm={time: '20:00'}", r"slurm\.time: 20:00 is too short for a run .* 1200 s before"),
    ],
)
def test_invalid_options_are_refused(load, override, message):
    with pytest.raises(JigsawError, match=message):
        batch_file(load(override), "batch.yaml", [])


def run_file(folder: Path, text: str, *, requeues: bool = True) -> subprocess.Popen[str]:
    """Runs a batch file in bash with fakes of SLURM's commands and with its variables."""
    requeue = 'echo "$@" > "$FOLDER/scontrol"' if requeues else "exit 1"
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    for name, script in {
        "srun": SRUN,
        "scontrol": f'#!/bin/bash\nif [ "$1" = show ]; then echo node-1; else {requeue}; fi\n',
    }.items():
        (programs / name).write_text(script, encoding="utf-8")
        (programs / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "FOLDER": str(folder),
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": "node-[1-2]",
    }
    return subprocess.Popen(["bash", "-c", text], env=environment, stdout=subprocess.PIPE, text=True)


def wait_for(file: Path) -> None:
    for _ in range(600):
        if file.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{file} was not written")


def test_after_the_signal_the_run_saves_and_the_job_is_requeued(load, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/recipe.yaml").touch()  # an earlier job started the run, so this job resumes it
    with run_file(tmp_path, batch_file(load(), "batch.yaml", ["seed=1", "output=elsewhere"])) as job:
        wait_for(tmp_path / "srun-arguments")
        job.send_signal(signal.SIGUSR1)
        assert job.wait(60) == 0
    arguments = (tmp_path / "srun-arguments").read_text()
    assert "--ntasks-per-node=1" in arguments
    assert f"seed=1 output={tmp_path}/run --nodes 2 --rendezvous node-1:24711 --resume" in arguments
    assert (tmp_path / "run/saved").exists()
    assert (tmp_path / "scontrol").read_text() == "requeue 4711\n"


def test_a_job_that_cannot_be_requeued_fails_with_a_message(load, tmp_path):
    (tmp_path / "run").mkdir()
    with run_file(tmp_path, batch_file(load(), "batch.yaml", []), requeues=False) as job:
        wait_for(tmp_path / "srun-arguments")
        job.send_signal(signal.SIGUSR1)
        assert job.wait(60) == 1
        assert "submit this file again" in job.stdout.read()


@pytest.mark.parametrize("time", ["90", "25:00", "1:00:00", "1-0", "1-0:30", "1-00:30:00", "UNLIMITED"])
def test_every_time_format_of_sbatch_is_accepted(load, time):
    assert options(batch_file(load(f"distributed.slurm={{time: '{time}'}}"), "batch.yaml", []))["time"] == time


def test_a_job_whose_run_has_not_started_is_requeued(load, tmp_path):
    with run_file(tmp_path, batch_file(load(), "batch.yaml", [])) as job:
        wait_for(tmp_path / "srun-arguments")
        job.send_signal(signal.SIGUSR1)
        assert job.wait(60) == 0
    assert not (tmp_path / "run").exists()
    assert (tmp_path / "scontrol").read_text() == "requeue 4711\n"


def test_a_first_job_does_not_resume_and_a_finished_run_is_not_requeued(load, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/DONE").touch()
    with run_file(tmp_path, batch_file(load(), "batch.yaml", [])) as job:
        wait_for(tmp_path / "srun-arguments")
        job.send_signal(signal.SIGUSR1)
        assert job.wait(60) == 0
    assert "--resume" not in (tmp_path / "srun-arguments").read_text()
    assert not (tmp_path / "scontrol").exists()
