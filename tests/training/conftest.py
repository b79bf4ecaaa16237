"""Makes `made_rows` and `synthetic_media` importable for the tests of training, and fixtures of rows."""

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
