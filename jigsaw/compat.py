"""Changes of other people's code, each a named function: why it is needed, and what would let it go."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

UNUSED_BY_TRAINING = ("is_sklearn_available", "is_scipy_available")
"""By which transformers asks whether these packages are installed."""


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import transformers and TRL in the block without scikit-learn and scipy, which take a quarter of the time.

    transformers imports scikit-learn for assisted generation and scipy for losses of object detection, wherever they
    are installed; neither is used here. Both can be imported as usual after the block. Garbage is collected after it
    too: what imports leave behind is not garbage. It can go once transformers (5.17) imports them where they are used.
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
        if collecting:
            gc.enable()
