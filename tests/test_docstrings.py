"""The doctests of `jigsaw/`; pytest collects those of `tasks/` and `rewards/` itself."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(file for file in (ROOT / "jigsaw").rglob("*.py") if "    >>> " in file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_the_doctests_of_a_file_pass(file):
    name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted
    assert not results.failed
