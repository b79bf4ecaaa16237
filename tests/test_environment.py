"""The environment that the command sets for libraries: no telemetry, no hub requests, writable caches."""

import os
import sys
from pathlib import Path

import pytest

from jigsaw import environment
from jigsaw.failures import expected_error
from jigsaw.models.load import require_checkpoint

CACHES = ("XDG_CACHE_HOME", "HF_HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR", "TRITON_HOME", "TORCHINDUCTOR_CACHE_DIR")
HUB = (
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "JIGSAW_OFFLINE",
)  # an earlier test of this process may have set the last one
VARIABLES = (*CACHES, *HUB, "VLLM_LOGGING_LEVEL", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_CACHE", "HF_TOKEN_PATH")
BAD_HOME = "/dev/null/home"
"""A folder that cannot be created, not even by root."""


@pytest.fixture
def variables(monkeypatch, tmp_path):
    """An environment without the variables and with the temporary folder of the test; it is restored afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", {key: value for key, value in os.environ.items() if key not in VARIABLES})
        patch.setattr(environment.tempfile, "gettempdir", lambda: str(tmp_path))
        yield os.environ


def test_caches_are_moved_only_if_home_is_not_writable(variables, tmp_path):
    variables["HOME"] = str(tmp_path / "home")
    environment.prepare()
    assert not variables.keys() & set(CACHES)
    variables["HOME"] = BAD_HOME
    environment.prepare()
    for name in CACHES:
        assert Path(variables[name]).is_relative_to(tmp_path / f"jigsaw-cache-{os.getuid()}"), name


@pytest.mark.parametrize("level", [None, "DEBUG"])
def test_vllm_logs_only_errors_unless_the_user_sets_a_level(variables, level):
    variables |= {} if level is None else {"VLLM_LOGGING_LEVEL": level}
    environment.prepare()
    assert variables["VLLM_LOGGING_LEVEL"] == (level or "ERROR")


def test_a_cache_that_the_user_has_set_is_kept_and_its_models_are_used(variables, tmp_path):
    (tmp_path / "mine" / "hub").mkdir(parents=True)
    variables |= {"HOME": BAD_HOME, "HF_HOME": str(tmp_path / "mine")}
    environment.prepare()
    assert variables["HF_HOME"] == str(tmp_path / "mine")
    assert variables["HF_HUB_CACHE"] == str(tmp_path / "mine" / "hub")


def test_a_link_in_place_of_the_cache_folder_is_not_followed(variables, tmp_path):
    """The name of the folder can be guessed, so another user could create a link with this name."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / f"jigsaw-cache-{os.getuid()}").symlink_to(tmp_path / "theirs")
    variables["HOME"] = BAD_HOME
    environment.prepare()
    assert not variables.keys() & set(CACHES)


@pytest.mark.parametrize(
    ("changes", "failing", "remedy"),
    [
        ({"HF_HOME": "/dev/null/hf"}, "/dev/null/hf/datasets", "set HF_HOME to a folder that is writable"),
        ({"HF_HOME": "/dev/null/hf/a"}, "/dev/null/hf", "set HF_HOME to a folder that is writable"),
        ({"HOME": BAD_HOME}, f"{BAD_HOME}/.cache", "HOME is not writable: set HOME, or HF_HOME and XDG_CACHE_HOME"),
        ({}, "photos/a.png", ""),
    ],
)
def test_a_cache_that_cannot_be_written_is_named_with_its_variable(variables, changes, failing, remedy):
    variables |= changes
    line = expected_error(NotADirectoryError(20, "Not a directory", failing))
    assert line.startswith(f"{failing}: not a directory")
    assert remedy in line
    assert ("set H" in line) == bool(remedy)


def test_the_hub_is_contacted_only_for_a_hub_id(variables, monkeypatch, checkpoint):
    constants = sys.modules["huggingface_hub.constants"]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    environment.prepare()
    assert variables["HF_HUB_OFFLINE"] == "1"
    assert variables["HF_HUB_DISABLE_TELEMETRY"] == "1"
    require_checkpoint(checkpoint)
    assert variables["HF_HUB_OFFLINE"] == "1"
    require_checkpoint("someone/a-model")
    assert "HF_HUB_OFFLINE" not in variables
    assert constants.HF_HUB_OFFLINE is False


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
@pytest.mark.parametrize("value", ["0", "1"])
def test_offline_variables_of_the_user_are_kept(variables, name, value):
    variables[name] = value
    environment.prepare()
    require_checkpoint("someone/a-model")
    assert variables[name] == value


def test_out_of_memory_is_reported_with_a_remedy_and_not_as_a_bug():
    import torch

    line = expected_error(
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total of ...")
    )
    assert line.startswith("a GPU has no memory left; use fewer tokens per micro-batch (grpo.tokens_per_micro_batch)")
    assert "no memory left" in expected_error(MemoryError())
