"""Opening checkpoints: dtype, pixel limits, and one-line errors for folders that are not usable checkpoints."""

import contextlib
import json
import shutil

import pytest

from jigsaw.errors import JigsawError
from jigsaw.models.families.qwen import VISION_TOKENS
from jigsaw.models.load import limit_threads, load_model, load_processor, vision_token_ids
from jigsaw.models.tiny import TinySizes, write_tiny

SIZES = TinySizes(hidden_size=32, num_layers=1, vision_hidden_size=32, vocab_size=320)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("load") / "model"
    write_tiny("qwen2_5_vl", SIZES, ["2, 3, 1, 4"], folder)
    return folder


@pytest.fixture
def copy(checkpoint, tmp_path):
    return shutil.copytree(checkpoint, tmp_path / "copy")


@pytest.fixture(scope="module")
def text_only(tmp_path_factory, checkpoint):
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("load") / "text"
    config = Qwen2Config(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(checkpoint).save_pretrained(folder)
    return folder


def refusal(call, *args, **options):
    with pytest.raises(JigsawError) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_checkpoint_is_opened_in_the_requested_dtype(checkpoint):
    import torch

    for dtype in ("float32", "bfloat16"):
        model = load_model(str(checkpoint), dtype)
        assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}
        assert not model.training


def test_the_processor_pads_on_the_left_and_keeps_the_limits_of_the_checkpoint(checkpoint):
    processor = load_processor(str(checkpoint))
    assert processor.tokenizer.padding_side == "left"
    assert processor.image_processor.size["shortest_edge"] == 28 * 28


def test_pixel_limits_are_passed_to_the_image_processor(checkpoint):
    from PIL import Image

    image = Image.new("RGB", (280, 280))
    small = load_processor(str(checkpoint), max_pixels=2 * 28 * 28)
    large = load_processor(str(checkpoint), min_pixels=400 * 28 * 28)
    tokens = [
        processor.image_processor(image)["image_grid_thw"].prod().item() // 4
        for processor in (small, load_processor(str(checkpoint)), large)
    ]
    assert tokens[0] <= 2
    assert tokens[1] == 100
    assert tokens[2] >= 400


@pytest.mark.parametrize("limits", [{"min_pixels": 900, "max_pixels": 800}, {"min_pixels": 10**9}, {"max_pixels": 700}])
def test_a_lower_limit_above_the_upper_one_is_refused(checkpoint, limits):
    low, high = limits.get("min_pixels", 784), limits.get("max_pixels", 1003520)
    message = f"model.image: min_pixels {low} is over max_pixels {high}"
    assert refusal(load_processor, str(checkpoint), **limits) == message


@pytest.mark.parametrize("load", [load_model, load_processor])
class TestFoldersThatAreNotCheckpoints:
    @pytest.mark.parametrize("path", ["/no/such/folder", "./gone", "gone", "../up/and/away"])
    def test_a_missing_folder_is_refused(self, load, path):
        assert refusal(load, path) == f"{path}: no such checkpoint folder"

    def test_a_missing_folder_next_to_others_is_not_searched_on_the_hub(self, load, tmp_path, monkeypatch):
        (tmp_path / "runs").mkdir()
        monkeypatch.chdir(tmp_path)
        assert refusal(load, "runs/gone") == "runs/gone: no such checkpoint folder"

    def test_a_folder_with_other_files_is_refused(self, load, tmp_path):
        assert refusal(load, str(tmp_path)) == f"{tmp_path}: not a checkpoint, config.json is missing"

    def test_a_text_only_checkpoint_is_refused(self, load, text_only):
        assert refusal(load, str(text_only)).startswith(f"{text_only}: ")

    def test_a_damaged_configuration_is_refused(self, load, copy):
        (copy / "config.json").write_text("{")
        (copy / "processor_config.json").write_text("{")
        assert refusal(load, str(copy)).startswith(f"{copy}/config.json is not JSON")


