"""Changes of other people's code hold within their block and are taken back after it."""

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


def test_transformers_sees_neither_scikit_learn_nor_scipy_within_the_block_alone():
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


def test_a_hidden_module_is_as_if_not_installed_within_the_block_alone():
    with pytest.raises(ZeroDivisionError), hidden("this"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("this")
        _ = 1 / 0
    assert importlib.util.find_spec("this") is not None


def test_a_module_that_was_imported_before_is_not_hidden():
    with hidden("gc"):
        assert importlib.import_module("gc") is gc


def test_opening_puzzles_does_not_import_scipy(puzzle_folder):
    """datasets would, for MATLAB files that nobody streams here: a second of every command that opens a set."""
    code = "import sys, jigsaw.data; jigsaw.data.load_puzzles(sys.argv[1]); assert 'scipy.io' not in sys.modules"
    subprocess.run([sys.executable, "-P", "-c", code, str(puzzle_folder)], check=True, timeout=120)


def test_importing_the_package_changes_no_other_code():
    code = """
import transformers
before = transformers.AutoConfig.from_pretrained
import jigsaw.compat, jigsaw.models, jigsaw.models.neo
assert transformers.AutoConfig.from_pretrained == before and "NEOChatModel" not in vars(transformers)
"""
    subprocess.run([sys.executable, "-P", "-c", code], check=True, timeout=120)


def test_every_change_says_which_version_it_is_of_and_what_lets_it_go():
    changes = [value for name, value in vars(compat).items() if getattr(value, "__module__", "") == compat.__name__]
    assert len(changes) > 4
    for change in changes:
        assert re.search(r"\(?\d+\.\d+\)?", change.__doc__), change.__name__
        assert re.search(r"[Rr]emove this( part)? once", " ".join(change.__doc__.split())), change.__name__


def test_a_forward_pass_outside_of_steps_calls_no_hook_that_begins_one():
    """DeepSpeed's hook is a collective operation: it must not run where processes generate unlike numbers of tokens."""
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
    with compat.outside_steps_of_zero3(module):  # not DeepSpeed's
        module(torch.ones(1))
    assert sorted(calls) == ["other", "other", "other", "step", "step"]
