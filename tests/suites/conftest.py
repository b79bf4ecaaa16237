"""Small benchmarks on disk, and an engine that says what it is told."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # pytest imports test files without making their folder searchable

from made_benchmarks import hub_benchmarks, own_benchmarks


@pytest.fixture(scope="session")
def data_root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("benchmarks")
    own_benchmarks(root)
    hub_benchmarks(root)
    return root
