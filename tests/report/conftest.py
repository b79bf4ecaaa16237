"""Fixtures of the tests of reports: a small puzzle set and the folder of a run on it."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))  # pytest does not add the folder of a test to the import path

from run_folders import puzzle_set, run

__all__ = ["puzzle_set", "run"]
