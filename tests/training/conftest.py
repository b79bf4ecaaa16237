"""Makes `synthetic_rows` and `synthetic_media` importable for the tests of training, and defines a fixture of rows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "tasks")]

from synthetic_rows import ROWS


@pytest.fixture(params=sorted(ROWS))
def rows(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Rows with images, with clips, and with both."""
    selected: list[dict[str, Any]] = ROWS[request.param]
    return selected
