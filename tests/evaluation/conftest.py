"""Fixtures of the tests of evaluations: a small puzzle set and the folder of a run on it."""

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "report")]

from run_folders import puzzle_set, run

__all__ = ["puzzle_set", "run"]
