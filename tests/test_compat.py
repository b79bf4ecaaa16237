"""Patches of third-party libraries: they apply within their block and are reverted after it."""

from __future__ import annotations

import gc
import importlib
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from jigsaw import compat
from jigsaw.compat import UNUSED_BY_TRAINING, hidden, quick_imports


def test_scikit_learn_and_scipy_are_hidden_from_transformers_only_within_the_block():
    from transformers import utils
    from transformers.utils import import_utils

    before = [getattr(module, name) for module in (utils, import_utils) for name in UNUSED_BY_TRAINING]
    with pytest.raises(ZeroDivisionError), quick_imports():
        for module in (utils, import_utils):
            assert not any(getattr(module, name)() for name in UNUSED_BY_TRAINING)
        assert not gc.isenabled()
        _ = 1 / 0
    assert [getattr(module, name) for module in (utils, import_utils) for name in UNUSED_BY_TRAINING] == before
    assert gc.isenabled()


def test_a_hidden_module_cannot_be_imported_within_the_block():
    with pytest.raises(ZeroDivisionError), hidden("this"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("this")
        _ = 1 / 0
    assert importlib.util.find_spec("this") is not None


def test_a_module_that_was_imported_before_is_not_hidden():
    with hidden("gc"):
        assert importlib.import_module("gc") is gc


def test_opening_puzzles_does_not_import_scipy(puzzle_folder):
    """datasets would import it for MATLAB files, which costs every command that opens a set a second."""
    code = "import sys, jigsaw.data; jigsaw.data.load_puzzles(sys.argv[1]); assert 'scipy.io' not in sys.modules"
    subprocess.run([sys.executable, "-P", "-c", code, str(puzzle_folder)], check=True, timeout=120)


def test_importing_the_package_does_not_patch_transformers():
    code = """
import transformers
before = transformers.AutoConfig.from_pretrained
import jigsaw.compat, jigsaw.models, jigsaw.models.neo
assert transformers.AutoConfig.from_pretrained == before and "NEOChatModel" not in vars(transformers)
"""
    subprocess.run([sys.executable, "-P", "-c", code], check=True, timeout=120)


def test_every_patch_names_its_version_and_when_it_can_be_removed():
    changes = [value for name, value in vars(compat).items() if getattr(value, "__module__", "") == compat.__name__]
    assert len(changes) > 4
    for change in changes:
        assert re.search(r"\(?\d+\.\d+\)?", change.__doc__), change.__name__
        assert re.search(r"[Rr]emove this( part)? once", " ".join(change.__doc__.split())), change.__name__


def test_a_forward_pass_outside_of_steps_skips_the_hook_that_starts_a_step():
    """DeepSpeed's hook is a collective operation, and the processes generate different numbers of tokens."""
    import torch

    module, calls = torch.nn.Linear(1, 1), []
    first = module.register_forward_pre_hook(lambda *_: calls.append("step"))
    module.register_forward_pre_hook(lambda *_: calls.append("other"))
    offload = SimpleNamespace(module=module, fwd_pre_hook=first)
    engine = SimpleNamespace(optimizer=SimpleNamespace(parameter_offload=offload))
    with compat.outside_steps_of_zero3(engine):
        module(torch.ones(1))
    assert calls == ["other"]
    module(torch.ones(1))
    assert sorted(calls) == ["other", "other", "step"]
    with compat.outside_steps_of_zero3(module):  # not a DeepSpeed engine
        module(torch.ones(1))
    assert sorted(calls) == ["other", "other", "other", "step", "step"]
