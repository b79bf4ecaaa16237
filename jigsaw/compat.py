"""Changes of other people's code, each a named function: why it is needed, and what would let it go."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

UNUSED_BY_TRAINING = ("is_sklearn_available", "is_scipy_available")
"""By which transformers asks whether these packages are installed."""


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import transformers and TRL in the block without scikit-learn and scipy, which take a quarter of the time.

    transformers imports scikit-learn for assisted generation and scipy for losses of object detection, wherever they
    are installed; neither is used here. Both can be imported as usual after the block. What imports leave behind is
    never garbage, so none is looked for in the block or among it later. It can go once transformers (5.17) imports them
    where they are used.
    """
    from transformers import utils
    from transformers.utils import import_utils

    before = {name: getattr(import_utils, name) for name in UNUSED_BY_TRAINING}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for name in before:
            for module in (utils, import_utils):
                setattr(module, name, lambda: False)
        yield
    finally:
        for name, value in before.items():
            for module in (utils, import_utils):
                setattr(module, name, value)
        gc.freeze()
        if collecting:
            gc.enable()


@contextmanager
def hidden(module: str) -> Iterator[None]:
    """Let a module that was not imported yet look as if it were not installed, in the block.

    datasets imports scipy.io (a second of processor time) whenever it opens a file, to be able to stream MATLAB files;
    it does without where there is none. It can go once datasets (5.2) patches only what a format's reader uses.
    """
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # Python's own way to say that there is none
    try:
        yield
    finally:
        del sys.modules[module]
