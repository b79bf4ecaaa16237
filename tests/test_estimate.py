"""Estimates of memory, disk and time of a run, compared with values computed by hand and between settings."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from jigsaw.config.loading import load_recipe, recipe_names
from jigsaw.errors import JigsawError
from jigsaw.launch import estimate, memory
from jigsaw.launch.estimate import estimates, smallest_machine
from jigsaw.launch.estimate_text import estimate_lines
from jigsaw.launch.machines import H100, H200, MACHINES, Machine
from jigsaw.models.shapes import KNOWN, shape_of, shape_of_config

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
from choices import CHOICES, choices_table, head_of  # noqa: E402  # a script in the folder of the docs

GB = 1e9
GPU_RECIPES = [name for name in recipe_names() if load_recipe(name, ["output=runs/x"]).model.path is not None]
SEVEN = "Qwen/Qwen2.5-VL-7B-Instruct"
EIGHT = ("grpo.tokens_per_micro_batch=null", "grpo.per_device_train_batch_size=8")
"""Overrides for micro-batches of eight completions, which are half a group."""


def of(name: str, *overrides: str, machine: Machine | None = None):
    return estimates(load_recipe(name, ["output=runs/x", *overrides]), machine)[-1]


def gigabytes(parts):
    return {name: value / GB for name, value in parts.items()}


# The sizes of a model


@pytest.mark.parametrize("path, parameters", [(SEVEN, 8_292_166_656), ("Qwen/Qwen2.5-VL-3B-Instruct", 3_754_622_976)])
def test_parameter_counts_of_known_models_equal_the_published_ones(path, parameters):
    assert shape_of(path).parameters == parameters


@pytest.mark.parametrize("tied", [False, True])
def test_parameter_counts_equal_those_of_the_model_in_transformers(tied):
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    text = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
    text |= {"num_key_value_heads": 2, "vocab_size": 300}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 64}
    config = Qwen2_5_VLConfig(
        text_config=text, vision_config=vision | {"fullatt_block_indexes": [1]}, tie_word_embeddings=tied
    )
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(config)
    assert shape_of_config(config.to_dict()).parameters == sum(one.numel() for one in model.parameters())


def test_parameter_counts_of_neo_equal_those_of_the_model():
    import torch

    from jigsaw.models.neo import NEOChatConfig, NEOChatModel

    config = json.loads((ROOT / "tests/models/neo/data/config.json").read_text(encoding="utf-8"))
    with torch.device("meta"):
        model = NEOChatModel(NEOChatConfig(**{k: config[k] for k in ("llm_config", "vision_config")}))
    assert shape_of_config(config).parameters == sum(one.numel() for one in model.parameters())


def test_a_local_configuration_takes_precedence_over_the_name(tmp_path):
    folder = tmp_path / "qwen2.5-vl-7b"
    folder.mkdir()
    assert shape_of(str(folder)) == shape_of(SEVEN), "the name is used while there is no configuration"
    (folder / "config.json").write_text(json.dumps(KNOWN["*qwen2.5-vl-3b*"]))
    assert shape_of(str(folder)) == shape_of("Qwen/Qwen2.5-VL-3B-Instruct")
    assert shape_of("someone/else-8B") is None
    assert shape_of("Paranioar/NEO1_5-2B-SFT") == shape_of("Paranioar/NEO1_0-2B-SFT")
    with pytest.raises(JigsawError, match=r"^memory and time of internvl cannot be estimated$"):
        shape_of_config({"model_type": "internvl"})


def test_visual_tokens_depend_on_the_image_size_within_the_limits():
    qwen, neo = shape_of(SEVEN), shape_of("Paranioar/NEO1_0-2B-SFT")
    assert qwen.visual_tokens(640 / 3, 160) == 48, "a tile of 3x3"
    assert qwen.visual_tokens(1296, 968) == 46 * 35
    assert qwen.visual_tokens(1296, 968, high=100352) <= 128
    assert neo.visual_tokens(256, 256) == 64
    assert neo.visual_tokens(100, 100) == 64, "smaller images are enlarged"


# The paper's image recipe on 8 x 80 GB, computed by hand


def test_memory_of_the_image_recipe():
    parts = gigabytes(of("image-qwen2.5-vl-7b", *EIGHT).peak)
    assert parts["vLLM"] == pytest.approx(36)
    assert parts["weights"] == pytest.approx(2.1, abs=0.05)
    assert parts["gradients"] == pytest.approx(2 * 2.1, abs=0.1), "float32, twice the size of bfloat16"
    assert parts["optimizer"] == pytest.approx(12.4, abs=0.05)
    assert parts["kept activations"] == pytest.approx(3.5, abs=0.2)
    assert parts["one layer or the head"] == pytest.approx(6.2, abs=0.2)
    assert parts["media"] == pytest.approx(0.26, abs=0.01)
    assert 63 <= sum(parts.values()) - 2.1 <= 66, "with gradients in bfloat16"


def test_disk_and_step_of_the_image_recipe():
    computed = of("image-qwen2.5-vl-7b", *EIGHT)
    assert computed.checkpoint / GB == pytest.approx(116, abs=0.5)
    assert computed.checkpoint * computed.kept / GB == pytest.approx(348, abs=1)
    assert computed.model / GB == pytest.approx(16.6, abs=0.05)
    assert computed.work.prompt == pytest.approx(700, rel=0.05)
    assert computed.seconds["loss"] == pytest.approx(31, abs=1), "the packed pass"
    assert computed.seconds["rollouts"] == pytest.approx(20, abs=1)
    assert computed.seconds["preparing prompts"] == pytest.approx(5, abs=0.2)
    assert computed.seconds["weights to vLLM"] == pytest.approx(3, abs=0.1)
    assert computed.seconds["gathering weights"] == pytest.approx(11 / 2, abs=0.3), "half of it hidden"
    assert computed.hours == pytest.approx(1000 * computed.step / 3600) == pytest.approx(20, abs=2)


def test_video_and_depth_recipes():
    video, depth = of("video-qwen2.5-vl-7b", *EIGHT), of("depth-qwen2.5-vl-7b", *EIGHT)
    assert video.work.prompt == pytest.approx(4900, rel=0.1)
    assert video.training["media"] / GB == pytest.approx(1.4, rel=0.1)
    assert video.seconds["loss"] == pytest.approx(38, rel=0.1)
    assert video.hours == pytest.approx(24, abs=4)
    assert depth.hours == pytest.approx(10, abs=2)
    assert 70 <= sum(of("video-mimo-vl-7b", *EIGHT, "grpo.max_completion_length=2048").peak.values()) / GB <= 75


def test_offloading_the_3b_optimizer_needs_96_gb_of_host_memory():
    computed = of("image-qwen2.5-vl-3b")
    host = gigabytes(computed.host)
    assert host["offloaded"] == pytest.approx(60 + 15, abs=1), "master, Adam and pinned gradients; their sum"
    assert 64 < sum(host.values()) <= 96


# Effects of settings


@pytest.mark.parametrize("zero, weights, gradients, optimizer", [(1, 1, 1, 8), (2, 1, 8, 8), (3, 8, 8, 8)])
def test_each_stage_of_zero_shards_more(zero, weights, gradients, optimizer):
    parts = of("image-qwen2.5-vl-7b", f"distributed.zero={zero}").training
    size = shape_of(SEVEN).parameters
    assert parts["weights"] == pytest.approx(2 * size / weights)
    assert parts["gradients"] == pytest.approx(4 * size / gradients)
    assert parts["optimizer"] == pytest.approx(12 * size / optimizer)


def test_hpz_takes_memory_and_saves_traffic_between_nodes():
    plain, hpz = (
        of("image-qwen2.5-vl-7b", "distributed.nodes=2", *more, machine=Machine(H100, 8, 2))
        for more in ((), ("distributed.hpz=true",))
    )
    assert hpz.training["second shard of weights"] == pytest.approx(2 * shape_of(SEVEN).parameters / 8)
    assert hpz.seconds["gathering weights"] < plain.seconds["gathering weights"]


def test_without_deepspeed_the_weights_are_float32_with_bfloat16_copies():
    parts = of("image-qwen2.5-vl-3b", "distributed={gpus: 1, zero: 0, offload: none}").training
    size = shape_of("Qwen/Qwen2.5-VL-3B-Instruct").parameters
    states = ("weights", "bfloat16 copies", "gradients", "optimizer")
    assert sum(parts[name] for name in states) == pytest.approx(18 * size)
    assert "gradient buckets" not in parts
    assert "gradient buckets" in of("image-qwen2.5-vl-3b", "distributed={gpus: 8, zero: 0, offload: none}").training


def test_adapters_have_small_checkpoints_and_optimizer_states():
    full, adapted = of("image-qwen2.5-vl-7b", machine=Machine(H200)), of("image-lora-qwen2.5-vl-7b")
    assert adapted.checkpoint == pytest.approx(12 * shape_of(SEVEN).adapters(64))
    assert adapted.checkpoint < full.checkpoint / 40
    assert adapted.training["optimizer"] < full.training["optimizer"] / 40
    assert adapted.training["weights"] / GB == pytest.approx(16.6 + 0.65, abs=0.1)


def test_a_sleeping_engine_takes_no_memory_during_training():
    awake, asleep = of("image-qwen2.5-vl-7b"), of("image-qwen2.5-vl-7b", "rollout.sleep=true")
    assert "vLLM" in awake.training and "vLLM" not in asleep.training
    assert awake.sampling == asleep.sampling
    assert sum(asleep.peak.values()) == pytest.approx(sum(awake.peak.values()) - 10 * GB, abs=1 * GB)


def test_a_server_takes_no_memory_of_the_training_gpus():
    computed = of(
        "image-qwen2.5-vl-7b", "rollout={mode: server, tensor_parallel_size: 2}", "rollout.max_model_len=8192"
    )
    assert "vLLM" not in computed.training and computed.cache is None
    assert computed.seconds["rollouts"] > of("image-qwen2.5-vl-7b").seconds["rollouts"]


def test_a_reference_model_takes_memory_and_time():
    plain, kl = of("image-qwen2.5-vl-7b", *EIGHT), of("image-qwen2.5-vl-7b", *EIGHT, "grpo.beta=0.001")
    assert sum(kl.peak.values()) - sum(plain.peak.values()) == pytest.approx(2.07 * GB, abs=0.01 * GB)
    assert kl.seconds["reference"] == pytest.approx(plain.seconds["loss"] / 4, rel=0.1)


def test_a_micro_batch_of_a_complete_group_computes_its_prompt_once():
    halves = of("image-qwen2.5-vl-7b", *EIGHT)
    group = of("image-qwen2.5-vl-7b", EIGHT[0], "grpo.per_device_train_batch_size=16")
    unshared = of("image-qwen2.5-vl-7b", *EIGHT, "sampling.shared_prefix=false")
    assert group.seconds["loss"] < halves.seconds["loss"] < unshared.seconds["loss"]
    assert group.training["kept activations"] > halves.training["kept activations"]


def test_tokens_per_micro_batch_limit_the_memory_and_groups_share_a_micro_batch():
    halves = of("image-qwen2.5-vl-7b", *EIGHT)
    few, many = (
        of("image-qwen2.5-vl-7b", "grpo.per_device_train_batch_size=null", f"grpo.tokens_per_micro_batch={limit}")
        for limit in (8192, 24576)
    )
    assert few.training["kept activations"] < halves.training["kept activations"] < many.training["kept activations"]
    assert few.seconds["gathering weights"] > many.seconds["gathering weights"]
    assert few.seconds["loss"] == pytest.approx(many.seconds["loss"]), "groups are complete with both limits"


def test_frozen_parts_have_no_optimizer_state():
    computed = of("neo-2b-pretraining", "distributed.zero=2", machine=Machine(H100, 8))
    assert computed.training["optimizer"] < of("neo-2b-midtraining").training["optimizer"] / 2


def test_the_number_of_steps_follows_from_a_puzzle_set(puzzle_folder):
    data = (f"data.train=[{{path: {puzzle_folder}}}]", "data.eval=[]", "sft.per_device_train_batch_size=1")
    assert of("image-sft-qwen2.5-vl-7b").hours is None
    assert of("image-sft-qwen2.5-vl-7b", *data, "sft.prompts_per_step=8").steps == 24 // 8
    assert of("depth-sft-qwen2.5-vl-7b").steps == int(300_000 * 0.99) // 128


# Machines


def test_full_training_of_a_7b_model_does_not_fit_on_one_gpu():
    recipe = load_recipe("image-qwen2.5-vl-7b", ["output=runs/x", "distributed.gpus=1"])
    lines = "\n".join(estimate_lines(recipe))
    assert "GB, more than the GPU's 141 GB" in lines
    assert smallest_machine(recipe) == Machine(H100, 8)
    with_sleep = load_recipe("image-qwen2.5-vl-7b", ["output=runs/x", "rollout.sleep=true"])
    assert smallest_machine(with_sleep) == Machine(H100, 4)


def test_too_little_memory_for_vllm_is_reported_with_the_key():
    recipe = load_recipe("image-qwen2.5-vl-7b", ["output=runs/x", "rollout.gpu_memory_utilization=0.2"])
    assert "raise rollout.gpu_memory_utilization" in "\n".join(estimate_lines(recipe))
    assert not of("image-qwen2.5-vl-7b", "rollout.gpu_memory_utilization=0.2").fits


def test_processes_that_do_not_divide_the_batch_are_refused():
    with pytest.raises(JigsawError, match="do not divide"):
        of("image-qwen2.5-vl-7b", machine=Machine(H100, 3))


@pytest.mark.parametrize("name", GPU_RECIPES)
def test_a_recipe_fits_its_machine_and_its_header_has_the_computed_values(name):
    recipe = load_recipe(name, ["output=runs/x"])
    assert all(one.fits for one in estimates(recipe))
    head = (ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    assert all(line in head for line in head_of(recipe)), "run `python docs/generate.py`"


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_a_recipe_in_the_table_of_machines_fits_its_machine_and_no_smaller_one(choice):
    recipe = load_recipe(choice.recipe, ["output=runs/x", *choice.overrides])
    stages = estimates(recipe, choice.machine)
    assert stages and all(one.fits for one in stages)
    section = recipe.distributed
    assert (section.gpus, section.nodes) == (choice.machine.gpus, choice.machine.nodes)
    if choice.machine.nodes == 1:
        assert smallest_machine(recipe) == choice.machine


def test_the_table_of_machines_is_complete_and_is_in_readme_and_docs():
    assert list(dict.fromkeys(choice.machine for choice in CHOICES)) == list(MACHINES)
    for page in ("README.md", "docs/gpu.md"):
        assert choices_table() in (ROOT / page).read_text(encoding="utf-8"), "run `python docs/generate.py`"


def test_the_docs_state_the_rates_that_the_code_uses():
    page = " ".join((ROOT / "docs/gpu.md").read_text(encoding="utf-8").split())
    for text in (
        f"at {estimate.TRANSFER / GB:.1f} GB/s",
        f"at {estimate.DISK / GB:.0f} GB/s, every",
        f"at {estimate.NETWORK / GB:.0f} GB/s a GPU",
        f"at {estimate.PCIE / GB:.0f} GB/s |",
        f"{estimate.PREPARING[0]:.0f} s, and {estimate.PREPARING[1] * 1000:.2f} ms for each visual token",
        f"reading the weights plus {estimate.LONE_TOKEN * 1000:.0f} ms",
        f"{estimate.SAMPLING * H100.bandwidth / 7.6e9:,.0f} per second",
        f"each process | {estimate.PROCESS / GB:.0f} GB",
        f"buffers of ZeRO | {memory.BUCKETS / GB:.0f} GB",
        f"{memory.LOGITS / GB:.2f} GB for a chunk of logits",
        f"need at least four GPUs with 80 GB, because weights, gradients and optimizer take "
        f"{18 * shape_of(SEVEN).parameters / GB:.0f} GB",
        f"needs {sum(of('image-qwen2.5-vl-7b', 'distributed.zero=2', 'rollout.sleep=true').peak.values()) / GB:.0f} GB",
        *(f"| {gpu.model} | {gpu.compute / 1e12:.0f} x 10^12 |" for gpu in {one.gpu for one in MACHINES}),
    ):
        assert text in page, text


@pytest.mark.parametrize(
    "overrides, fits",
    [
        (["distributed.gpus=4"], "4 GPUs with 80 GB fit with rollout.sleep=true"),
        (["distributed.gpus=4", "rollout.sleep=true"], None),
        (["distributed.gpus=8"], None),
        (["distributed.gpus=1"], None),
        (["distributed.gpus=4", "rollout.engine=transformers"], None),
    ],
)
def test_a_dry_run_suggests_sleep_if_it_makes_a_recipe_fit_on_smaller_gpus(overrides, fits):
    """Given GPUs that vLLM and training fill together, `rollout.sleep` is suggested if it is sufficient."""
    lines = estimate_lines(load_recipe("image-qwen2.5-vl-7b", ["output=runs/x", *overrides]))
    suggested = [line.removeprefix("  smaller GPUs     ") for line in lines if "smaller GPUs" in line]
    assert suggested == ([] if fits is None else [fits])
