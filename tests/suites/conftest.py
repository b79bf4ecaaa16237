"""Fixture of the tests of suites: small benchmarks on disk."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # pytest does not add the folder of a test to the import path

from small_benchmarks import hub_benchmarks, own_benchmarks


@pytest.fixture(scope="session")
def data_root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("benchmarks")
    own_benchmarks(root)
    hub_benchmarks(root)
    return root
