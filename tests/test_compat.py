"""Changes of other people's code hold within their block and are taken back after it."""

from __future__ import annotations

import gc

import pytest

from jigsaw.compat import UNUSED_BY_TRAINING, quick_imports


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
