"""Examples in docstrings of the framework show what they say; pytest itself runs those of tasks/ and rewards/."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHOWING = sorted(file for file in (ROOT / "jigsaw").rglob("*.py") if "    >>> " in file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", SHOWING, ids=lambda file: str(file.relative_to(ROOT)))
def test_an_example_gives_what_it_shows(file):
    name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed
