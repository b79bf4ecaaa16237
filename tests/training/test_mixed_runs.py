"""Complete runs on videos and on a mixture of images, videos and depth: one process, two, ZeRO-3, and vLLM.

The runs start processes with gloo on the CPU; those with ZeRO need DeepSpeed.
"""

from __future__ import annotations

import json
import socket
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from synthetic_media import photo_pixels, write_video

from jigsaw.config.loading import load_recipe
from jigsaw.data import build_puzzles
from jigsaw.errors import JigsawError
from jigsaw.run import run as run_recipe

RECIPE = """
name: mixed
seed: 3
model: {path: CHECKPOINT}
data:
  train: [{path: IMAGE}, {path: FOLDER/video, weight: 2.0}, {path: FOLDER/depth}]
  eval: [{path: IMAGE, limit: 2}, {path: FOLDER/video, limit: 2}, {path: FOLDER/depth, limit: 2}]
sft: {max_steps: 2, prompts_per_step: 4, learning_rate: 1.0e-3, gradient_checkpointing: false, optim: adamw_torch,
      adam_epsilon: 1.0e-4}
grpo: {max_steps: 3, prompts_per_step: 4, num_generations: 3, max_completion_length: 4, learning_rate: 1.0e-3,
       per_device_train_batch_size: 3, gradient_checkpointing: false, optim: adamw_torch, adam_epsilon: 1.0e-4}
rewards: [{use: "FOLDER/reward.py:by_text"}]
evaluation: {every: 2, puzzles: 6, batch_size: 3}
output: FOLDER/${name}
"""
REWARD = """
def by_text(completions, **columns):
    return [sum(map(ord, text[0]["content"])) % 7 / 7 for text in completions]
"""


@pytest.fixture(scope="module")
def folder(checkpoint, puzzle_folder, tmp_path_factory) -> Path:
    """A folder with a recipe and sets of video and depth puzzles."""
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "clips").mkdir()
    for number in range(3):
        write_video(folder / "clips" / f"{number}.mp4", frames=90 + 10 * number, rate=10)
    video = {"clips": "2", "min_duration": "4", "max_pixels": "1568", "fps": "1.3", "static": "keep"}
    build_puzzles("video", folder / "clips", folder / "video", config=video, per_source=3, workers=1, progress=False)
    (folder / "scenes").mkdir()
    for number in range(3):
        Image.fromarray(photo_pixels(224, 168, seed=number)).save(folder / "scenes" / f"{number}_color.png")
        depth = np.linspace(0.5, 6, 224 * 168, dtype=np.float32).reshape(168, 224)
        np.save(folder / "scenes" / f"{number}_depth.npy", depth)
    points = {"points": "3", "min_distance": "24", "radius": "6"}
    build_puzzles("depth", folder / "scenes", folder / "depth", config=points, per_source=3, workers=1, progress=False)
    (folder / "reward.py").write_text(REWARD, encoding="utf-8")
    text = RECIPE.replace("CHECKPOINT", checkpoint).replace("IMAGE", str(puzzle_folder))
    (folder / "mixed.yaml").write_text(text.replace("FOLDER", str(folder)), encoding="utf-8")
    return folder


