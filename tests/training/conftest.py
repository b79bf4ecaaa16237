"""Makes `made_rows` and `made_media` importable for the tests of training, and fixtures of rows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "tasks")]

from made_rows import ROWS


@pytest.fixture(params=sorted(ROWS))
def rows(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Rows of one kind of medium, and of several."""
    found: list[dict[str, Any]] = ROWS[request.param]
    return found


@pytest.fixture(scope="session")
def neo_checkpoint(puzzles, tmp_path_factory):
    """A tiny NEO from random weights."""
    from jigsaw.models.tiny import TinySizes, write_tiny

    sizes = TinySizes(hidden_size=64, num_layers=2, vision_hidden_size=64, initializer_range=0.1)
    folder = tmp_path_factory.mktemp("neo") / "tiny"
    texts = [part["text"] for part in puzzles[0]["prompt"][0]["content"] if part["type"] == "text"]
    write_tiny("neo", sizes, [*texts, "2, 1, 4, 3", "system\nuser\nassistant\n"], folder)
    return str(folder)
