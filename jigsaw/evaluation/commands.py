"""The command that makes figures again, which stands beside them wherever they are written.

In: the options of a call. Out: those that differ from what they are where nobody gives them, as words of a command.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def option_words(given: Mapping[str, Any], usual: Mapping[str, Any]) -> list[str]:
    """`--name value` for each option that is not as usual; None is as if not given.

    >>> option_words({"seed": 0, "batch_size": 4, "limit": None}, {"seed": 0, "batch_size": 16})
    ['--batch-size', '4']
    """
    words = []
    for name, value in given.items():
        if value is not None and value != usual.get(name):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return words
