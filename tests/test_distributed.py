"""Distributed training: launch commands and checks, and runs of several processes that train what one process trains.

The runs start processes through torchrun, with gloo on the CPU; those with ZeRO need DeepSpeed.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from rich.console import Console
from safetensors.torch import load_file

from jigsaw.config.loading import load_recipe
from jigsaw.config.schema import DistributedSection
from jigsaw.errors import JigsawError
from jigsaw.launch.checks import dry_run
from jigsaw.launch.torchrun import Node, allocator_settings, torchrun_command
from jigsaw.run import run as run_recipe
from jigsaw.topology import Topology
from jigsaw.training.sharding import deepspeed_config

RECIPE = """
name: spread
seed: 3
model: {path: CHECKPOINT}
data: {train: [{path: PUZZLES}], eval: [{path: PUZZLES, limit: 3}]}
sft: {max_steps: 4, prompts_per_step: 8, learning_rate: 1.0e-3, gradient_checkpointing: false,
      adam_epsilon: 1.0e-4}
grpo: {max_steps: 3, prompts_per_step: 4, num_generations: 4, max_completion_length: 4, learning_rate: 1.0e-3,
       gradient_checkpointing: false, adam_epsilon: 1.0e-4}
rewards: [{use: "FOLDER/reward.py:by_text"}]
checkpoint: {every: 2}
evaluation: {every: 2, puzzles: 3, batch_size: 1}
output: FOLDER/${name}
"""
"""The large epsilon: attention does not depend on the biases of the keys, whose gradients are rounding errors that Adam
would scale up to steps of the learning rate."""

REWARD = """
def by_text(completions, **columns):
    return [sum(map(ord, text[0]["content"])) % 7 / 7 for text in completions]