def run(folder: Path, name: str, *overrides: str) -> list[dict[str, float]]:
    recipe = load_recipe(str(folder / "mixed.yaml"), [f"name={name}", *overrides])
    done = run_recipe(recipe, Console(quiet=True))
    return [json.loads(line) for line in (done / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def single_process(folder) -> list[dict[str, float]]:
    return run(folder, "single")


def figures(lines: list[dict[str, float]]) -> list[float]:
    return [line[name] for line in lines for name in ("loss", "reward", "heldout/place_accuracy") if name in line]


def test_a_run_on_images_videos_and_depth(single_process):
    assert [line["step"] for line in single_process if line["stage"] == "grpo" and "reward" in line] == [1, 2, 3]


@pytest.mark.slow
def test_a_run_on_videos_only(folder):
    lines = run(folder, "videos", f"data.train=[{{path: {folder}/video}}]", f"data.eval=[{{path: {folder}/video}}]")
    assert [line["step"] for line in lines if "reward" in line] == [1, 2, 3]


needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")


@pytest.mark.slow
@pytest.mark.parametrize("zero", [0, pytest.param(3, marks=needs_deepspeed)])
def test_two_processes_with_different_media_train_the_same_weights_as_one(folder, single_process, zero):
    """With micro-batches of one prompt, one process can have a clip while the other has only tiles."""
    lines = run(folder, f"zero-{zero}", "distributed.cpu_processes=2", f"distributed.zero={zero}")
    assert figures(lines) == pytest.approx(figures(single_process), abs=1e-5)


@pytest.mark.slow
def test_groups_are_replaced_on_two_processes(folder):
    overrides = ["sampling.dynamic=true", "curriculum.mode=adaptive", "distributed.cpu_processes=2"]
    lines = run(folder, "dynamic", *overrides)
    assert any("groups/zero_variance" in line for line in lines)
    assert any("curriculum/video/2" in line for line in lines)


VLLM = "rollout={engine: vllm, max_model_len: 2048, max_logp_difference: 1.0e-5}"


@pytest.fixture(scope="module")
def colocate_run(folder) -> tuple[list[dict[str, float]], dict[int, list[list[int]]]]:
    """The GRPO log lines of a run with vLLM in colocate mode, and its completions by seed."""
    pytest.importorskip("vllm")
    from jigsaw.engines.vllm import VllmEngine

    sampled: dict[int, list[list[int]]] = {}
    generate = VllmEngine.generate

    def recording(self, rows, sampling, prompts=None):
        completions = generate(self, rows, sampling, prompts)
        for number, seed in enumerate(sampling.seeds):
            sampled[seed] = completions.tokens[number * sampling.count : (number + 1) * sampling.count]
        return completions

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(VllmEngine, "generate", recording)
        return [line for line in run(folder, "vllm", VLLM) if "reward" in line], sampled


def assert_same_metrics(actual: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    for name in ("step", "loss", "grad_norm", "reward", "entropy", "completion_length", "truncated"):
        assert [line[name] for line in actual] == pytest.approx(
            [line[name] for line in expected], rel=1e-4, abs=1e-6
        ), name


@pytest.mark.slow
def test_vllm_in_colocate_mode_trains_as_transformers_on_the_same_completions(folder, colocate_run, monkeypatch):
    """Given the completions of a run with vLLM, a run without it has the same losses, gradients and rewards."""
    from jigsaw.engines import Completions
    from jigsaw.engines.transformers import TransformersEngine

    lines, sampled = colocate_run
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert max(line["logp_difference"] for line in lines) < 1e-5

    generate = TransformersEngine.generate

    def replaying(self, rows, sampling, prompts=None):
        if sampling.greedy:  # a periodic evaluation
            return generate(self, rows, sampling, prompts)
        return Completions([completion for seed in sampling.seeds for completion in sampled[seed]])

    monkeypatch.setattr(TransformersEngine, "generate", replaying)
    assert_same_metrics([line for line in run(folder, "replayed") if "reward" in line], lines)


@pytest.mark.slow
def test_the_importance_sampling_correction_has_no_effect_if_the_engines_agree(folder, colocate_run):
    lines = run(folder, "corrected", VLLM, "grpo.vllm_importance_sampling_correction=true")
    assert_same_metrics([line for line in lines if "reward" in line], colocate_run[0])


@pytest.mark.slow
def test_a_difference_of_the_engines_above_the_limit_stops_the_run(folder):
    pytest.importorskip("vllm")
    with pytest.raises(JigsawError, match=r"step 1: .* more than rollout\.max_logp_difference=1e-12"):
        run(folder, "apart", VLLM.replace("1.0e-5", "1.0e-12"), "sft=null")


@pytest.mark.slow
@pytest.mark.timeout(1800)  # five processes that each import torch, TRL or vLLM: six minutes on two busy cores
@pytest.mark.parametrize("processes", [1, 2])
def test_a_vllm_server_samples_the_same_completions_as_colocate_mode(folder, colocate_run, processes):
    """The server runs on the loopback and gets the weights as files because there is no GPU."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    served = VLLM.replace("vllm,", f"vllm, mode: server, port: {port},")
    lines = run(folder, f"served-{processes}", served, f"distributed.cpu_processes={processes}")
    lines = [line for line in lines if "reward" in line]
    assert max(line["logp_difference"] for line in lines) < 1e-5
    assert_same_metrics(lines, colocate_run[0])


@pytest.mark.gpu
@pytest.mark.parametrize("mode, gpus", [("colocate", 1), ("server", 2)])
def test_vllm_on_gpus_in_bfloat16(folder, mode, gpus):
    import torch

    pytest.importorskip("vllm")
    if torch.cuda.device_count() < gpus:
        pytest.skip(f"needs {gpus} GPUs")
    rollout = VLLM.replace("vllm,", f"vllm, mode: {mode}, enforce_eager: true,").replace("1.0e-5", "0.1")
    lines = run(folder, f"gpu-{mode}", rollout, "model.dtype=bfloat16", "distributed.gpus=1")
    lines = [line for line in lines if "reward" in line]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert max(line["logp_difference"] for line in lines) < 0.1
