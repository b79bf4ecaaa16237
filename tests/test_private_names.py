"""The package uses only listed private names of libraries. `python tests/private_names.py` prints the places."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "private_names.py"


@pytest.fixture(scope="module")
def scan():
    spec = importlib.util.spec_from_file_location("private_names", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def names(scan):
    return scan.private_names(scan.PACKAGE)


def test_training_overrides_two_private_methods_of_trl(names):
    """They are the sampling method and the log-probability pass. `_name_or_path` is a name of transformers."""
    used = {name for name, places in names.items() if any(place.startswith("training/") for place in places)}
    assert used - {"_name_or_path"} == {"_prepare_inputs", "_get_per_token_logps_and_entropies"}


def test_only_the_private_names_in_this_list_are_used(names):
    of_transformers = {"_attn_implementation", "_from_config", "_name_or_path"}
    of_processors = {"_get_arguments_from_pretrained", "_load_tokenizer_from_pretrained", "_process_images"}
    of_generation = {
        "_expand_inputs_for_generation",
        "_prepare_position_ids_for_generation",
        "_update_model_kwargs_for_generation",
    }
    of_vllm = {
        "_CLASS_TO_MODULE",
        "_CONFIG_REGISTRY",
        "_get_dummy_images",
        "_get_mm_fields_config",
        "_get_prompt_updates",
        "_mark_language_model",
        "_mark_tower_model",
    }
    of_trl = {"_prepare_inputs", "_get_per_token_logps_and_entropies"}
    of_torch = {"_forward_pre_hooks"}
    assert names.keys() <= of_torch | of_transformers | of_processors | of_generation | of_vllm | of_trl


def test_attributes_imports_and_overrides_are_listed_and_names_of_the_file_are_not(scan, tmp_path):
    (tmp_path / "one.py").write_text(
        """
from trl import GRPOTrainer
from vllm.config import _registry

class Ours(GRPOTrainer):
    def __init__(self, model):
        self._own = model._hidden

    def _override(self):
        return self._helper() + self._own

    def _helper(self):
        return _function()

def _function():
    return 1
""",
        encoding="utf-8",
    )
    assert scan.private_names(tmp_path) == {
        "_hidden": ["one.py:7"],
        "_override": ["one.py:9"],
        "_registry": ["one.py:3"],
    }