"""


@pytest.fixture(scope="module")
def recipe_file(checkpoint, puzzle_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("spread")
    (folder / "reward.py").write_text(REWARD, encoding="utf-8")
    text = RECIPE.replace("CHECKPOINT", checkpoint).replace("PUZZLES", str(puzzle_folder))
    (folder / "spread.yaml").write_text(text.replace("FOLDER", str(folder)), encoding="utf-8")
    return folder / "spread.yaml"


@pytest.fixture(scope="module")
def single_process(recipe_file) -> Path:
    return run_recipe(load_recipe(str(recipe_file), ["name=single"]), Console(quiet=True))


def lines(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def assert_same(run: Path, single_process: Path, tolerance: float = 1e-5) -> None:
    """Losses and weights agree within the float32 error of sums in another order."""
    actual, expected = lines(run), lines(single_process)
    assert [(line["stage"], line["step"]) for line in actual] == [(line["stage"], line["step"]) for line in expected]
    for row, expected_row in zip(actual, expected, strict=True):
        for name in {"loss", "reward", "heldout/place_accuracy"} & expected_row.keys():
            assert row[name] == pytest.approx(expected_row[name], abs=tolerance), (row["stage"], row["step"], name)
    for stage in ("warmup", "model"):
        our_weights, weights = (load_file(folder / stage / "model.safetensors") for folder in (run, single_process))
        assert our_weights.keys() == weights.keys()
        for name, weight in weights.items():
            assert float((our_weights[name] - weight).abs().max()) < 10 * tolerance, (stage, name)


needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")


@pytest.mark.slow
@pytest.mark.parametrize(
    "zero, offload",
    [
        (0, "none"),
        pytest.param(1, "none", marks=needs_deepspeed),
        pytest.param(2, "none", marks=needs_deepspeed),
        pytest.param(3, "none", marks=needs_deepspeed),
        pytest.param(3, "all", marks=needs_deepspeed),
    ],
)
def test_two_processes_train_the_same_weights_as_one(recipe_file, single_process, zero, offload):
    """Sampling depends on the puzzle and not on the process, so completions, losses and weights are the same."""
    overrides = [f"name=zero-{zero}-{offload}", "distributed.cpu_processes=2"]
    overrides += [f"distributed.zero={zero}", f"distributed.offload={offload}"]
    assert_same(run_recipe(load_recipe(str(recipe_file), overrides), Console(quiet=True)), single_process)


@pytest.mark.slow
@needs_deepspeed
def test_fewer_held_out_puzzles_than_processes_are_evaluated(recipe_file, puzzle_folder):
    """Given ZeRO-3 and a process without a puzzle, the evaluation completes."""
    overrides = ["name=few", "distributed.cpu_processes=2", "distributed.zero=3", "sft=null", "grpo.max_steps=1"]
    overrides += ["evaluation.every=1", f"data.eval=[{{path: {puzzle_folder}, limit: 1}}]"]
    run = run_recipe(load_recipe(str(recipe_file), overrides), Console(quiet=True))
    assert [line["heldout_puzzles"] for line in lines(run) if "heldout_puzzles" in line] == [1]


@pytest.mark.slow
@needs_deepspeed
@pytest.mark.parametrize("zero", [2, 3])
def test_micro_batches_filled_by_tokens_train_the_same_weights(recipe_file, single_process, zero):
    """Given processes whose steps begin with empty micro-batches, losses and weights equal those of one process."""
    overrides = [f"name=tokens-zero-{zero}", "distributed.cpu_processes=2", f"distributed.zero={zero}"]
    overrides += ["grpo.tokens_per_micro_batch=150"]
    assert_same(run_recipe(load_recipe(str(recipe_file), overrides), Console(quiet=True)), single_process)


@pytest.mark.slow
@needs_deepspeed
def test_gradients_of_many_micro_batches_are_summed_in_float32(recipe_file, monkeypatch):
    """Given bfloat16 weights, the sum over 64 micro-batches is exact; a sum in bfloat16 has an error of 1%."""
    import deepspeed
    import torch
    from deepspeed.utils import safe_get_full_fp32_param

    from jigsaw.training.distributed import process_group

    environment = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    for name, value in (environment | {"DS_ACCELERATOR": "cpu"}).items():
        monkeypatch.setenv(name, value)
    steps = 64
    sizes = {"train_batch_size": steps, "train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": steps}
    with process_group(
        DistributedSection(cpu_processes=1, zero=1)
    ):  # DeepSpeed keeps its process groups, so it is started once
        for zero in (1, 2, 3):
            overrides = [f"distributed.zero={zero}", "distributed.cpu_processes=1", "model.dtype=bfloat16"]
            config = deepspeed_config(load_recipe(str(recipe_file), overrides))
            torch.manual_seed(0)
            layer = torch.nn.Linear(256, 1, bias=False)
            inputs = (1 + torch.rand(steps, 1, 256)).bfloat16()
            engine, *_ = deepspeed.initialize(
                model=layer,
                optimizer=torch.optim.SGD(layer.parameters(), lr=1.0),
                config=config | sizes | {"gradient_clipping": 0.0, "zero_optimization": {"stage": zero}},
            )
            weight = next(engine.module.parameters())
            before = safe_get_full_fp32_param(weight).clone()
            for one in inputs:
                engine.backward(engine(one).sum())
                engine.step()
            step, exact = before - safe_get_full_fp32_param(weight), inputs.float().mean(0)
            assert float(((step - exact) / exact).abs().mean()) < 2e-3, zero


VLLM = "rollout={engine: vllm, max_model_len: 1024, max_logp_difference: 1.0e-5}"


@pytest.fixture(scope="module")
def single_process_with_vllm(recipe_file) -> Path:
    pytest.importorskip("vllm")
    return run_recipe(load_recipe(str(recipe_file), ["name=single-vllm", VLLM]), Console(quiet=True))


@pytest.mark.slow
@needs_deepspeed
@pytest.mark.parametrize("zero", [2, 3])
def test_two_processes_with_vllm_each_train_the_same_weights_as_one(recipe_file, single_process_with_vllm, zero):
    overrides = [f"name=vllm-zero-{zero}", "distributed.cpu_processes=2", f"distributed.zero={zero}", VLLM]
    assert_same(run_recipe(load_recipe(str(recipe_file), overrides), Console(quiet=True)), single_process_with_vllm)


@pytest.mark.slow
@needs_deepspeed
def test_a_killed_run_of_two_processes_with_sharded_state_is_resumed(recipe_file, single_process):
    """Given SIGKILL to the launcher, its processes die too, and the resumed run ends like an uninterrupted one."""
    overrides = ["name=killed", "distributed.cpu_processes=2", "distributed.zero=2"]
    command = [sys.executable, "-P", "-m", "jigsaw", "launch", str(recipe_file), *overrides]
    run = recipe_file.parent / "killed"
    with subprocess.Popen(command) as process:
        while process.poll() is None and not list(run.glob("checkpoints/grpo/checkpoint-2")):
            time.sleep(0.05)
        process.kill()
    time.sleep(2)
    size = (run / "metrics.jsonl").stat().st_size
    time.sleep(2)
    assert (run / "metrics.jsonl").stat().st_size == size, "a process is still training"
    assert_same(run_recipe(load_recipe(str(recipe_file), overrides), Console(quiet=True), resume=True), single_process)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # twelve processes that import torch and TRL: eight minutes on two busy cores
def test_two_nodes_on_the_loopback_train_one_run_and_stop_together(recipe_file, single_process):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def start(rank: int, *more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-P", "-m", "jigsaw", "launch", str(recipe_file), "name=nodes", "--nodes", "2"]
        command += ["--node-rank", str(rank), "--rendezvous", f"127.0.0.1:{port}", *more]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    run = recipe_file.parent / "nodes"
    with start(1) as second, start(0) as first:
        while first.poll() is None and not list(run.glob("checkpoints/sft/checkpoint-2")):
            time.sleep(0.05)
        os.kill(first.pid, signal.SIGTERM)
        errors = [process.communicate(timeout=600)[1] for process in (first, second)]
    assert [first.returncode, second.returncode] == [143, 143], errors  # as after SIGTERM
    assert all("stopped and saved, after step" in text and "Continue with: jigsaw launch" in text for text in errors)
    with start(1, "--resume") as second, start(0, "--resume") as first:
        errors = [process.communicate(timeout=600)[1] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], errors
    assert_same(run, single_process)


# Tests that start no processes


def test_a_worker_prints_an_error_in_one_line_and_raises_it_with_debug(tmp_path, monkeypatch, capsys):
    from jigsaw.cli import command as cli
    from jigsaw.launch import worker

    monkeypatch.setenv("JIGSAW_DEBUG", "")
    monkeypatch.delenv("JIGSAW_DEBUG")  # monkeypatch reverts the value that is set below
    monkeypatch.setattr(worker, "die_with_parent", lambda: None)
    monkeypatch.setattr(worker, "skip_teardown", lambda _: None)
    with pytest.raises(SystemExit) as ended:
        worker.main(str(tmp_path), "grpo")
    assert ended.value.code == 1
    message = capsys.readouterr().err
    assert message.startswith("jigsaw: ") and message.count("\n") == 1 and "recipe.yaml" in message
    monkeypatch.setattr(cli, "_quiet_libraries", lambda debug: None)
    monkeypatch.setattr(sys, "argv", ["jigsaw", "--debug", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    with pytest.raises(JigsawError, match=r"recipe\.yaml"):
        worker.main(str(tmp_path), "grpo")


def test_a_process_group_that_an_engine_destroyed_is_not_destroyed_again(monkeypatch):
    """vLLM destroys the process group when its engine shuts down; the stage must not fail at its end."""
    import torch.distributed as dist

    from jigsaw.training.distributed import process_group

    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    with process_group(DistributedSection(cpu_processes=1)) as rank:
        assert rank == 0
        dist.destroy_process_group()
    with process_group(DistributedSection(cpu_processes=1)):
        assert dist.is_initialized()
    assert not dist.is_initialized()


def test_the_command_of_one_node_is_standalone():
    command = torchrun_command(Topology(DistributedSection(cpu_processes=2), 0), Node(), Path("runs/x"), "grpo", 0)
    assert "--standalone" in command and "--nproc-per-node=2" in command
    assert command[-4:] == ["--module", "jigsaw.launch.worker", "runs/x", "grpo"]


def test_each_stage_of_several_nodes_has_its_own_port():
    section = Topology(DistributedSection(cpu_processes=4, nodes=2), 0)
    node = Node(1, "10.0.0.1:29500")
    for number, port in enumerate((29500, 29501)):
        command = torchrun_command(section, node, Path("runs/x"), "sft", number)
        assert {"--nnodes=2", "--node-rank=1", "--master-addr=10.0.0.1", f"--master-port={port}"} <= set(command)


@pytest.mark.parametrize(
    "node, message",
    [
        (Node(), r"2 nodes need --node-rank R and --rendezvous HOST:PORT"),
        (Node(2, "a:1"), r"--node-rank 2: it must be 0 to 1, with 2 nodes"),
        (Node(0, "a"), r"--rendezvous a: give host and port"),
    ],
)
def test_an_invalid_node_rank_or_rendezvous_is_refused(node, message):
    with pytest.raises(JigsawError, match=message):
        node.check(DistributedSection(cpu_processes=1, nodes=2))


@pytest.mark.parametrize(
    "override, message",
    [
        ("distributed.gpus=0", "gpus: at least 1 or all"),
        ("distributed.offload=optimizer", "offload needs DeepSpeed: set zero"),
        ("distributed={zero: 2, offload: all, cpu_processes: 2}", "offload: all needs zero: 3"),
        ("distributed={gpus: 1, cpu_processes: 2}", "either gpus or cpu_processes"),
        ("distributed.hpz=true", "hpz needs zero: 3 and several nodes"),
        ("distributed={zero: 3, hpz: true, gpus: 8}", "hpz needs zero: 3 and several nodes"),
        ("distributed.zero=4", "distributed.zero: input should be 0, 1, 2 or 3, not 4"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(recipe_file, override, message):
    with pytest.raises(JigsawError, match=message):
        load_recipe(str(recipe_file), [override])


@pytest.mark.parametrize(
    "overrides, message",
    [
        (
            ["distributed.zero=2", "distributed.cpu_processes=2"],
            r"distributed\.zero: 2 needs the package deepspeed, .* pip install",
        ),
        (["logging.report_to=[wandb]"], r"logging\.report_to: wandb needs the package wandb"),
    ],
)
def test_a_missing_package_is_reported_before_anything_is_read(recipe_file, monkeypatch, overrides, message):
    """Given a recipe whose data is missing too, the missing package is reported."""
    monkeypatch.setattr("jigsaw.launch.machine.find_spec", lambda name: None)
    recipe = load_recipe(str(recipe_file), [*overrides, "name=refused", "data.train=[{path: nowhere}]"])
    with pytest.raises(JigsawError, match=message):
        run_recipe(recipe, Console(quiet=True))
    assert not Path(recipe.output).exists()


@pytest.mark.parametrize(
    "gpus, remedy",
    [
        (0, "run on a machine with GPUs, or try the recipe with --tiny"),
        (2, r"set distributed\.gpus=2, or run on a larger machine"),
    ],
)
def test_missing_gpus_are_reported_with_the_remedy(recipe_file, monkeypatch, gpus, remedy):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpus > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    recipe = load_recipe(str(recipe_file), ["distributed.gpus=512", "name=refused", "data.train=[{path: nowhere}]"])
    message = rf"^distributed\.gpus: 512 are required and this machine has {gpus}; {remedy}$"
    with pytest.raises(JigsawError, match=message):
        run_recipe(recipe, Console(quiet=True))
    assert not Path(recipe.output).exists()


def test_dry_run_shows_the_commands_and_the_deepspeed_config(recipe_file):
    overrides = ["distributed.gpus=8", "distributed.zero=3", "model.dtype=bfloat16", "grpo.prompts_per_step=8"]
    shown = dry_run(load_recipe(str(recipe_file), overrides))
    comments = [line.removeprefix("# ") for line in shown.splitlines() if line.startswith("# ")]
    assert [line.split(":")[0] for line in comments if "torch.distributed.run" in line] == ["sft", "grpo"]
    start = comments.index("DeepSpeed:") + 1
    config = json.loads("\n".join(comments[start : comments.index("}", start) + 1]))
    assert config["zero_optimization"]["stage"] == 3
    assert config["bf16"] == {"enabled": True}
    assert config["data_types"] == {"grad_accum_dtype": "fp32"}
    assert "zero_hpz_partition_size" not in config["zero_optimization"]
    assert any(line.startswith("Computed, not measured") for line in comments)


def test_hpz_shards_a_second_copy_of_the_weights_within_each_node(recipe_file):
    """Given ZeRO-3 on two nodes and `hpz`, weights are gathered from the GPUs of the same node."""
    overrides = ["distributed={gpus: 4, nodes: 2, zero: 3, hpz: true}", "grpo.prompts_per_step=8"]
    config = deepspeed_config(load_recipe(str(recipe_file), overrides))
    assert config["zero_optimization"]["zero_hpz_partition_size"] == 4


def test_the_gpu_allocator_has_expandable_segments_unless_vllm_sleeps(recipe_file, monkeypatch):
    for name in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    expandable = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    assert allocator_settings(load_recipe(str(recipe_file))) == expandable
    assert allocator_settings(load_recipe(str(recipe_file), ["rollout.engine=vllm"])) == expandable
    assert allocator_settings(load_recipe(str(recipe_file), ["rollout={engine: vllm, sleep: true}"])) == {}
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "max_split_size_mb:512")
    assert allocator_settings(load_recipe(str(recipe_file))) == {}, "the user's own settings are kept"


def test_dry_run_of_several_nodes_requires_node_rank_and_rendezvous(recipe_file):
    recipe = load_recipe(str(recipe_file), ["distributed.cpu_processes=1", "distributed.nodes=2"])
    with pytest.raises(JigsawError, match=r"2 nodes need --node-rank R and --rendezvous HOST:PORT"):
        dry_run(recipe)
    assert "--master-addr=node-1 --master-port=29500" in dry_run(recipe, Node(1, "node-1:29500"))


def test_the_number_of_processes_must_divide_the_prompts_of_a_step(recipe_file):
    from jigsaw.training.trl_config import grpo_config, sft_config

    recipe = load_recipe(str(recipe_file))
    config = grpo_config(recipe, Path("unused"), [], [1.0])
    assert (config.per_device_train_batch_size, config.gradient_accumulation_steps) == (16, 1)
    with pytest.raises(JigsawError, match="3 processes do not divide the 8 puzzles of a step"):
        sft_config(recipe, Path("unused"), world_size=3)
    with pytest.raises(JigsawError, match="8 processes do not divide the 4 prompts of a step"):
        grpo_config(recipe, Path("unused"), [], [1.0], world_size=8)