def test_truncated_weights_are_refused(copy):
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert refusal(load_model, str(copy)).startswith(f"{copy}: the vision-language model cannot be opened (")


def test_a_checkpoint_without_weights_is_refused(copy):
    (copy / "model.safetensors").unlink()
    assert refusal(load_model, str(copy)).startswith(f"{copy}: the vision-language model cannot be opened (")


def test_missing_weights_are_refused_and_not_initialised(copy):
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    removed = min(name for name in weights if "visual" in name)
    del weights[removed]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert refusal(load_model, str(copy)).startswith(f"{copy}: 1 weights are missing, the first is ")


def test_weights_of_another_shape_are_refused(copy):
    config = json.loads((copy / "config.json").read_text())
    config["text_config"]["intermediate_size"] += 32
    (copy / "config.json").write_text(json.dumps(config))
    assert refusal(load_model, str(copy)).startswith(f"{copy}: the vision-language model cannot be opened (")


CODE = """
from pathlib import Path
Path(SPRUNG).touch()
class Config: pass
class Model: pass
class Processor: pass
"""


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("config.json", {"model_type": "theirs", "auto_map": {"AutoConfig": "code.Config"}}),
        ("config.json", {"auto_map": {"AutoConfig": "code.Config", "AutoModelForImageTextToText": "code.Model"}}),
        ("processor_config.json", {"processor_class": "Theirs", "auto_map": {"AutoProcessor": "code.Processor"}}),
        ("tokenizer_config.json", {"tokenizer_class": "Theirs", "auto_map": {"AutoTokenizer": ["code.Processor"] * 2}}),
    ],
)
def test_code_in_a_checkpoint_never_runs(copy, tmp_path, monkeypatch, file, changes):
    """Given code in a checkpoint and `y` on standard input, the code is ignored or the checkpoint is refused."""
    from jigsaw.models.neo.from_qwen3 import start_from_qwen3

    (copy / "code.py").write_text(CODE.replace("SPRUNG", repr(str(tmp_path / "sprung"))))
    content = json.loads((copy / file).read_text())
    (copy / file).write_text(json.dumps(content | changes))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    for opened in (load_model, load_processor, lambda path: start_from_qwen3(path, tmp_path / "neo")):
        with contextlib.suppress(JigsawError, ValueError):
            opened(str(copy))
        assert not (tmp_path / "sprung").exists(), opened


def test_a_checkpoint_that_needs_its_own_code_is_refused(copy):
    config = json.loads((copy / "config.json").read_text())
    auto_map = {"AutoConfig": "code.Config", "AutoModelForImageTextToText": "code.Model"}
    (copy / "config.json").write_text(json.dumps(config | {"model_type": "theirs", "auto_map": auto_map}))
    assert refusal(load_model, str(copy)).startswith(f"{copy}: this checkpoint needs its own code")


def test_there_are_five_vision_tokens(checkpoint):
    processor = load_processor(str(checkpoint))
    ids = vision_token_ids(processor)
    assert processor.tokenizer.convert_ids_to_tokens(ids) == sorted(
        VISION_TOKENS, key=processor.tokenizer.convert_tokens_to_ids
    )
    assert len(ids) == 5
    assert ids == sorted(ids)
    assert processor.image_token_id in ids
    assert processor.video_token_id in ids


@pytest.mark.parametrize(
    ("requested", "parameters", "threads"),
    [(None, 1000, 1), ("2", 1000, 2), (None, 10**9, 2)],
    ids=["tiny", "requested", "large"],
)
def test_a_tiny_model_uses_one_thread_unless_the_environment_sets_another_number(
    monkeypatch, requested, parameters, threads
):
    """Threads of small operations spin while they wait, which is up to 20 times slower on a busy machine."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if requested is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", requested)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        limit_threads(torch.nn.Linear(parameters, 1, bias=False, device="meta"))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
