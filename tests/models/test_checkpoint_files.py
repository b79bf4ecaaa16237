"""Checks of the files of a checkpoint by name and content, without opening the model."""

from __future__ import annotations

import json
import struct

import pytest

from jigsaw.errors import JigsawError
from jigsaw.models.checkpoint_files import Size, cached, is_local, require_files, size_of


@pytest.fixture
def folder(tmp_path):
    """A folder with the files of a checkpoint with 10 parameters."""
    header = json.dumps({"a": {"dtype": "BF16", "shape": [2, 5], "data_offsets": [0, 20]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(20))
    for name, content in {
        "config.json": {"model_type": "qwen2_5_vl"},
        "preprocessor_config.json": {},
        "tokenizer.json": {},
    }.items():
        (tmp_path / name).write_text(json.dumps(content))
    return tmp_path


def refusal(folder):
    with pytest.raises(JigsawError) as caught:
        require_files(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{folder}: ")


def test_a_complete_checkpoint_passes(folder):
    require_files(folder)
    assert size_of(str(folder)) == Size(10, exact=True)


@pytest.mark.parametrize("kind", ["mllama", "llava", "qwen3_5"])
def test_an_unsupported_architecture_is_refused_with_the_supported_ones(folder, kind):
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    message = refusal(folder)
    assert kind in message and "qwen2_5_vl" in message and "neo" in message


@pytest.mark.parametrize(
    "name, message",
    [
        ("config.json", "not a checkpoint, config.json is missing"),
        (
            "preprocessor_config.json",
            "the image processor is missing (processor_config.json or preprocessor_config.json)",
        ),
        ("tokenizer.json", "the tokenizer is missing"),
        ("model.safetensors", "the weights are missing"),
    ],
)
def test_a_missing_file_is_named(folder, name, message):
    (folder / name).unlink()
    assert refusal(folder).startswith(message)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_a_damaged_file_is_named(folder, name):
    (folder / name).write_text("{")
    assert name in refusal(folder)


def test_a_neo_needs_no_image_processor(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "theirs", "architectures": ["NEOChatModel"]}))
    (folder / "preprocessor_config.json").unlink()
    require_files(folder)


def test_missing_files_of_the_weight_index_are_counted(folder):
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    assert refusal(folder).startswith("1 of 2 files of weights are missing, the first is model-2.safetensors")


@pytest.mark.parametrize(
    "path, billions",
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct", 7),
        ("Paranioar/NEO1_0-2B-SFT", 2),
        ("a/model-0.5b", 0.5),
        ("a/model", None),
        ("a/b7bx", None),
    ],
)
def test_the_size_of_a_model_on_the_hub_is_estimated_from_its_name(path, billions, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    expected = None if billions is None else Size(int(billions * 1e9), exact=False)
    assert size_of(path) == expected


def test_a_model_in_the_cache_of_the_hub_is_used(folder, monkeypatch, tmp_path):
    entry = tmp_path / "hub" / "models--some--model-7B"
    (entry / "refs").mkdir(parents=True)
    (entry / "refs/main").write_text("abc")
    (entry / "snapshots").mkdir()
    (entry / "snapshots/abc").symlink_to(folder, target_is_directory=True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    path = cached("some/model-7B")
    assert path == entry / "snapshots/abc"
    assert size_of("some/model-7B") == Size(10, exact=True)
    assert cached("other/model-7B") is None


@pytest.mark.parametrize(
    "path, local", [("./x/y", True), ("/x/y", True), ("a/b/c", True), ("x", True), ("org/name", False)]
)
def test_a_name_with_one_slash_is_a_hub_id(path, local, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert is_local(path) == local
